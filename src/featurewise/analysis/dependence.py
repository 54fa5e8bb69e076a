"""How much modulation depends on the condition at all, and how much of that on its class."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.core import ShapeError


@dataclass(frozen=True, slots=True)
class Dependence:
    """Shares of variance.

    Attributes:
        over_samples: what varies over samples for one feature, of all variance over samples and
            features: 0 where the parameters are the same for every condition, 1 where all
            features do the same.
        over_classes: what varies over the means of classes, of the variance over samples; 0 where
            there is none.
    """

    over_samples: float
    over_classes: float


def dependence(values: Float[Tensor, "B N"], classes: Int64[Tensor, " B"]) -> Dependence:
    """Where the variance of parameters comes from (law of total variance).

    Args:
        values: one row of parameters a sample, as a ``TaskRepresentation`` or a gate gives them.
        classes: class of each sample, from 0.

    Raises:
        ShapeError: there is no class for each row, or no row.
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
