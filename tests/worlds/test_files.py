"""The cache on disk returns equal values, and computes again what is damaged."""

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


class Compute:
    """Counts its calls; returns a value that depends on the count, unless one is given."""

    def __init__(self, result: Any = None) -> None:
        self.calls, self.result = 0, result

    def __call__(self) -> Any:
        self.calls += 1
        return {"of": [self.calls, "é"]} if self.result is None else self.result


def test_a_value_is_computed_once() -> None:
    compute = Compute()
    first = disk_cache("things", [1, "a"], compute)
    assert disk_cache("things", [1, "a"], compute) == first == {"of": [1, "é"]}
    assert compute.calls == 1


@pytest.mark.parametrize("other", [("things", [2, "a"]), ("others", [1, "a"])])
def test_other_keys_and_folders_have_other_values(other: tuple[str, Any]) -> None:
    compute = Compute()
    disk_cache("things", [1, "a"], compute)
    disk_cache(*other, compute)
    assert compute.calls == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other", "list"])
def test_a_damaged_value_is_computed_again(damage: str, cache: Path) -> None:
    compute = Compute()
    disk_cache("things", 1, compute)
    (path,) = cache.glob("things/*.json")
    whole = path.read_text()
    content = json.loads(whole)
    broken = {
        "cut": whole[:-20],
        "changed": whole.replace('"of": [\n   1', '"of": [\n   7'),
        "empty": "",
        "other": json.dumps({**content, "of": "2"}),
        "list": "[]",
    }[damage]
    assert broken != whole
    path.write_text(broken)
    assert disk_cache("things", 1, compute) == {"of": [2, "é"]}
    assert disk_cache("things", 1, compute) == {"of": [2, "é"]}
    assert compute.calls == 2


def test_without_a_writable_cache_a_value_is_computed_each_time(cache: Path) -> None:
    cache.write_text("a file where the folder would be")
    compute = Compute([3])
    assert [disk_cache("things", 1, compute) for _ in range(2)] == [[3], [3]]
    assert compute.calls == 2


# --- JSON -----------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite_raise_an_error() -> None:
    """NaN is not JSON: other programs could not read the file."""
    assert as_json({"a": [1, "é"]}).endswith(b"\n")
    assert json.loads(as_json({"a": [1, "é"]})) == {"a": [1, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({"a": float("nan")})
