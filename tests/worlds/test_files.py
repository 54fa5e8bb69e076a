"""What was found once is kept, read back the same, found anew when damaged or asked differently.

Locks keep other processes out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds.files import alone, as_json, remembered


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Finder:
    """Counts how often it is asked."""

    def __init__(self, found: Any = None) -> None:
        self.times, self.found = 0, found

    def __call__(self) -> Any:
        self.times += 1
        return {"of": [self.times, "é"]} if self.found is None else self.found


def test_it_is_found_once() -> None:
    find = Finder()
    first = remembered("things", [1, "a"], find)
    assert remembered("things", [1, "a"], find) == first == {"of": [1, "é"]}
    assert find.times == 1


@pytest.mark.parametrize("other", [("things", [2, "a"]), ("others", [1, "a"])])
def test_other_questions_are_kept_apart(other: tuple[str, Any]) -> None:
    find = Finder()
    remembered("things", [1, "a"], find)
    remembered(*other, find)
    assert find.times == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other", "list"])
def test_what_is_damaged_is_found_anew(damage: str, cache: Path) -> None:
    find = Finder()
    remembered("things", 1, find)
    (place,) = cache.glob("things/*.json")
    whole = place.read_text()
    content = json.loads(whole)
    broken = {
        "cut": whole[:-20],
        "changed": whole.replace('"of": [\n   1', '"of": [\n   7'),
        "empty": "",
        "other": json.dumps({**content, "of": "2"}),
        "list": "[]",
    }[damage]
    assert broken != whole
    place.write_text(broken)
    assert remembered("things", 1, find) == {"of": [2, "é"]}
    assert remembered("things", 1, find) == {"of": [2, "é"]}
    assert find.times == 2


def test_without_a_cache_it_is_found_each_time(cache: Path) -> None:
    cache.write_text("a file where the folder would be")
    find = Finder([3])
    assert [remembered("things", 1, find) for _ in range(2)] == [[3], [3]]
    assert find.times == 2


# --- what is kept is JSON -------------------------------------------------------------------------


def test_json_holds_numbers_alone() -> None:
    """NaN is not JSON: other programs would refuse the file."""
    assert as_json({"a": [1, "é"]}).endswith(b"\n")
    assert json.loads(as_json({"a": [1, "é"]})) == {"a": [1, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"a": float("nan")})


# --- locks ----------------------------------------------------------------------------------------

TRIES = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("waits")
    else:
        print("enters")
"""
HOLDS = """
import fcntl, pathlib, sys, time
with open(sys.argv[1], "w") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("holds", flush=True)
    time.sleep(0.3)
    pathlib.Path(sys.argv[2]).touch()
"""


def other(script: str, *words: Path) -> subprocess.Popen[str]:
    """A process of its own, which knows the system's locks and nothing of this library."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True
    )


def test_nobody_else_enters_until_we_leave(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    lock, said = tmp_path / "lock", []
    with alone(lock):
        said.append(other(TRIES, lock).communicate()[0].strip())
    said.append(other(TRIES, lock).communicate()[0].strip())
    assert said == ["waits", "enters"]


def test_we_wait_until_the_other_has_left(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    lock, left = tmp_path / "lock", tmp_path / "left"
    with other(HOLDS, lock, left) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holds\n"
        with alone(lock):
            assert left.exists()
