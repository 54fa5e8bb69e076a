"""Operations on batches of any structure: move to a device, slice, map.

A batch is any nesting of mappings, sequences, named tuples and dataclasses of tensors. Axis 0 of
each tensor is the batch axis (for episodic training: the episodes). A batch contains all random
numbers of its training step, such as data and noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on `device`."""
    return tree_map(lambda tensor: tensor.to(device, non_blocking=True), batch)


def rows(batch: Any, start: int, stop: int) -> Any:
    """The samples `start` to `stop` of a batch, `stop` excluded.

    A batch whose tensors do not all have the same batch axis defines its own method
    ``rows(start, stop)``.
    """
    if hasattr(batch, "rows"):
        return batch.rows(start, stop)
    return tree_map(lambda tensor: tensor[start:stop], batch)


def tree_map(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """The batch with every tensor replaced by ``change(tensor)``; other leaves stay."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: tree_map(change, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(tree_map(change, value) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(tree_map(change, value) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        names = [field.name for field in dataclasses.fields(batch)]
        return dataclasses.replace(
            batch, **{name: tree_map(change, getattr(batch, name)) for name in names}
        )
    return batch


def batch_size(batch: Any) -> int:
    """The number of samples in a batch: the length of its first tensor.

    Raises:
        ValueError: the batch contains no tensor.
    """
    found: list[int] = []
    tree_map(lambda tensor: found.append(len(tensor)) or tensor, batch)  # type: ignore[func-returns-value]
    if not found:
        raise ValueError(f"a {type(batch).__name__} without tensors has no batch size")
    return found[0]
