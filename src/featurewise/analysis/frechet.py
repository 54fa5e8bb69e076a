"""Fréchet distance of two sets of features, each taken for a normal distribution.

Heusel et al. 2017, *GANs Trained by a Two Time-Scale Update Rule*, eq. 6. With the features of an
Inception network it is the FID; with those of another network its values are another scale.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet_distance(one: Float[Tensor, "N D"], other: Float[Tensor, "M D"]) -> float:
    """``|m - m'|² + Tr(C + C' - 2 (C C')^½)``, of means m and covariances C; in float64.

    Of few samples it is too large: compare only distances of equally many samples to the same set.

    Args:
        one: features of some samples, at least 2.
        other: of others, as wide.

    Raises:
        ValueError: fewer than 2 samples, or another width.
    """
    if min(len(one), len(other)) < 2 or one.shape[1] != other.shape[1]:
        raise ValueError(
            f"two sets of at least 2 samples of one width, got {tuple(one.shape)} and "
            f"{tuple(other.shape)}"
        )
    one, other = one.double(), other.double()
    first, second = torch.cov(one.T).reshape(one.shape[1], -1), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # Tr (C C')^½ is the sum of the roots of the eigenvalues of C^½ C' C^½.
    product = torch.linalg.eigvalsh(root @ second.reshape(first.shape) @ root)
    gap = (one.mean(0) - other.mean(0)).square().sum()
    found = gap + first.trace() + second.reshape(first.shape).trace()
    return max(0.0, float(found - 2 * product.clamp_min(0).sqrt().sum()))
