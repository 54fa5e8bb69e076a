"""Typed values from JSON."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any

from featurewise.common.ranges import MOST, hints, members, require_values
from featurewise.common.text import short
from featurewise.training.errors import ExperimentError


def decoded(kind: Any, value: Any, where: str) -> Any:
    """A value of the given type from JSON: objects as dataclasses, lists as tuples.

    Values are checked as they are in Python; see `featurewise.common.ranges`.

    Args:
        kind: the type, as annotations say it.
        value: what JSON said.
        where: what the value is called in errors.

    Raises:
        ExperimentError: a dataclass cannot be made of it; the message names the place.
    """
    if _annotated(kind):
        return decoded(typing.get_args(kind)[0], value, where)
    if len(kinds := members(kind)) > 1:
        return _of_union(kinds, value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        arguments = typing.get_args(kind)
        many = arguments[1:] == (...,) or len(arguments) != len(value)
        kinds = arguments[:1] * len(value) if many else arguments
        pairs = zip(kinds, value, strict=True)
        return tuple(decoded(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(pairs))
    if kind is float and type(value) is int and abs(value) <= MOST:
        return float(value)
    return value


def _of_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """`decoded`, as the first type of a union that is made of such a value in JSON."""
    if value is None:
        return None
    plain = [typing.get_args(each)[0] if _annotated(each) else each for each in kinds]
    chosen: list[Any]
    if isinstance(value, dict):
        chosen = [kind for kind in plain if dataclasses.is_dataclass(kind)]
    elif isinstance(value, list):
        chosen = [kind for kind in plain if typing.get_origin(kind) is tuple]
    else:
        chosen = [kind for kind in plain if kind is float]
    return decoded(chosen[0], value, where) if chosen else value


def _annotated(kind: Any) -> bool:
    return typing.get_origin(kind) is Annotated


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ExperimentError(f"{where} must be an object, not {short(value)}")
    value = {_current_name(kind, name): each for name, each in value.items()}
    kinds = hints(kind)
    if unknown := value.keys() - kinds.keys():
        raise ExperimentError(
            f"{where}: {short(min(unknown))} is unknown to this version of featurewise"
        )
    for each in dataclasses.fields(kind):
        default = each.default is not dataclasses.MISSING
        if not default and each.default_factory is dataclasses.MISSING and each.name not in value:
            raise ExperimentError(f"{where}: {each.name} is missing")
    known = {name: decoded(kinds[name], each, f"{where}.{name}") for name, each in value.items()}
    try:
        require_values(kind, known, ExperimentError)
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
