"""``FiLM``: a place to modulate that a network declares in its own code."""

from __future__ import annotations

from torch import Tensor, nn

from featurewise.core import ShapeError


class FiLM(nn.Module):
    """A declared site: passes its input through unchanged until the network is conditioned.

    Args:
        features: number of features C.
        axis: their axis; negative counts from the end.
        batch_axis: axis of the samples, or None where there is none.

    Raises:
        ShapeError: if ``features`` is not positive.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), FiLM(8, axis=-1), nn.ReLU())
    """

    def __init__(self, features: int, *, axis: int = 1, batch_axis: int | None = 0) -> None:
        super().__init__()
        if features < 1:
            raise ShapeError(f"features must be positive, got {features}")
        self.features = features
        self.axis = axis
        self.batch_axis = batch_axis

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x

    def extra_repr(self) -> str:
        """Width and axes, for ``repr``."""
        return f"{self.features}, axis={self.axis}, batch_axis={self.batch_axis}"
