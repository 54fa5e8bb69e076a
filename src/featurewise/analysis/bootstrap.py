"""Intervals of means by resampling, where samples come in groups."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng


def clustered_bootstrap(
    values: Float[Tensor, " N"],
    groups: Int64[Tensor, " N"],
    *,
    repeats: int = 2_000,
    coverage: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of a mean: whole groups are sampled with replacement, percentiles are taken.

    Args:
        values: of the samples; of two networks, the difference of what both get for a sample.
        groups: number of the group of each sample, such as its image.
        repeats: number of resamplings.
        coverage: share of them that lies in the interval.
        seed: of the resampling.

    Raises:
        ValueError: there are no values, not as many groups as values, or a value is not finite;
            ``coverage`` is not between 0 and 1, or ``repeats`` below 1.

    Source:
        Efron 1979, *Bootstrap methods*, applied to groups.
    """
    if values.ndim != 1 or values.shape != groups.shape or not len(values):
        raise ValueError(
            f"values and groups must be two vectors of one length, at least 1, got "
            f"{tuple(values.shape)} and {tuple(groups.shape)}"
        )
    if not values.isfinite().all():
        raise ValueError("values must be finite")
    if not 0 < coverage < 1 or repeats < 1:
        raise ValueError(
            f"coverage must lie between 0 and 1 and repeats be at least 1, got {coverage} and "
            f"{repeats}"
        )
    _, index = torch.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, index, values.double())
    sizes = torch.bincount(index, minlength=count).double()
    chosen = torch.randint(count, (repeats, count), generator=seeded_rng(seed, "bootstrap"))
    means = sums[chosen].sum(1) / sizes[chosen].sum(1)
    tail = (1 - coverage) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
