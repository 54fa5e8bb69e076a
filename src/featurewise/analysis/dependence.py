"""Shares of the variance of modulation that depend on the condition and on its class."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.core import ShapeError


@dataclass(frozen=True, slots=True)
class Dependence:
    """Shares of variance.

    Attributes:
        over_samples: variance over samples within features, divided by the variance over samples
            and features: 0 if the parameters are equal for all conditions, 1 if the mean over
            samples is equal for all features.
        over_classes: variance of the class means, divided by the variance over samples; 0 if the
            latter is zero.
    """

    over_samples: float
    over_classes: float


def dependence(values: Float[Tensor, "B N"], classes: Int64[Tensor, " B"]) -> Dependence:
    """Decompose the variance of parameters (law of total variance).

    Args:
        values: parameters of a ``TaskRepresentation`` or a gate, one row per sample.
        classes: class of each sample, from 0.

    Raises:
        ShapeError: not one class per row, or no row.
    """
    if values.ndim != 2 or classes.shape != values.shape[:1] or 0 in values.shape:
        raise ShapeError(
            f"values must be (B, N) and classes (B,), got {tuple(values.shape)} and "
            f"{tuple(classes.shape)}"
        )
    values = values.detach().double()
    one_hot = values.new_zeros(len(values), int(classes.max()) + 1)
    one_hot[range(len(values)), classes] = 1.0
    means = (one_hot.T @ values) / one_hot.sum(0).clamp_min(1.0).unsqueeze(1)
    whole = float((values - values.mean()).square().mean())
    samples = float((values - values.mean(0)).square().mean())
    between = float((means[classes] - values.mean(0)).square().mean())
    return Dependence(samples / whole if whole else 0.0, between / samples if samples else 0.0)
