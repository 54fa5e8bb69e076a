"""Cost of conditioning as a function of the input length: FLOPs and their exponent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from featurewise.core import ShapeError

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
"""Default sequence lengths."""


def operations(run: Callable[[int], object], lengths: Sequence[int]) -> list[int]:
    """FLOPs of the matrix products and convolutions in ``run(length)``.

    It runs on the meta device, without computing values, so the counts are deterministic.
    Element-wise operations are not counted.

    Args:
        run: creates its tensors and modules on the default device.
        lengths: input lengths.
    """
    counts = []
    for length in lengths:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(length)
        counts.append(int(counter.get_total_flops()))
    return counts


def exponent(lengths: Sequence[int], costs: Sequence[int | float]) -> float:
    """The p of ``cost ~ length ** p``: slope of a least-squares line through the logarithms.

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
