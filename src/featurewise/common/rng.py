"""Random generators from a seed and a path: the only way in which seeds are mixed here.

A stream is named by what its numbers are for, as in ``seeded_rng(seed, "noise", index)``, so that
two uses of one seed never share numbers, and the numbers of a batch depend on its index alone.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def seeded_rng(seed: int, *path: int | str) -> torch.Generator:
    """A generator whose state depends on ``seed`` and on every part of ``path``, in order.

    Args:
        seed: of a run or a source, 0 or more.
        path: what the random numbers are for, as in ``("noise", index)``; numbers are 0 or more.
            Streams of different seeds or paths are statistically independent.

    Raises:
        ValueError: a number is negative.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *path))


def derive_seed(seed: int, *path: int | str) -> int:
    """A seed below 2**63 that depends on ``seed`` and on every part of ``path``; see `seeded_rng`.

    The method is NumPy's ``SeedSequence`` with the path as its spawn key; a name in the path is a
    number, the first 8 bytes of its SHA-256.

    Raises:
        ValueError: a number is negative.
    """
    numbers = [each if isinstance(each, int) else _number(each) for each in path]
    if min(seed, *numbers, 0) < 0:
        raise ValueError(f"seed and path must be 0 or more, got {seed} and {path}")
    state = np.random.SeedSequence(seed, spawn_key=numbers).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
