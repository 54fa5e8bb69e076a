"""Omniglot's small sets as one pool: no alphabet is both trained and tested on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.handwriting import TEST, TRAIN, omniglot_pool, omniglot_versions


def write(folder: Path, part: str, alphabets: dict[str, int]) -> None:
    """Characters with two images each."""
    for alphabet, characters in alphabets.items():
        for character in range(1, characters + 1):
            own = folder / part / alphabet / f"character{character:02}"
            own.mkdir(parents=True)
            for writer in (1, 2):
                pixels = np.full((105, 105), 255, dtype=np.uint8)
                pixels[10 * character : 10 * character + 5] = 0
                Image.fromarray(pixels).convert("1").save(own / f"{character:04}_{writer:02}.png")


@pytest.fixture
def both(tmp_path: Path) -> Path:
    write(tmp_path, TRAIN, {"Greek": 2, "Korean": 3})
    write(tmp_path, TEST, {"Greek": 2, "Tagalog": 2})
    return tmp_path


def test_shared_alphabets_are_trained_on_and_not_tested(both: Path) -> None:
    pool, split = omniglot_pool(both, 21)
    assert [pool.groups[i] for i in split.train] == ["Greek"] * 2 + ["Korean"] * 3
    assert [pool.names[i] for i in split.test] == ["Tagalog/character01", "Tagalog/character02"]
    assert split.validation == ()
    assert pool.count(0) == 2 and pool.image(0, 1).shape == (1, 21, 21)
    assert int(pool.image(0, 0).max()) > 100, "ink is bright"


def test_a_missing_set_is_named(both: Path) -> None:
    (both / TEST).rename(both / "elsewhere")
    with pytest.raises(GlyphError, match=f"lacks {TEST}: unpack {TRAIN}.zip and {TEST}.zip"):
        omniglot_pool(both, 22)


def test_versions_change_with_any_file(both: Path) -> None:
    before = omniglot_versions(both)
    assert before[f"Omniglot {TRAIN}"].startswith("10 files, SHA-256 ")
    next((both / TRAIN).rglob("*.png")).write_bytes(b"")
    after = omniglot_versions(both)
    assert [before[name] == after[name] for name in before] == [False, True]


def test_the_official_small_sets(shared_data: Callable[..., Path], tmp_path: Path) -> None:
    for part in (TRAIN, TEST):
        with zipfile.ZipFile(shared_data("real", "omniglot", f"{part}.zip")) as archive:
            archive.extractall(tmp_path)
    pool, split = omniglot_pool(tmp_path, 20)
    assert len(split.train) == 136 and len(split.test) == 106
    assert {pool.groups[i] for i in split.test} == {"Japanese_(katakana)", "Sanskrit", "Tagalog"}
    assert not {pool.groups[i] for i in split.train} & {pool.groups[i] for i in split.test}
