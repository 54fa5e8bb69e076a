"""Typed values from JSON."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from featurewise.common.text import short
from featurewise.training.errors import ExperimentError

_MOST = 1 << 62
_LONGEST = 10_000


def decoded(kind: Any, value: Any, where: str) -> Any:
    """A value of the given type from JSON: dataclasses, tuples, unions, literals, plain values.

    Args:
        kind: the type, as annotations say it.
        value: what JSON said.
        where: what the value is called in errors.

    Raises:
        ExperimentError: it is not of this type; the message names the place.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list) and len(value) <= _LONGEST:
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            pairs = zip(kinds, value, strict=True)
            return tuple(decoded(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
    if kind is float and type(value) is int and abs(value) <= _MOST:
        return float(value)
    if isinstance(kind, type) and type(value) is kind and _within(value):
        return value
    raise ExperimentError(f"{where} must be {getattr(kind, '__name__', kind)}, not {short(value)}")


def _within(value: Any) -> bool:
    """Whether a plain value lies in the range that settings have."""
    if isinstance(value, int | float):
        return -_MOST <= value <= _MOST  # which NaN and infinities do not
    return not isinstance(value, str | list | dict) or len(value) <= _LONGEST


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return decoded(kind, value, where)
        except ExperimentError as error:
            last = error
    raise last


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ExperimentError(f"{where} must be an object, not {short(value)}")
    value = {_current_name(kind, name): each for name, each in value.items()}
    hints = typing.get_type_hints(kind)
    names = {each.name for each in dataclasses.fields(kind)}
    if unknown := value.keys() - names:
        raise ExperimentError(
            f"{where}: {short(min(unknown))} is unknown to this version of featurewise"
        )
    known = {name: decoded(hints[name], each, f"{where}.{name}") for name, each in value.items()}
    try:
        return kind(**known)
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"{where}: {error}") from error


def _current_name(kind: Any, name: str) -> str:
    """The name of a field now, from that in a file of any version (see `Config.FORMER_NAMES`)."""
    for each in kind.__mro__:
        former: Mapping[str, str] = vars(each).get("FORMER_NAMES", {})
        if name in former:
            return former[name]
    return name
