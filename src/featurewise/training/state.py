"""Serialisation of nested states as JSON text and flat tensors, without pickle.

A state consists of dicts, lists, tuples, tensors, strings, numbers, booleans and None. Everything
but tensors becomes JSON. Values that JSON has no type for are tagged: ``{"$tensor": name}``,
``{"$tuple": [...]}``, ``{"$float": "nan"}``, and ``{"$items": [[key, value], ...]}`` for dicts with
keys that are not plain strings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from featurewise.common.json import loads
from featurewise.common.text import short
from featurewise.core.numbers import untied
from featurewise.training.errors import CheckpointError

State: TypeAlias = Mapping[str, Any]
"""Nested dicts, lists, tuples, tensors, str, int, float, bool and None."""


def flatten(state: State) -> tuple[str, dict[str, Tensor]]:
    """Splits a state into JSON text and contiguous CPU tensors.

    Raises:
        CheckpointError: a value has a type that cannot be stored; the message names its place.
    """
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, "", tensors)
    return json.dumps(tree, allow_nan=False, separators=(",", ":")), untied(tensors)


def unflatten(text: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of `flatten`: equal types, bits and strides.

    Raises:
        CheckpointError: the text is not a state.
    """
    state = _decode(loads(text, max_bytes=len(text)), tensors)
    if not isinstance(state, dict):
        raise CheckpointError(f"a state must be a dict, not a {type(state).__name__}")
    return state


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, Tensor):
        return _encode_tensor(value, where or "value", tensors)
    if isinstance(value, Mapping):
        return _encode_mapping(value, where, tensors)
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{where}.{i}", tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    raise CheckpointError(
        f"state{where}: a {type(value).__name__} cannot be stored; "
        "use dicts, lists, tuples, tensors, strings, numbers, booleans and None"
    )


def _encode_mapping(value: Mapping[Any, Any], where: str, tensors: dict[str, Tensor]) -> Any:
    items = [(key, _encode(item, f"{where}.{key}", tensors)) for key, item in value.items()]
    if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
        return dict(items)
    return {"$items": [[_encode(key, where, tensors), item] for key, item in items]}


def _encode_tensor(tensor: Tensor, where: str, tensors: dict[str, Tensor]) -> Any:
    # Strides are part of the state: a fused optimizer reads weights and moments in memory order,
    # so channels-last moments must be restored as channels-last.
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
    tensor = tensor.detach().resolve_conj().resolve_neg()
    permuted = tensor.permute(order)
    plain = order == list(range(tensor.ndim)) or not permuted.is_contiguous()
    name = where.lstrip(".")
    while name in tensors:  # two paths with one name: {"a.b": t, "a": {"b": t}}
        name += "'"
    tensors[name] = tensor if plain else permuted
    return {"$tensor": name} if plain else {"$tensor": name, "order": order}


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if tag.startswith("$") and tag not in _DECODERS:
        raise CheckpointError(f"unknown tag {short(tag)} in a state")
    if tag in _DECODERS:
        return _DECODERS[tag](value, tensors)
    return {key: _decode(item, tensors) for key, item in value.items()}


def _decode_tensor(value: dict[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    tensor = tensors[value["$tensor"]]
    order = value.get("order")
    return tensor if order is None else tensor.permute(torch.tensor(order).argsort().tolist())


_FLOATS = {str(value): value for value in (math.inf, -math.inf, math.nan)}
_DECODERS: dict[str, Callable[[dict[str, Any], Mapping[str, Tensor]], Any]] = {
    "$tensor": _decode_tensor,
    "$tuple": lambda value, tensors: tuple(_decode(value["$tuple"], tensors)),
    "$items": lambda value, tensors: {
        _decode(key, tensors): _decode(item, tensors) for key, item in value["$items"]
    },
    "$float": lambda value, tensors: _FLOATS[value["$float"]],
}
