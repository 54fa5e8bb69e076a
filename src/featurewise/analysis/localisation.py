"""Positions of the maxima of max-pooled features (Perez et al. 2018, figure 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featurewise.core import ShapeError


def pooled_places(
    features: Float[Tensor, "N F H W"], weights: Float[Tensor, "N F"] | None = None
) -> Float[Tensor, "N H W"]:
    """Share of the features whose global maximum is at each position.

    Features that are constant over the map (usually zero, after a ReLU) have no maximum and are not
    counted.

    Args:
        features: the map over which a classifier takes the maximum.
        weights: weight of each feature, not negative; default: 1.

    Returns:
        Shares that sum to one over the positions, or zeros if no feature is counted.

    Raises:
        ShapeError: if ``features`` is not ``(N, F, H, W)`` with at least one of each, or
            ``weights`` is not ``(N, F)``.
    """
    if features.ndim != 4 or 0 in features.shape:
        raise ShapeError(f"features must be (N, F, H, W), got {tuple(features.shape)}")
    if weights is not None and weights.shape != features.shape[:2]:
        raise ShapeError(f"weights must be {tuple(features.shape[:2])}, got {tuple(weights.shape)}")
    flat = features.detach().float().flatten(2)
    counts = (flat.amax(2) > flat.amin(2)).float()
    if weights is not None:
        counts = counts * weights.detach().float()
    sums = torch.zeros_like(flat[:, 0]).scatter_add_(1, flat.argmax(2), counts)
    total = sums.sum(1, keepdim=True)
    shares = torch.where(total > 0, sums / total, 0.0)
    return shares.reshape(features.shape[0], *features.shape[2:])


def share_inside(places: Float[Tensor, "N H W"], mask: Tensor) -> Float[Tensor, "N"]:
    """Share of ``places`` that lies inside a mask of any resolution.

    Args:
        places: a result of ``pooled_places``.
        mask: ``(N, H', W')``; true inside. A cell of ``places`` is inside if any of its mask is.

    Raises:
        ShapeError: if the mask is not ``(N, H', W')``.
    """
    if mask.ndim != 3 or len(mask) != len(places):
        raise ShapeError(f"mask must be ({len(places)}, H, W), got {tuple(mask.shape)}")
    cover = F.adaptive_max_pool2d(mask.float().unsqueeze(1), tuple(places.shape[1:])).squeeze(1)
    inside: Tensor = (places * cover).sum(dim=(1, 2))
    return inside / places.sum(dim=(1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
