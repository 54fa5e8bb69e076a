"""Settings in dataclasses: a field's type says which values it may have, and one check holds it.

    condition_dropout: Fraction = 0.15
    hidden_layers: Natural = 3
    curve: Literal["cosine", "linear"] = "cosine"
    widths: tuple[int, ...] = (8, 16)

Without more, an integer is at least 1, any other number finite and at least 0 (above 0 where the
name of the field ends with "rate"), and a text or tuple is not empty. Other ranges stand in the
type: ``Annotated[int, Range(1, 9)]``, ``Annotated[tuple[str, ...], Length(0)]``.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeAlias

from featurewise.common.text import short

MOST: Final = 1 << 62
"""Largest integer of a setting."""
LONGEST: Final = 10_000
"""Largest length of a text or tuple."""


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from ``least`` to ``most``.

    Attributes:
        least: smallest number.
        most: largest number.
        above: whether ``least`` itself is excluded.
        below: whether ``most`` itself is excluded.
        multiple: of which the numbers are; default: of none.
    """

    least: int | float = -math.inf
    most: int | float = math.inf
    above: bool = False
    below: bool = False
    multiple: int | None = None

    def __contains__(self, number: int | float) -> bool:
        if self.multiple is not None and number % self.multiple:
            return False
        low = self.least < number if self.above else self.least <= number
        return low and (number < self.most if self.below else number <= self.most)

    def __str__(self) -> str:
        of = "" if self.multiple is None else f", a multiple of {self.multiple}"
        return f"{self._limits()}{of}"

    def _limits(self) -> str:
        low = f"above {self.least:g}" if self.above else f"{self.least:g} or more"
        if self.most == math.inf:
            return low
        if not (self.above or self.below):
            return f"{self.least:g} to {self.most:g}"
        return f"{low} and {f'below {self.most:g}' if self.below else f'at most {self.most:g}'}"


@dataclass(frozen=True, slots=True)
class Length:
    """How many values a tuple may have, or letters a text.

    Attributes:
        least: smallest number of values.
        most: largest number of values.
    """

    least: int
    most: int = LONGEST

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least} values"
        if self.most == LONGEST:
            return f"{self.least} or more values"
        return f"{self.least} to {self.most} values"


Natural: TypeAlias = Annotated[int, Range(0)]
Real: TypeAlias = Annotated[float, Range()]
Positive: TypeAlias = Annotated[float, Range(0, above=True)]
Fraction: TypeAlias = Annotated[float, Range(0, 1)]
"""A probability or a share."""
Decay: TypeAlias = Annotated[float, Range(0, 1, below=True)]
"""Of a moving average: at 1 it would keep its first value."""


def require_settings(settings: Any, error: Callable[[str], Exception]) -> None:
    """Raise unless every field of a dataclass has a value of its type and range.

    Args:
        settings: the dataclass; fields that are dataclasses are checked, too.
        error: message -> exception; the message begins with the name of the field.

    Raises:
        Exception: the result of ``error`` for the first such field.
    """
    values = {name: getattr(settings, name) for name in hints(settings.__class__)}
    require_values(settings.__class__, values, error)


def require_values(kind: Any, values: Mapping[str, Any], error: Callable[[str], Exception]) -> None:
    """As `require_settings`, of values by field, from which a dataclass is still to be made.

    Args:
        kind: the dataclass.
        values: of all fields, or of some.
        error: see `require_settings`.

    Raises:
        Exception: see `require_settings`.
    """
    kinds = hints(kind)
    for name, value in values.items():
        if found := _problem(kinds[name], value, name):
            raise error(str(found))


@cache
def hints(kind: Any) -> Mapping[str, Any]:
    """Field -> type of a dataclass, with the ranges that are written in it."""
    found = typing.get_type_hints(kind, include_extras=True)
    return {each.name: found[each.name] for each in dataclasses.fields(kind)}


def members(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type, the type alone."""
    united = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return typing.get_args(kind) if united else (kind,)


@dataclass(frozen=True, slots=True)
class _Problem:
    """A value that a field may not have.

    Attributes:
        where: what the value is called.
        wanted: what would be right.
        found: what is there.
    """

    where: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.where} must {self.wanted}, got {self.found}"


def _fields(settings: Any, where: str) -> _Problem | None:
    """The first problem in a dataclass within another."""
    for name, kind in hints(settings.__class__).items():
        if found := _problem(kind, getattr(settings, name), f"{where}.{name}"):
            return found
    return None


def _problem(
    kind: Any, value: Any, where: str, stated: Range | Length | None = None
) -> _Problem | None:
    """The first problem of a value.

    Args:
        kind: its type.
        value: to be checked.
        where: what it is called.
        stated: range of a number, or length of a tuple or text; default: the usual one.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        marks = [each for each in kind.__metadata__ if isinstance(each, Range | Length)]
        return _problem(arguments[0], value, where, marks[0] if marks else stated)
    if len(kinds := members(kind)) > 1:
        return _union(kinds, value, where, stated)
    if origin is Literal:
        known = any(type(each) is type(value) and each == value for each in arguments)
        names = _listed([repr(each) for each in arguments])
        return None if known else _Problem(where, f"be {names}", short(value))
    if origin is tuple:
        return _tuple(arguments, value, where, stated)
    if kind in (int, float):
        return _number(kind, value, where, stated)
    if isinstance(kind, type) and not isinstance(value, kind):
        return _Problem(where, f"be {_NAMES.get(kind, kind.__name__)}", short(value))
    if isinstance(value, str):
        return _text(value, where, stated)
    return _fields(value, where) if dataclasses.is_dataclass(kind) else None


def _text(value: str, where: str, stated: Range | Length | None) -> _Problem | None:
    least = stated.least if isinstance(stated, Length) else 1
    if len(value) < least:
        return _Problem(where, "have at least one letter", repr(value))
    if len(value) > LONGEST:
        return _Problem(where, f"have {LONGEST} letters or fewer", str(len(value)))
    return None


_NAMES: Final = {
    int: "an integer",
    float: "a number",
    str: "a text",
    bool: "true or false",
    types.NoneType: "None",
}


def _union(
    kinds: tuple[Any, ...], value: Any, where: str, stated: Range | Length | None
) -> _Problem | None:
    found = [_problem(kind, value, where, stated) for kind in kinds]
    first = found[0]
    if first is None or None in found:
        return None
    if types.NoneType in kinds:
        return dataclasses.replace(first, wanted=f"{first.wanted} (or None)")
    return first


def _tuple(
    kinds: tuple[Any, ...], value: Any, where: str, stated: Range | Length | None
) -> _Problem | None:
    if not isinstance(value, tuple):
        return _Problem(where, "be several values", short(value))
    if kinds[-1] is Ellipsis:
        length = stated if isinstance(stated, Length) else Length(1)
        kinds = kinds[:1] * len(value)
    else:
        length = Length(len(kinds), len(kinds))
    if not length.least <= len(value) <= length.most:
        return _Problem(where, f"have {length}", str(len(value)))
    for index, (kind, each) in enumerate(zip(kinds, value, strict=True)):
        if found := _problem(kind, each, f"{where}[{index}]"):
            return found
    return None


def _number(
    kind: type[int] | type[float], value: Any, where: str, stated: Range | Length | None
) -> _Problem | None:
    if not isinstance(value, int if kind is int else int | float) or isinstance(value, bool):
        return _Problem(where, f"be {_NAMES[kind]}", short(value))
    if isinstance(value, float) and not math.isfinite(value):
        return _Problem(where, "be a finite number", short(value))
    usual = Range(1) if kind is int else Range(0, above=where.endswith("rate"))
    allowed = stated if isinstance(stated, Range) else usual
    if value not in allowed:
        return _Problem(where, f"be {allowed}", short(value))
    if isinstance(value, int) and abs(value) > MOST:
        return _Problem(where, "be at most 2**62 and at least -2**62", short(value))
    return None


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if names[1:] else names[0]
