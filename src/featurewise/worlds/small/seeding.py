"""Random generators that depend on a seed and a path of numbers, and on nothing else."""

from __future__ import annotations

import numpy as np
import torch

from featurewise.worlds.small.errors import SmallWorldError


def seeded_rng(seed: int, *path: int) -> torch.Generator:
    """A generator whose state depends on ``seed`` and on every number of ``path``, in order.

    Args:
        seed: of a source, 0 or more.
        path: what the random numbers are for, as in ``(kind, index)``; 0 or more each. Streams of
            different seeds or paths are statistically independent.

    Raises:
        SmallWorldError: a number is negative.
    """
    if min(seed, *path, 0) < 0:
        raise SmallWorldError(f"seed and path must be 0 or more, got {seed} and {path}")
    state = np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def at_least_one(value: int, name: str) -> int:
    """``value``, if it is 1 or more.

    Raises:
        SmallWorldError: it is less; the message contains ``name``.
    """
    if value < 1:
        raise SmallWorldError(f"{name} must be 1 or more, got {value}")
    return value


def check_split(split: str) -> None:
    """Raises SmallWorldError unless ``split`` is "train" or "test"."""
    if split not in ("train", "test"):
        raise SmallWorldError(f"split must be 'train' or 'test', got {split!r}")
