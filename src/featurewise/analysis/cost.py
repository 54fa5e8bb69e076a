"""What conditioning costs as its input grows: operations, counted, and their exponent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from featurewise.core import ShapeError

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
"""Lengths of sequences, where nobody asks for others."""


def operations(run: Callable[[int], object], lengths: Sequence[int]) -> list[int]:
    """Operations of the matrix products and convolutions that ``run(length)`` computes.

    It runs on the meta device: nothing is computed, nothing is stored, the counts repeat exactly.
    Operations element by element are not counted.

    Args:
        run: makes its tensors and modules itself, by their default device.
        lengths: of whatever grows.
    """
    counts = []
    for length in lengths:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(length)
        counts.append(int(counter.get_total_flops()))
    return counts


def exponent(lengths: Sequence[int], costs: Sequence[int | float]) -> float:
    """The p of ``cost ~ length ** p``: slope of the line of least squares through logarithms.

    Raises:
        ShapeError: fewer than two different lengths, or not one positive cost for each.
    """
    if len(set(lengths)) < 2 or len(lengths) != len(costs) or min(*lengths, *costs) <= 0:
        raise ShapeError(
            f"an exponent needs two lengths and a positive cost for each, got {list(lengths)} "
            f"and {list(costs)}"
        )
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (lengths, costs))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())
