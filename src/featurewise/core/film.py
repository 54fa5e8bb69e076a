"""FiLM itself: γ ⊙ x + β (Perez et al. 2018, eq. 2), on any axis of any tensor."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from featurewise.core.broadcast import check_parameter, feature_axis
from featurewise.core.errors import OperationError
from featurewise.core.kernels import ACTIVATIONS, modulate


def film(
    x: Float[Tensor, "..."],
    gamma: Float[Tensor, "..."] | None,
    beta: Float[Tensor, "..."] | None,
    *,
    axis: int = 1,
    batch_axis: int | None = 0,
    activation: str = "identity",
) -> Float[Tensor, "..."]:
    """Feature-wise linear modulation ``gamma * x + beta``.

    Half-precision features are modulated in float32 and rounded once, because bfloat16 has few
    digits for a γ near one.

    Args:
        x: features of any shape, C of them on ``axis`` and B samples on ``batch_axis``.
        gamma: scale: ``(C,)``, ``(B, C)`` or ``(B, C, *positions)``; None for no scale.
        beta: shift: the same shapes; None for no shift.
        axis: feature axis of ``x``.
        batch_axis: sample axis of ``x``; None if there is none.
        activation: applied to the result: "identity", "relu", "silu" or "gelu" (exact).

    Returns:
        A tensor of the shape and dtype of ``x``.

    Raises:
        ShapeError: a shape or an axis that does not fit.
        ArgumentTypeError: a tensor that is not floating point or lies on another device.
        OperationError: an unknown activation.

    Example:
        >>> import torch
        >>> x = torch.randn(8, 64, 14, 14)
        >>> film(x, torch.ones(8, 64), torch.zeros(8, 64)).shape
        torch.Size([8, 64, 14, 14])
    """
    front = feature_axis(x, axis, batch_axis, "film")
    batch = None if batch_axis is None else batch_axis % x.ndim
    for name, value in (("gamma", gamma), ("beta", beta)):
        if value is not None:
            check_parameter(value, x, (x.shape[front],), True, front, batch, name, "film")
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise OperationError(f"film: activation is one of {known}, got {activation!r}")
    return modulate(x, gamma, beta, front, batch, activation)
