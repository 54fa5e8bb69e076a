"""Seeding, saving and restoring of the global random generators of Python, NumPy and torch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from featurewise.training.state import State


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture() -> dict[str, Any]:
    """The state of the global generators of Python, NumPy, and torch on the CPU and each GPU."""
    version, internal, spare = random.getstate()
    kind, keys, position, has_spare, spare_normal = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "internal": torch.tensor(internal), "spare": spare},
        "numpy": {
            "kind": str(kind),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_spare": int(has_spare),
            "spare": float(spare_normal),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(state: State) -> None:
    """Restores the generators to a state that `capture` returned.

    GPUs that are absent now, or were absent then, are skipped.
    """
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["internal"].tolist()), python["spare"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(
        (numpy["kind"], keys, numpy["position"], numpy["has_spare"], numpy["spare"])
    )
    torch.set_rng_state(state["torch"])
    for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, device)


def check(state: State) -> None:
    """Raises the same error as `restore` if a state is invalid; changes no generator."""
    before = capture()
    try:
        restore(state)
    finally:
        restore(before)


@contextmanager
def isolated() -> Iterator[None]:
    """Restores all global generators on exit, so that evaluation does not affect training."""
    before = capture()
    try:
        yield
    finally:
        restore(before)
