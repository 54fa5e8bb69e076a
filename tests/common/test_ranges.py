"""Settings in dataclasses: values of another type or range are refused, with the field named."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest

from featurewise.common.ranges import (
    Decay,
    Fraction,
    Length,
    Natural,
    Positive,
    Range,
    Real,
    require_settings,
)

# Without shape checks, which would refuse values of another type before the check under test.
pytestmark = pytest.mark.traced


@dataclass(frozen=True)
class Part:
    size: int = 1
    kind: Literal["A", "B"] | None = None


@dataclass(frozen=True)
class Toy:
    count: int = 3
    none_or_more: Natural = 0
    rate: float = 0.1
    learning_rate: float = 0.1
    weight: float = 0.0
    bias: Real = -1.0
    scale: Positive = 1.0
    dropout: Fraction = 0.5
    decay: Decay = 0.9
    even: Annotated[int, Range(2, 8, multiple=2)] = 2
    share: Annotated[float, Range(0, 1, above=True)] = 1.0
    on: bool = True
    name: str = "a"
    note: Annotated[str, Length(0)] = ""
    curve: Literal["cosine", "linear"] = "cosine"
    widths: tuple[int, ...] = (8, 16)
    names: Annotated[tuple[str, ...], Length(0)] = ()
    pair: tuple[int, str] = (1, "x")
    limited: Natural | None = None
    parts: tuple[Part, ...] = (Part(),)
    part: Part | None = None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("count", 0, "count must be 1 or more, got 0"),
        ("count", 2.0, "count must be an integer, got 2.0"),
        ("count", True, "count must be an integer, got True"),
        ("count", None, "count must be an integer, got None"),
        ("count", 2**62 + 1, "count must be at most 2**62 and at least -2**62"),
        ("none_or_more", -1, "none_or_more must be 0 or more, got -1"),
        ("rate", 0.0, "rate must be above 0, got 0.0"),
        ("learning_rate", 0, "learning_rate must be above 0, got 0"),
        ("learning_rate", math.nan, "learning_rate must be a finite number, got nan"),
        ("learning_rate", math.inf, "learning_rate must be a finite number, got inf"),
        ("learning_rate", "1", "learning_rate must be a number, got '1'"),
        ("weight", -0.5, "weight must be 0 or more, got -0.5"),
        ("weight", 10**400, "weight must be at most 2**62 and at least -2**62"),
        ("bias", -math.inf, "bias must be a finite number, got -inf"),
        ("scale", 0.0, "scale must be above 0, got 0.0"),
        ("dropout", 1.5, "dropout must be 0 to 1, got 1.5"),
        ("dropout", -0.1, "dropout must be 0 to 1, got -0.1"),
        ("decay", 1.0, "decay must be 0 or more and below 1, got 1.0"),
        ("even", 3, "even must be 2 to 8, a multiple of 2, got 3"),
        ("even", 10, "even must be 2 to 8, a multiple of 2, got 10"),
        ("share", 0.0, "share must be above 0 and at most 1, got 0.0"),
        ("on", 1, "on must be true or false, got 1"),
        ("name", 3, "name must be a text, got 3"),
        ("name", "", "name must have at least one letter, got ''"),
        ("names", ("a", ""), "names[1] must have at least one letter, got ''"),
        ("name", "a" * 10_001, "name must have 10000 letters or fewer, got 10001"),
        ("curve", "liner", "curve must be 'cosine' or 'linear', got 'liner'"),
        ("curve", None, "curve must be 'cosine' or 'linear', got None"),
        ("widths", (), "widths must have 1 or more values, got 0"),
        ("widths", (8, 0), "widths[1] must be 1 or more, got 0"),
        ("widths", [8], "widths must be several values, got [8]"),
        ("widths", 8, "widths must be several values, got 8"),
        ("names", ("a", 1), "names[1] must be a text, got 1"),
        ("pair", (1,), "pair must have 2 values, got 1"),
        ("pair", (0, "x"), "pair[0] must be 1 or more, got 0"),
        ("limited", -1, "limited must be 0 or more (or None), got -1"),
        ("parts", (Part(), Part(size=0)), "parts[1].size must be 1 or more, got 0"),
        ("parts", (Part(kind="C"),), "parts[0].kind must be 'A' or 'B' (or None), got 'C'"),
        ("part", Part(size=-1), "part.size must be 1 or more (or None), got -1"),
        ("part", 3, "part must be Part (or None), got 3"),
    ],
)
def test_what_a_type_does_not_allow_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(KeyError) as error:
        require_settings(replace(Toy(), **{field: value}), KeyError)
    assert error.value.args[0].startswith(message)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("none_or_more", 7),
        ("bias", 1e30),
        ("weight", 1e300),
        ("weight", 3),
        ("dropout", 0.0),
        ("dropout", 1.0),
        ("decay", 0.0),
        ("share", 1.0),
        ("even", 8),
        ("names", ("a",)),
        ("limited", 0),
        ("limited", None),
        ("part", Part(kind="B")),
    ],
)
def test_what_a_type_allows_is_taken(field: str, value: Any) -> None:
    require_settings(replace(Toy(), **{field: value}), KeyError)


def test_a_range_in_words() -> None:
    assert str(Range(1)) == "1 or more"
    assert str(Range(0, 1, above=True, below=True)) == "above 0 and below 1"
    assert str(Length(2, 2)) == "2 values"
    assert str(Length(1, 3)) == "1 to 3 values"
