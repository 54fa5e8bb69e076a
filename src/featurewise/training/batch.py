"""Batches of any kind: moved to a device, cut into rows.

A batch is a record of tensors, nested as one likes: tensors, mappings, sequences, dataclasses.
Axis 0 of each tensor counts its rows (for episodes: the episodes). All randomness of a training
step, of the data and of the noise alike, is in its batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on `device`: tensors, mappings, sequences, dataclasses."""
    return tree_map(lambda tensor: tensor.to(device, non_blocking=True), batch)


def rows(batch: Any, start: int, stop: int) -> Any:
    """Rows `start` to `stop` of a batch.

    A batch whose tensors do not all have the same rows brings its own method ``rows(start, stop)``.
    """
    if hasattr(batch, "rows"):
        return batch.rows(start, stop)
    return tree_map(lambda tensor: tensor[start:stop], batch)


def tree_map(change: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """The batch with `change` done to every tensor in it."""
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
    """How many rows a batch has: those of its first tensor.

    Raises:
        ValueError: it holds no tensor.
    """
    found: list[int] = []
    tree_map(lambda tensor: found.append(len(tensor)) or tensor, batch)  # type: ignore[func-returns-value]
    if not found:
        raise ValueError(f"a {type(batch).__name__} without a tensor has no rows")
    return found[0]
