"""Patterns of dotted names."""

from __future__ import annotations

import re

import pytest
from jaxtyping import TypeCheckError

from featurewise.core import ArgumentTypeError, LayoutError
from featurewise.core.patterns import expression, matching

NAMES = ["stem", "layer1.0.bn1", "layer1.0.bn2", "layer1.1.bn1", "layer2.0.bn1", "layer2.0.x.bn1"]


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("stem", [0]),
        ("layer1.*.bn1", [1, 3]),
        ("layer*.0.bn*", [1, 2, 4]),
        ("layer2.**", [4, 5]),
        ("**.bn1", [1, 3, 4, 5]),
        ("layer2.**.bn1", [4, 5]),
        ("**", range(6)),
        ("*", [0]),
        (["layer2.0.bn1", "stem"], [0, 4]),
        (None, range(6)),
    ],
)
def test_matching(pattern: str, places: list[int]) -> None:
    assert matching(pattern, NAMES) == [NAMES[i] for i in places]


def test_double_star_at_the_end_also_matches_the_name_itself() -> None:
    assert re.fullmatch(expression("a.**"), "a")
    assert not re.fullmatch(expression("a.**"), "ab")
    assert not re.fullmatch(expression("a.b"), "axb")


def test_patterns_without_a_match_raise() -> None:
    with pytest.raises(LayoutError, match=r"'layer1.0.bn3'; near names: layer1.0.bn"):
        matching(["stem", "layer1.0.bn3"], NAMES)
    with pytest.raises(LayoutError, match="at least one pattern"):
        matching([], NAMES)
    with pytest.raises((ArgumentTypeError, TypeCheckError)):
        matching([3], NAMES)  # type: ignore[list-item]
