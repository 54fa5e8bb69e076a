"""``gamma * x + beta``: which route is taken, by layout, size, dtype and need of gradients.

=================================  =====================  ==================  ================
features                           float32, no gradients  float32, gradients  half precision
=================================  =====================  ==================  ================
fewer than `SMALL`                 formula                formula             formula
channels first, `POSITIONS` each   batch norm             batch norm          batch norm
innermost, `SAMPLE` each           addcmul                sample by sample    sample by sample
innermost, smaller samples         addcmul                formula             addcmul or formula
all others                         formula                formula             formula
=================================  =====================  ==================  ================

* *Channels first* is contiguous ``(B, C, *positions)``; *features innermost* are tokens
  ``(B, T, C)``, images in channels-last memory and vectors. In half precision small samples take
  addcmul without gradients, and the formula with them.
* *Batch norm* of mean 0 and variance 1 is this formula: torch's kernel reads x once forward, and
  once backward for all three gradients, where the formula reads and writes five times as much.
* *Sample by sample* is the same kernel for features innermost, where it takes one γ for all rows.
* *addcmul* is one pass, but vectorised only where the parameters lie along the innermost axis.
* On a GPU, under compilation, transforms and modes, and for tensor subclasses, it is the formula,
  which a compiler fuses by itself.

Sizes were measured on one core (`python -m benchmarks.film`). Half precision is computed in
float32 and rounded once, on every route.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from featurewise.core import _torch
from featurewise.core.broadcast import align

SMALL: Final = 1 << 14
"""Fewer numbers than this stay in the first cache, where a formula of two operators is as fast."""

POSITIONS: Final = 32
"""From so many positions a row of batch norm's kernel is worth its start."""

SAMPLE: Final = 1 << 16
"""From so many numbers a sample is worth a call of its own."""

_HALF = (torch.float16, torch.bfloat16)
_PLAIN = (Tensor, nn.Parameter)


def modulate(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int, batch_axis: int | None
) -> Tensor:
    """``gamma * x + beta`` for arguments that are already checked (axes from the front).

    Args:
        x: features.
        gamma: ``(C,)``, ``(B, C)`` or ``(B, C, *positions)``; None for no scale.
        beta: the same shapes; None for no shift.
        axis: feature axis.
        batch_axis: sample axis; None if there is none.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    if gamma is not None and beta is not None and not _torch.is_traced():
        y = fast(x, gamma, beta, axis, batch_axis)
        if y is not None:
            return y
    return formula(x, gamma, beta, axis, batch_axis)


def formula(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int, batch_axis: int | None
) -> Tensor:
    """The same in one operator for each of γ and β."""
    compute = compute_dtype(x)
    y = cast(x, compute)
    if gamma is not None:
        y = y * align(cast(gamma, compute), x, axis, batch_axis)
    if beta is not None:
        y = y + align(cast(beta, compute), x, axis, batch_axis)
    return cast(y, x.dtype)


def fast(
    x: Tensor, gamma: Tensor, beta: Tensor, axis: int, batch_axis: int | None
) -> Tensor | None:
    """One of the fast routes, or None where the formula is as fast; not to be traced."""
    if x.numel() < SMALL or batch_axis not in (0, None):
        return None
    shared = gamma.ndim == 1
    if gamma.shape != beta.shape or not (shared or (gamma.ndim == 2 and batch_axis == 0)):
        return None
    if not is_eager(x, gamma, beta):
        return None
    compute = compute_dtype(x)
    gamma, beta = cast(gamma, compute), cast(beta, compute)
    route = _route(x, gamma, beta, axis)
    if route is None:
        return None
    chosen = route
    return as_one(lambda: chosen(x, gamma, beta, axis), x, gamma, beta, axis)


Route: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(x, γ, β, feature axis) -> γ x + β; γ and β are (C,) or (B, C), in the dtype of computation."""


def _route(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Route | None:
    """The table of this module."""
    if axis == 1 and x.ndim > 2 and x.is_contiguous():
        enough = x.numel() >= POSITIONS * x.shape[0] * x.shape[1]
        return _by_batch_norm if enough else None
    if not _is_innermost(x, axis):
        return None
    grad = torch.is_grad_enabled() and (
        x.requires_grad or gamma.requires_grad or beta.requires_grad
    )
    large = x.numel() >= SAMPLE * (1 if gamma.ndim == 1 else len(x))
    if large and (grad or x.dtype in _HALF):
        return _by_sample
    return None if grad else _by_addcmul


def as_one(run: Callable[[], Tensor], x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """What ``run`` returns; to an observer of operators it is one ``addcmul``."""
    if not _torch.is_observed():
        return run()
    inputs = align(beta, x, axis, 0), align(gamma, x, axis, 0), x
    return _torch.observed(run, torch.ops.aten.addcmul.default, inputs)


def is_eager(*tensors: Tensor) -> bool:
    """Whether operators run at once on plain tensors of a CPU, in no transform and no mode."""
    for each in tensors:
        if type(each) not in _PLAIN or each.device.type != "cpu":
            return False
    return not (_torch.is_traced() or _torch.in_mode())


@lru_cache(64)
def _zeros_and_ones(width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and variance that change nothing."""
    with torch.inference_mode(False):
        return torch.zeros(width, dtype=dtype), torch.ones(width, dtype=dtype)


def _by_batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """Channels first; the features of every sample are rows of one sample, unless they share γ."""
    batch, width = x.shape[:2]
    rows = x.view(batch, width, -1) if gamma.ndim == 1 else x.view(1, batch * width, -1)
    zeros, ones = _zeros_and_ones(gamma.numel(), gamma.dtype)
    made: Tensor = torch.native_batch_norm(
        rows, gamma.reshape(-1), beta.reshape(-1), zeros, ones, False, 0.0, 0.0
    )[0]
    return made.view(x.shape)


# --- features innermost --------------------------------------------------------------------------


def _is_innermost(x: Tensor, axis: int) -> bool:
    """Whether features lie along the innermost axis of dense memory, behind the samples."""
    if x.ndim < 2 or axis == 0:
        return False
    if axis == x.ndim - 1:
        return x.is_contiguous()
    return axis == 1 and torch.movedim(x, 1, -1).is_contiguous()


def _by_addcmul(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """One pass, with the parameters along the innermost axis."""
    made = torch.addcmul(align(beta, x, axis, 0), align(gamma, x, axis, 0), x)
    return cast(made, x.dtype)


def _by_sample(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """``gamma * x + beta`` by one call of batch norm a sample; a shared γ is that of one sample."""
    count = 1 if gamma.ndim == 1 else len(x)
    last = torch.movedim(x, axis, -1)
    samples = last.view(count, -1, x.shape[axis])
    made: Tensor = _BySample.apply(  # type: ignore[no-untyped-call]
        samples, gamma.view(count, -1), beta.view(count, -1)
    )
    return torch.movedim(made.view(last.shape), -1, axis)


class _BySample(torch.autograd.Function):
    """``gamma * x + beta`` of samples ``(B, rows, C)`` with γ and β ``(B, C)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """One pass over x."""
        ctx.save_for_backward(x, gamma)
        y = torch.empty_like(x)
        zeros, ones = _zeros_and_ones(x.shape[-1], gamma.dtype)
        blank = torch.empty(0, dtype=gamma.dtype)
        for rows, scale, shift, made in zip(x, gamma, beta, y, strict=True):
            torch.ops.aten.native_batch_norm.out(
                rows,
                scale,
                shift,
                zeros,
                ones,
                False,
                0.0,
                0.0,
                out=made,
                save_mean=blank,
                save_invstd=blank,
            )
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One pass for all three gradients; by a formula where they are differentiated again."""
        x, gamma = ctx.saved_tensors
        if torch.is_grad_enabled() or not is_eager(grad):
            own = cast(grad, gamma.dtype)
            return cast(own * gamma[:, None], x.dtype), (own * x).sum(1), own.sum(1)
        zeros, ones = _zeros_and_ones(x.shape[-1], gamma.dtype)
        found = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
        for given, rows, scale, *places in zip(grad.contiguous(), x, gamma, *found, strict=True):
            made = torch.ops.aten.native_batch_norm_backward(
                given, rows, scale, zeros, ones, None, None, False, 0.0, [True, True, True]
            )
            for place, value in zip(places, made, strict=True):
                place.copy_(value)
        return found


# --- dtypes --------------------------------------------------------------------------------------


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``; faster where the dtype is the same already."""
    return x if x.dtype is dtype else x.to(dtype)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which features like ``x`` are modulated: float32 for half precision."""
    return torch.float32 if x.dtype in _HALF else x.dtype
