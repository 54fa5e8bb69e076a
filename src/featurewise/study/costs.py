"""What a trial costs: floating-point operations, memory, and the course of its training loss."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from featurewise.training.batch import to_device
from featurewise.training.errors import ExperimentError
from featurewise.training.metrics import read_metrics
from featurewise.training.randomness import isolated
from featurewise.training.source import Source
from featurewise.training.steppers import Stepper

POINTS = 50
"""So many points of a training curve are kept, at most."""

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def count_flops(stepper: Stepper, source: Source[Any]) -> int | None:
    """Floating-point operations of one forward pass of all networks over a training batch.

    Matrix products, convolutions and attention are counted, an addition and a multiplication as
    two; None where a network cannot be counted, as one that is solved for without matrices.
    Nothing of the networks or of the random state changes.

    Args:
        stepper: whose networks are run, as copies in eval mode.
        source: of the batch, its first.
    """
    total = 0
    with isolated(), torch.no_grad():
        batch = source.batch(0)
        for network in stepper.networks.values():
            device = next((p.device for p in network.parameters()), torch.device("cpu"))
            counter = FlopCounterMode(display=False)
            with suppress(RuntimeError, TypeError, ValueError, AttributeError), counter:
                # The counter follows what needs gradients, which nothing does here.
                deepcopy(network).eval().requires_grad_(False)(to_device(batch, device))
            total += counter.get_total_flops()
    return total or None


def reset_peak_memory() -> None:
    """Forgets the peak so far, so that `peak_memory` is of what follows."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with suppress(OSError):  # in some containers it is not to be written
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """Largest memory since `reset_peak_memory` in bytes; None where nothing tells.

    Allocated on the GPU where there is one; else the resident memory of this process, on Linux.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform != "linux":
        return None
    found = _PEAK.search(Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else None


def thin_curve(path: Path) -> tuple[tuple[int, float], ...]:
    """Step and training loss as they were logged, at most `POINTS` of them, the last included.

    Args:
        path: of the log of metrics; empty where there is none, or no loss in it.
    """
    try:
        records = read_metrics(path)
    except ExperimentError:
        return ()
    points = [
        (int(each["step"]), float(each["loss"]))
        for each in records
        if each["kind"] == "train" and "loss" in each
    ]
    stride = max(1, -(-len(points) // POINTS))
    return tuple(points[::-1][::stride][::-1])
