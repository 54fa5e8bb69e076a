"""Random draws that depend on a seed and a place, and on nothing else."""

from __future__ import annotations

import numpy as np
import torch

from featurewise.worlds.small.errors import SmallWorldError


def generator(seed: int, *path: int) -> torch.Generator:
    """A generator that depends on ``seed`` and on every number of ``path``, in order.

    Args:
        seed: of a source; not negative.
        path: of the draw, as in ``(kind, index)``; none negative. The seeds of two paths or of
            two seeds have nothing to do with each other.

    Raises:
        SmallWorldError: a number is negative.
    """
    if min(seed, *path, 0) < 0:
        raise SmallWorldError(f"seed and path start at 0, got {seed} and {path}")
    state = np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def at_least_one(value: int, name: str) -> int:
    """``value``, if it is at least 1.

    Raises:
        SmallWorldError: it is less.
    """
    if value < 1:
        raise SmallWorldError(f"{name} must be at least 1, got {value}")
    return value
