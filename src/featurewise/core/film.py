"""FiLM itself: γ ⊙ x + β (Perez et al. 2018, eq. 2), on any axis of any tensor."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.core.broadcast import align, check_parameter, feature_axis

_HALF = (torch.float16, torch.bfloat16)


def film(
    x: Float[Tensor, "..."],
    gamma: Float[Tensor, "..."] | None,
    beta: Float[Tensor, "..."] | None,
    *,
    axis: int = 1,
    batch_axis: int | None = 0,
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

    Returns:
        A tensor of the shape and dtype of ``x``.

    Raises:
        ShapeError: a shape or an axis that does not fit.
        ArgumentTypeError: a tensor that is not floating point or lies on another device.

    Example:
        >>> x = torch.randn(8, 64, 14, 14)
        >>> film(x, torch.ones(8, 64), torch.zeros(8, 64)).shape
        torch.Size([8, 64, 14, 14])
    """
    front = feature_axis(x, axis, batch_axis, "film")
    batch = None if batch_axis is None else batch_axis % x.ndim
    for name, value in (("gamma", gamma), ("beta", beta)):
        if value is not None:
            check_parameter(value, x, (x.shape[front],), True, front, batch, name, "film")
    return modulate(x, gamma, beta, front, batch)


def modulate(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int, batch_axis: int | None
) -> Tensor:
    """``gamma * x + beta`` for arguments that are already checked (axes from the front)."""
    compute = compute_dtype(x)
    y = cast(x, compute)
    if gamma is not None:
        y = y * align(cast(gamma, compute), x, axis, batch_axis)
    if beta is not None:
        y = y + align(cast(beta, compute), x, axis, batch_axis)
    return cast(y, x.dtype)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``; faster where the dtype is the same already."""
    return x if x.dtype is dtype else x.to(dtype)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which features like ``x`` are modulated: float32 for half precision."""
    return torch.float32 if x.dtype in _HALF else x.dtype
