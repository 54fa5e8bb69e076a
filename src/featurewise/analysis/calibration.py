"""How far probabilities are from frequencies."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def calibration_error(
    confidence: Float[Tensor, "N"], right: Bool[Tensor, "N"], bins: int = 15
) -> float:
    """Expected calibration error: mean distance of confidence from accuracy.

    Guo et al. 2017, *On Calibration of Modern Neural Networks*, eq. 3: answers are sorted into bins
    of equal width by their probability; the distances of the bins' mean probability from their
    share of right answers are averaged, weighted by the number of answers.

    Args:
        confidence: probability of each given answer, 0 to 1.
        right: whether the answer is right.
        bins: number of bins.

    Returns:
        0 to 1; 0 for no answers.

    Raises:
        ValueError: fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f"{bins} bins; at least 1 is needed")
    index = (confidence.double() * bins).ceil().long().sub(1).clamp(0, bins - 1)
    difference = right.double() - confidence.double()
    sums = torch.zeros(bins, dtype=torch.float64).scatter_add_(0, index, difference)
    return float(sums.abs().sum() / max(len(right), 1))
