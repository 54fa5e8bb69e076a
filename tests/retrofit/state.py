"""A text description of all state of a network, to find what changed between two of them.

Written independently of what the library does to leave no traces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.dtype, torch.device)


def state(network: nn.Module) -> dict[str, Any]:
    """Path -> identity and value of everything below a network, and of its classes."""
    found = dict(_below("", network, set()))
    for kind in {type(module) for module in network.modules()}:
        if not kind.__module__.startswith("torch"):
            names = {n: v for n, v in vars(kind).items() if not n.startswith("__")}
            found.update(_below(f"class {kind.__name__}", names, set(), again=True))
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Paths that are new, gone or different."""
    return sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))


def _below(path: str, value: Any, seen: set[int], again: bool = False) -> Iterator[tuple[str, Any]]:
    if isinstance(value, PLAIN):
        yield path, (type(value), value)
        return
    yield path, None if again else (id(value), type(value))
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield f"{path}!", _bits(value)
    if isinstance(value, torch.Generator):
        yield f"{path}!", value.get_state().numpy().tobytes()
    if isinstance(value, dict):
        yield f"{path} keys", [id(k) if not isinstance(k, PLAIN) else k for k in value]
        for key, item in dict.items(value):
            yield from _below(f"{path}[{key!r:.40}]", item, seen)
    elif isinstance(value, (list, tuple, deque)):
        for i, item in enumerate(value):
            yield from _below(f"{path}[{i}]", item, seen)
    elif isinstance(value, (set, frozenset)):
        yield f"{path} elements", {v if isinstance(v, PLAIN) else id(v) for v in value}
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, type):
        for name, item in attributes.items():
            yield from _below(f"{path}.{name}", item, seen)
    for slot in getattr(type(value), "__slots__", ()):
        if hasattr(value, slot):
            yield from _below(f"{path}.{slot}", getattr(value, slot), seen)


def _bits(tensor: Tensor) -> tuple[Any, ...]:
    grad = None if not tensor.is_leaf or tensor.grad is None else id(tensor.grad)
    plain = type(tensor) in (Tensor, nn.Parameter)
    values = tensor.detach().clone().flatten().view(torch.uint8) if plain else None
    bits = None if values is None else values.numpy().tobytes()
    return tuple(tensor.shape), tensor.dtype, tensor.requires_grad, grad, bits
