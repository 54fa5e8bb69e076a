"""The cache of pools: its folder, what determines the pool's name, its progress bar."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featurewise.common.cache import cache_folder
from featurewise.worlds.clevr import PoolSource, Recipe, WorldError, cache
from featurewise.worlds.clevr.cache import cached_pool

TINY = Recipe(seed=5, width=12, height=8, samples=1, questions_per_image=2, max_objects=3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of the calls of ``build_pool``, which makes empty pools here."""
    calls: list[dict[str, Any]] = []

    def build(to: Path, recipe: Recipe, **options: Any) -> Path:
        calls.append({"folder": to, "recipe": recipe, **options})
        to.mkdir()
        (to / "pool.json").touch()
        return to

    monkeypatch.setattr(cache, "build_pool", build)
    return calls


def test_environment_variables_set_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("FEATUREWISE_CACHE", raising=False)
    assert cache_folder() == tmp_path / "home/.cache/featurewise"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/featurewise"
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("FEATUREWISE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / "home/.cache/featurewise"


def test_a_pool_is_made_once(folder: Path) -> None:
    made = cached_pool(TINY, 3, workers=0)
    assert made.parent == folder / "clevr"
    before = {path.name: (digest(path), path.stat().st_mtime_ns) for path in made.iterdir()}
    assert cached_pool(TINY, 3, workers=0) == made
    assert before == {p.name: (digest(p), p.stat().st_mtime_ns) for p in made.iterdir()}
    source = PoolSource(made, images_per_batch=3)
    assert source.batch(0).images.shape == (3, 3, 8, 12)
    assert len(source.batch(0).answers) == 6


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_pool_without_manifest_is_made_again(folder: Path) -> None:
    made = cached_pool(TINY, 3, workers=0)
    whole = {path.name: digest(path) for path in made.iterdir()}
    (made / "pool.json").unlink()
    with pytest.raises(WorldError, match=made.name):
        PoolSource(made)
    for path in made.iterdir():
        path.unlink()
    assert cached_pool(TINY, 3, workers=0) == made
    assert {path.name: digest(path) for path in made.iterdir()} == whole


def test_every_setting_of_the_content_changes_the_folder(
    folder: Path, builds: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [
        cached_pool(TINY, 3),
        cached_pool(TINY, 4),
        cached_pool(replace(TINY, seed=6), 3),
        cached_pool(replace(TINY, families=(84, 85)), 3),
        cached_pool(replace(TINY, samples=4), 3),
    ]
    monkeypatch.setattr(cache, "VOCABULARY", (*cache.VOCABULARY, "teapot"))
    pools.append(cached_pool(TINY, 3))
    monkeypatch.setattr(cache, "FORMAT_VERSION", cache.FORMAT_VERSION + 1)
    pools.append(cached_pool(TINY, 3))
    assert len(set(pools)) == len(pools) == len(builds)
    assert cached_pool(TINY, 3) == pools[-1]
    assert len(builds) == len(pools)


def test_the_number_of_workers_does_not_change_the_folder(
    folder: Path, builds: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.os, "cpu_count", lambda: 6)
    made = cached_pool(TINY, 3)
    assert cached_pool(TINY, 3, workers=1) == made
    assert [each["workers"] for each in builds] == [6]
    cached_pool(TINY, 4, workers=2)
    monkeypatch.setattr(cache.os, "cpu_count", lambda: None)
    cached_pool(TINY, 5)
    assert [each["workers"] for each in builds] == [6, 2, 1]


def test_progress_is_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[tuple[Any, float]] = []
    update = cache.Progress.update

    def noted(self: Any, task: Any, **values: Any) -> None:
        shown.append((values["completed"], self.tasks[0].total))
        update(self, task, **values)

    monkeypatch.setattr(cache.Progress, "update", noted)
    cached_pool(TINY, 3, workers=0)
    assert shown
    assert shown[-1] == (3, 3)
    printed = capsys.readouterr().err  # not on the standard output, which other programs read
    assert "rendering images 12x8" in printed
    assert "3/3" in printed
    cached_pool(TINY, 3, workers=0)
    assert capsys.readouterr().out == ""


# --- processes -----------------------------------------------------------------------------------

POOL = """
from featurewise.worlds.clevr import PoolSource, Recipe
from featurewise.worlds.clevr.cache import cached_pool
recipe = Recipe(seed=5, width=12, height=8, samples=1, questions_per_image=2, max_objects=3)
print(len(PoolSource(cached_pool(recipe, {images}, workers=2)).pool))
"""
STREAM = """
from featurewise.worlds.clevr import OnlineSource
from featurewise.worlds.clevr.data import stream
list(stream(OnlineSource(seed=5, width=12, height=8, images_per_batch=2), 0, 3, workers=1))
"""


def ran(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in another process, with a time limit."""
    return subprocess.run(
        [sys.executable, *words], input=given, capture_output=True, text=True, timeout=100
    )


def test_a_program_from_a_pipe_works(folder: Path) -> None:
    found = ran("-", given=POOL.format(images=251))
    assert found.stdout == "251\n", found.stderr


def test_a_script_without_a_main_guard_makes_a_small_pool(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(POOL.format(images=16))
    found = ran(str(script))
    assert found.stdout == "16\n", found.stderr


@pytest.mark.parametrize("text", [POOL.format(images=251), STREAM], ids=["pool", "stream"])
def test_a_script_without_a_main_guard_raises_an_error(
    folder: Path, tmp_path: Path, text: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    found = ran(str(script))
    assert found.returncode == 1 and found.stdout == ""
    last = found.stderr.strip().splitlines()[-1]
    assert "WorldError" in last and 'under if __name__ == "__main__"' in last
    assert found.stderr.count("featurewise: worker ended.") >= 1
