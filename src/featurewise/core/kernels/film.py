"""``gamma * x + beta``: which route is taken, by layout, size, dtype and gradients.

====================================  ==========================  ==============================
features                              without gradients           with gradients
====================================  ==========================  ==============================
fewer than `SMALL` numbers            formula                     formula
channels first, positions that        batch norm; float32: from   batch norm, from
split into blocks (see below)         `WITHOUT_GRADIENTS`         `WITH_GRADIENTS`
innermost, samples of `SAMPLE`        addcmul; half precision:    sample by sample
numbers or more                       sample by sample
innermost, smaller samples            addcmul; half precision:    in pieces from `IN_PIECES`;
                                      in pieces from `IN_PIECES`  below, the formula; half
                                                                  precision: addcmul
all others                            formula                     formula
====================================  ==========================  ==============================

* *Channels first* is contiguous ``(B, C, *positions)``; features are *innermost* in tokens
  ``(B, T, C)``, images in channels-last memory and vectors.
* *Batch norm* of mean 0, variance 1 and eps 0 is this formula (but for an infinite γ, which it
  turns into NaN). Torch's kernel passes over memory twice forward and three times backward, where
  the formula takes about four and seven passes.
* *Sample by sample* is the same kernel for features innermost, where it takes one γ for all rows.
  Samples that share γ are one sample. Only half precision takes it forward; float32 addcmul.
* *addcmul* reads once, but is vectorised only where the parameters lie along the innermost axis.
* *In pieces* is addcmul forward, and the formula backward, for a few samples at a time, so that
  what is written and read again (products, features cast to float32) stays in cache.
* Parameters by position, γ without β and β without γ, a GPU, compilation, transforms, torch's
  dispatch modes and tensor subclasses: the formula, which a compiler fuses by itself.
* On a GPU after ``use("triton")``: kernels of our own, with an activation (see `triton.routes`).

Half precision is computed in float32 and rounded once, on every route. The kernels add gradients of
γ and β up one by one, the formula in pairs; therefore a kernel adds `ADDED` numbers at most, of
`POSITIONS` or more in equal *blocks*, and their sums are added in pairs. Sizes were measured by
``python -m benchmarks.film`` in a checkout, on the machine that the page on speed names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.core import _torch
from featurewise.core.broadcast import align
from featurewise.core.kernels.choice import chosen

SMALL: Final = 1 << 14
"""Fewer numbers than this stay in cache (64 kB in float32): two operators are as fast."""

WITHOUT_GRADIENTS: Final = 1 << 18
WITH_GRADIENTS: Final = 1 << 19
"""From so many numbers on, fewer passes outweigh more calls of operators (microseconds each; an
autograd function of our own costs about 50)."""

POSITIONS: Final = 32
"""From so many positions a row justifies the fixed cost of batch norm's kernel."""

SAMPLE: Final = 1 << 16
"""From so many numbers a sample justifies the fixed cost of a call."""

IN_PIECES: Final = 1 << 20
"""From so many numbers on, features do not stay in cache from one operator to the next."""

PIECE: Final = 1 << 18
"""Numbers of a piece: it stays in cache, together with its gradients."""

ADDED: Final = 1 << 10
"""Most numbers that a kernel adds up one by one."""

ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}
"""What may follow FiLM in the same kernel; elsewhere it is an operator of its own."""

_HALF = (torch.float16, torch.bfloat16)
_PLAIN = (Tensor, nn.Parameter)

Route: TypeAlias = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(x, γ, β, feature axis) -> γ x + β; γ and β are (C,) or (B, C), in the dtype of computation."""


def modulate(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    axis: int,
    batch_axis: int | None,
    activation: str = "identity",
) -> Tensor:
    """``gamma * x + beta`` for arguments that are already checked (axes from the front).

    Args:
        x: features.
        gamma: ``(C,)``, ``(B, C)`` or ``(B, C, *positions)``; None for no scale.
        beta: the same shapes; None for no shift.
        axis: feature axis.
        batch_axis: sample axis; None if there is none.
        activation: what is applied to the result, one of `ACTIVATIONS`.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    # Before sizes are compared: a compiler would guard them. The first rule of the table is here,
    # too, as for few numbers the call of `fast` takes time.
    if (
        gamma is not None
        and beta is not None
        and not _torch.is_traced()
        and (x.numel() >= SMALL or chosen() is not None)
    ):
        y = fast(x, gamma, beta, axis, batch_axis, activation)
        if y is not None:
            return y
    made = formula(x, gamma, beta, axis, batch_axis)
    return made if activation == "identity" else activate(made, activation)


def activate(x: Tensor, activation: str) -> Tensor:
    """An activation by its name."""
    return x if activation == "identity" else ACTIVATIONS[activation](x)


def formula(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int, batch_axis: int | None
) -> Tensor:
    """The same in one operator for each of γ and β."""
    own = x.dtype
    compute = compute_dtype(x)
    y = x if own is compute else x.to(compute)
    if gamma is not None:
        y = y * align(gamma if gamma.dtype is compute else gamma.to(compute), x, axis, batch_axis)
    if beta is not None:
        y = y + align(beta if beta.dtype is compute else beta.to(compute), x, axis, batch_axis)
    return y if own is compute else y.to(own)


def fast(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    axis: int,
    batch_axis: int | None,
    activation: str = "identity",
) -> Tensor | None:
    """One of the fast routes, or None where the formula is as fast; not to be traced."""
    gpu = None if chosen() is None else gpu_kernels(x, gamma, beta)
    if gpu is not None and (batch_axis == 0 or (batch_axis is None and gamma.ndim == 1)):
        made: Tensor | None = gpu.film(x, gamma, beta, axis, activation)
        return made
    if x.numel() < SMALL or batch_axis not in (0, None):
        return None
    if gamma.shape != beta.shape or not (gamma.ndim == 1 or (gamma.ndim == 2 and batch_axis == 0)):
        return None
    if not takes_kernels(x, gamma, beta):
        return None
    route = _route(x, gamma, beta, axis)
    if route is None:
        return None
    # Kernels read γ by its address alone, whatever its strides.
    gamma, beta = (cast(each, compute_dtype(x)).contiguous() for each in (gamma, beta))
    y = as_one(partial(route, x, gamma, beta, axis), x, gamma, beta, axis)
    return activate(y, activation)


def _route(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Route | None:
    """The table of this module."""
    half, grad = x.dtype in _HALF, needs_gradients(x, gamma, beta)
    if axis == 1 and x.ndim > 2 and x.is_contiguous():
        least = WITH_GRADIENTS if grad else SMALL if half else WITHOUT_GRADIENTS
        worth = x.numel() >= least and _blocks(x.numel() // (x.shape[0] * x.shape[1]))
        return _by_batch_norm if worth else None
    if not is_innermost(x, axis):
        return None
    large = x.numel() >= SAMPLE * (1 if gamma.ndim == 1 else len(x))
    if grad:
        # Of half precision the formula would keep the features in float32.
        in_pieces = half or x.numel() >= IN_PIECES
        return _by_sample if large else _in_pieces if in_pieces else None
    return _by_sample if half and large else _by_addcmul


def needs_gradients(*tensors: Tensor) -> bool:
    """Whether gradients by any of these will be wanted."""
    return torch.is_grad_enabled() and any(each.requires_grad for each in tensors)


def takes_kernels(*tensors: Tensor, device: str = "cpu") -> bool:
    """Whether these are plain tensors of a device, on which operators run at once and unseen."""
    if _torch.is_traced():  # first, as the rest cannot be traced
        return False
    for each in tensors:
        if type(each) not in _PLAIN or each.device.type != device or _torch.is_batched(each):
            return False
    return not _torch.in_mode()


def gpu_kernels(*tensors: Tensor) -> Any:
    """The kernels for a GPU, if they were chosen and may see these tensors; else None."""
    gpu = chosen()
    return gpu if gpu is not None and takes_kernels(*tensors, device=gpu.DEVICE) else None


def as_one(run: Callable[[], Tensor], x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """What ``run`` returns; an observer of samples sees one ``addcmul``.

    That is what it is as to samples, also after a norm within each of them: none is moved.
    """
    if not _torch.is_observed():
        return run()
    inputs = align(beta, x, axis, 0), align(gamma, x, axis, 0), x
    return _torch.observed(run, torch.ops.aten.addcmul.default, inputs)


def _by_addcmul(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    if x.dtype not in _HALF or x.numel() < IN_PIECES:
        made = torch.addcmul(align(beta, x, axis, 0), align(gamma, x, axis, 0), x)
        return cast(made, x.dtype)
    # In pieces, so that what is computed in float32 stays in cache until it is rounded.
    y, size = torch.empty_like(x), (len(x), x.shape[axis])
    both = [each.expand(size)[:, None] for each in (gamma, beta)]
    rows = [rows_of(each, axis, len(x)) for each in (x, y)]
    pieces = [_pieces(each, x) for each in (*rows, *both)]
    buffer = gamma.new_empty(pieces[0][0].shape)
    for features, made, scale, shift in zip(*pieces, strict=True):
        wide = buffer[: len(features)].copy_(features)
        made.copy_(torch.addcmul(shift, scale, wide, out=wide))
    return y


def _in_pieces(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    made: Tensor = _InPieces.apply(x, gamma, beta, axis)  # type: ignore[no-untyped-call]
    return made


def _by_batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    if not needs_gradients(x, gamma, beta):
        return _batch_norm(x, gamma, beta)
    made: Tensor = _BatchNorm.apply(x, gamma, beta)  # type: ignore[no-untyped-call]
    return made


def _by_sample(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    if not needs_gradients(x, gamma, beta):
        return _sample_by_sample(x, gamma, beta, axis)
    made: Tensor = _BySample.apply(x, gamma, beta, axis)  # type: ignore[no-untyped-call]
    return made


# --- channels first ------------------------------------------------------------------------------


class _BatchNorm(torch.autograd.Function):
    """``gamma * x + beta`` of ``(B, C, *positions)``; γ and β are ``(B, C)`` or ``(C,)``.

    The features of every sample, in blocks of their positions, are the channels of one sample. A
    function of its own, not torch's: its output is no view, and x is kept only if γ needs it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """One pass over x."""
        _keep(ctx, x, gamma)
        return _batch_norm(x, gamma, beta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One pass for all gradients; by the formula where they are differentiated again."""
        kept = _kept_for_kernels(ctx, grad)
        if kept is None:
            return _gradients(ctx, grad, 1)
        gamma, x = kept
        blocks = _blocks(x.numel() // (x.shape[0] * x.shape[1]))
        to_x, *sums = _affine_gradients(
            _channels(grad.contiguous(), blocks),
            _channels(x, blocks),
            _repeated(gamma, len(x), blocks),
            ctx.needs_input_grad,
        )
        by_feature = [None if each is None else _by_feature(each, gamma, blocks) for each in sums]
        return None if to_x is None else to_x.view(x.shape), *by_feature


def _batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    y = torch.empty_like(x)
    scale, shift = _repeated(gamma, len(x), 1), _repeated(beta, len(x), 1)
    _affine(_channels(x, 1), scale, shift, _channels(y, 1))
    return y


def _blocks(positions: int) -> int:
    """The least number of equal blocks of `POSITIONS` to `ADDED` positions; 0 if there is none."""
    for blocks in range(-(-positions // ADDED), positions // POSITIONS + 1):
        if positions % blocks == 0:
            return blocks
    return 0


def _channels(x: Tensor, blocks: int) -> Tensor:
    """Blocks of the positions of every feature of every sample: (1, B C blocks, positions)."""
    return x.view(1, x.shape[0] * x.shape[1] * blocks, -1)


def _repeated(parameter: Tensor, batch: int, blocks: int) -> Tensor:
    """(B, C) or (C,), for every block: (B C blocks,)."""
    if parameter.ndim == 2 and blocks == 1:
        return parameter.view(-1)
    each = parameter.expand(batch, parameter.shape[-1])
    return each[:, :, None].expand(-1, -1, blocks).reshape(-1)


def _by_feature(sums: Tensor, gamma: Tensor, blocks: int) -> Tensor:
    """Sums over the blocks, and over the samples that share γ; the shape is that of γ."""
    if blocks > 1:
        sums = sums.view(-1, blocks).sum(1)
    return sums.view(gamma.shape) if gamma.ndim == 2 else sums.view(-1, len(gamma)).sum(0)


# --- features innermost --------------------------------------------------------------------------


def is_innermost(x: Tensor, axis: int) -> bool:
    """Whether features lie along the innermost axis of dense memory, behind the samples."""
    if x.ndim < 2 or axis == 0:
        return False
    if axis == x.ndim - 1:
        return x.is_contiguous()
    return axis == 1 and torch.movedim(x, 1, -1).is_contiguous()


class _InPieces(torch.autograd.Function):
    """``gamma * x + beta``, with gradients by the formula in pieces; features are innermost.

    In a piece, what the formula writes and reads again stays in cache.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
        """One pass over x."""
        _keep(ctx, x, gamma)
        ctx.axis = axis
        return _by_addcmul(x, gamma, beta, axis)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """All gradients of a piece, then the next; by the formula if they are differentiated again.

        Also of fewer numbers, and of vectors, which have nothing to add up.
        """
        axis, needed = ctx.axis, ctx.needs_input_grad
        kept = _kept_for_kernels(ctx, grad)
        if kept is None or grad.numel() < IN_PIECES or kept[0].ndim != 2 or grad.ndim == 2:
            return (*_gradients(ctx, grad, axis), None)
        gamma, x = kept
        to_x, (to_gamma, to_beta) = torch.empty_like(x), gamma.new_empty(2, *gamma.shape)
        rows = [rows_of(each, axis, len(x)) for each in (grad, x, to_x)]
        pieces = [_pieces(each, x) for each in (*rows, gamma[:, None], to_gamma, to_beta)]
        buffers = gamma.new_empty(2, *pieces[0][0].shape)  # for all pieces: no new memory for each
        for given, features, made, scale, of_gamma, of_beta in zip(*pieces, strict=True):
            wide, product = buffers[:, : len(given)]
            if grad.dtype is gamma.dtype:
                wide = given
                torch.mul(wide, features, out=product)
            else:
                product.copy_(features).mul_(wide.copy_(given))
            torch.sum(product, 1, out=of_gamma)
            if needed[2]:
                torch.sum(wide, 1, out=of_beta)
            if needed[0]:
                made.copy_(torch.mul(wide, scale, out=product))
        by_feature = (to_gamma, to_beta if needed[2] else None)
        return to_x if needed[0] else None, *by_feature, None


def _pieces(each: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Parts of samples on axis 0, of so many samples as have `PIECE` numbers in ``x``."""
    return torch.split(each, max(1, PIECE * len(x) // x.numel()))


class _BySample(torch.autograd.Function):
    """``gamma * x + beta`` by one call for the rows of a sample; features are innermost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
        """One pass over x, by the route without gradients."""
        _keep(ctx, x, gamma)
        ctx.axis = axis
        half = x.dtype in _HALF
        return (_sample_by_sample if half else _by_addcmul)(x, gamma, beta, axis)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One pass for all gradients; by the formula where they are differentiated again."""
        axis, needed = ctx.axis, ctx.needs_input_grad[:3]
        kept = _kept_for_kernels(ctx, grad)
        if kept is None:
            return (*_gradients(ctx, grad, axis), None)
        gamma, x = kept
        count = 1 if gamma.ndim == 1 else len(x)
        rows, to_x = rows_of(x, axis, count), torch.empty_like(x)
        given, to_rows = rows_of(grad, axis, count), rows_of(to_x, axis, count)
        sums: list[tuple[Tensor | None, ...]] = []
        for sample, scale in enumerate(gamma.view(count, -1)):
            for start in range(0, rows.shape[1], ADDED):
                block = slice(start, start + ADDED)
                found, *added = _affine_gradients(
                    given[sample, block].contiguous(), rows[sample, block], scale, needed
                )
                if found is not None:
                    to_rows[sample, block] = found
                sums.append(tuple(added))
        by_feature = [
            torch.stack(column).view(count, -1, x.shape[axis]).sum(1).view(gamma.shape)
            if need
            else None
            for column, need in zip(zip(*sums, strict=True), needed[1:], strict=True)
        ]
        return to_x if needed[0] else None, *by_feature, None


def _sample_by_sample(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    y = torch.empty_like(x)
    count = 1 if gamma.ndim == 1 else len(x)
    parameters = gamma.view(count, -1), beta.view(count, -1)
    for rows, scale, shift, made in zip(
        rows_of(x, axis, count), *parameters, rows_of(y, axis, count), strict=True
    ):
        _affine(rows, scale, shift, made)
    return y


def rows_of(x: Tensor, axis: int, count: int) -> Tensor:
    """Each sample as rows of features, ``(count, rows, C)``; all together for a count of 1."""
    last = torch.movedim(x, axis, -1)
    return last.reshape(count, -1, last.shape[-1])


# --- the kernel, and what is kept for it ---------------------------------------------------------


_BATCH_NORM_OUT: Final = torch.ops.aten.native_batch_norm.out


@lru_cache(8)
def _zeros_and_ones(width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and variance that change nothing."""
    with torch.inference_mode(False):
        return torch.zeros(width, dtype=dtype), torch.ones(width, dtype=dtype)


def _affine(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> None:
    """``scale * x + shift`` along axis 1, written to ``out``."""
    zeros, ones = _zeros_and_ones(len(scale), scale.dtype)
    unused = torch.empty(0, dtype=scale.dtype)
    into = {"out": out, "save_mean": unused, "save_invstd": unused}
    _BATCH_NORM_OUT(x, scale, shift, zeros, ones, False, 0.0, 0.0, **into)


def _affine_gradients(
    grad: Tensor, x: Tensor, scale: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Gradients by x, scale and shift; None where they are not needed."""
    zeros, ones = _zeros_and_ones(len(scale), scale.dtype)
    found = torch.ops.aten.native_batch_norm_backward(
        grad, x, scale, zeros, ones, None, None, False, 0.0, list(needed)
    )
    return tuple(each if need else None for each, need in zip(found, needed, strict=True))


def _keep(ctx: Any, x: Tensor, gamma: Tensor) -> None:
    """Keep x only if γ needs it: a frozen γ would keep the features of every site alive."""
    if ctx.needs_input_grad[1]:
        ctx.save_for_backward(gamma, x)
    elif ctx.needs_input_grad[0]:
        ctx.save_for_backward(gamma)
    ctx.parameters = gamma.ndim, gamma.dtype


def _kept_for_kernels(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor] | None:
    """γ and x; None where gradients are differentiated again, or need no x."""
    if not ctx.needs_input_grad[1] or torch.is_grad_enabled() or not takes_kernels(grad):
        return None
    gamma, x = ctx.saved_tensors
    return gamma, x


def _gradients(ctx: Any, grad: Tensor, axis: int) -> tuple[Tensor | None, ...]:
    """Gradients by x, γ and β, by operators that can be differentiated."""
    rank, compute = ctx.parameters
    of_features = (axis,) if rank == 1 else (0, axis)
    summed = [place for place in range(grad.ndim) if place not in of_features]
    own = cast(grad, compute)

    def added(x: Tensor) -> Tensor:
        return x.sum(summed) if summed else x  # of no axes, `sum` would add all

    kept = ctx.saved_tensors
    to_x = (
        cast(own * align(kept[0], grad, axis, 0), grad.dtype) if ctx.needs_input_grad[0] else None
    )
    to_gamma = added(own * cast(kept[1], compute)) if ctx.needs_input_grad[1] else None
    return to_x, to_gamma, added(own) if ctx.needs_input_grad[2] else None


# --- dtypes --------------------------------------------------------------------------------------


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``; faster where the dtype is the same already."""
    return x if x.dtype is dtype else x.to(dtype)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which features like ``x`` are modulated: float32 for half precision."""
    return torch.float32 if x.dtype in _HALF else x.dtype
