"""What was found once is kept, read back the same, and found again when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds.files import as_json, disk_cache


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
    first = disk_cache("things", [1, "a"], find)
    assert disk_cache("things", [1, "a"], find) == first == {"of": [1, "é"]}
    assert find.times == 1


@pytest.mark.parametrize("other", [("things", [2, "a"]), ("others", [1, "a"])])
def test_other_questions_are_kept_apart(other: tuple[str, Any]) -> None:
    find = Finder()
    disk_cache("things", [1, "a"], find)
    disk_cache(*other, find)
    assert find.times == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other", "list"])
def test_what_is_damaged_is_found_anew(damage: str, cache: Path) -> None:
    find = Finder()
    disk_cache("things", 1, find)
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
    assert disk_cache("things", 1, find) == {"of": [2, "é"]}
    assert disk_cache("things", 1, find) == {"of": [2, "é"]}
    assert find.times == 2


def test_without_a_cache_it_is_found_each_time(cache: Path) -> None:
    cache.write_text("a file where the folder would be")
    find = Finder([3])
    assert [disk_cache("things", 1, find) for _ in range(2)] == [[3], [3]]
    assert find.times == 2


# --- what is kept is JSON -------------------------------------------------------------------------


def test_json_holds_numbers_alone() -> None:
    """NaN is not JSON: other programs would refuse the file."""
    assert as_json({"a": [1, "é"]}).endswith(b"\n")
    assert json.loads(as_json({"a": [1, "é"]})) == {"a": [1, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"a": float("nan")})
