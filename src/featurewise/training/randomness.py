"""Seeds, and the state of every random number generator that training may touch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from featurewise.training.state import State


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy's global generator, and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture() -> dict[str, Any]:
    """The state of the generators of Python, NumPy, torch on the CPU and on each GPU."""
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
    """Puts every generator back where `capture` found it.

    GPUs beyond those captured, or captured ones that are absent now, are left alone.
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
    """Raise whatever `restore` would, at a state that is none; no generator is changed."""
    before = capture()
    try:
        restore(state)
    finally:
        restore(before)


@contextmanager
def isolated() -> Iterator[None]:
    """What happens inside leaves every generator as it was: evaluation never steers training."""
    before = capture()
    try:
        yield
    finally:
        restore(before)
