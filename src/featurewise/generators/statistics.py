"""Mean and standard deviation of the features of a site over their positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from featurewise.core import ShapeError, Site
from featurewise.core.broadcast import check_features
from featurewise.core.kernels import compute_dtype


def position_mean(x: Tensor, site: Site) -> Tensor:
    """Mean over all positions: ``(B, C)``, or ``(C,)`` at a site without a batch axis.

    Features without positions are returned unchanged.

    Raises:
        ShapeError: if ``x`` does not fit the site.
        ArgumentTypeError: if ``x`` is not a floating-point tensor.
    """
    x, places = _batch_first(x, site, "x")
    return x.mean(places) if places else x


def position_statistics(
    x: Tensor, site: Site, eps: float, name: str = "x"
) -> tuple[Tensor, Tensor]:
    """Mean and ``sqrt(variance + eps)`` over all positions, in float32 at least.

    The variance is divided by the number of positions, as in instance normalisation.

    Args:
        x: features of the site.
        site: the site.
        eps: added to the variance.
        name: of ``x`` in error messages.

    Returns:
        Two tensors ``(B, C)``, or ``(C,)`` at a site without a batch axis.

    Raises:
        ShapeError: if ``x`` does not fit the site, or has fewer than two positions.
        ArgumentTypeError: if ``x`` is not a floating-point tensor.
    """
    x, places = _batch_first(x, site, name)
    # A list, as torch.compile cannot trace a product over a generator expression.
    positions = math.prod([x.shape[i] for i in places])
    if positions < 2:
        raise ShapeError(
            f"site '{site.name}': statistics need at least two positions, {name} has {positions}"
        )
    x = x.to(compute_dtype(x))
    mean = x.mean(places, keepdim=True)
    # Two passes: accurate for features far from zero, and faster than `torch.var` on a CPU.
    variance = (x - mean).square().mean(places)
    return mean.reshape(variance.shape), (variance + eps).sqrt()


def _batch_first(x: Tensor, site: Site, name: str) -> tuple[Tensor, tuple[int, ...]]:
    """``x`` as ``(B, C, *positions)`` or ``(C, *positions)``, and the axes of its positions."""
    axis = check_features(x, site.width, site.axis, site.batch_axis, f"site '{site.name}': {name}")
    if site.batch_axis is None:
        return torch.movedim(x, axis, 0), tuple(range(1, x.ndim))
    return torch.movedim(x, (site.batch_axis, axis), (0, 1)), tuple(range(2, x.ndim))
