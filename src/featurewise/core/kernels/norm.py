"""A norm, then ``gamma * x + beta``, in one pass where a kernel of torch takes γ and β itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core.kernels.film import (
    ADDED,
    SAMPLE,
    SMALL,
    activate,
    as_one,
    cast,
    compute_dtype,
    gpu_kernels,
    is_innermost,
    modulate,
    needs_gradients,
    rows_of,
    takes_kernels,
)


def group_norm_film(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    groups: int,
    eps: float,
    activation: str = "identity",
) -> Tensor:
    """Group norm, then FiLM; with one group for each feature this is instance norm, then FiLM.

    The batch is viewed as one sample with B times as many groups, so that torch's kernel takes the
    γ and β of every sample.

    Args:
        x: ``(B, C, *positions)``.
        gamma: ``(B, C)`` or ``(C,)``.
        beta: the same shape.
        groups: number of groups, a divisor of C.
        eps: added to the variance.
        activation: what is applied to the result, one of ``ACTIVATIONS``.

    Returns:
        A tensor of the shape, dtype and memory format of ``x``.
    """
    y = _by_gpu_kernel("group", x, gamma, beta, 1, eps, activation, groups)
    if y is not None:
        return y
    if not takes_kernels(x, gamma, beta) or x.numel() < SMALL or _keeps_normed(x, gamma, beta):
        return modulate(F.group_norm(x, groups, eps=eps), gamma, beta, 1, 0, activation)
    # Channels last, float32, several features in a group: torch's kernel is fast without a copy.
    if not x.is_contiguous() and groups < x.shape[1] and x.dtype is compute_dtype(x):
        return modulate(F.group_norm(x, groups, eps=eps), gamma, beta, 1, 0, activation)
    run = partial(_group_norm_film, x, gamma, beta, groups, eps)
    return activate(as_one(run, x, gamma, beta, 1), activation)


def _group_norm_film(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
    compute = compute_dtype(x)
    batch, width = x.shape[:2]
    scale, shift = (cast(each, compute).expand(batch, width) for each in (gamma, beta))
    rows = x.contiguous().view(1, batch * width, *x.shape[2:])
    normed = F.group_norm(rows, batch * groups, scale.reshape(-1), shift.reshape(-1), eps)
    # Not `view`: what is returned can then be changed in place.
    made: Tensor = torch.ops.aten._unsafe_view(normed, x.shape)
    return made if x.is_contiguous() else made.contiguous(memory_format=_memory_format(x))


def _memory_format(x: Tensor) -> torch.memory_format:
    for rank, found in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if x.ndim == rank and x.is_contiguous(memory_format=found):
            return found
    return torch.contiguous_format


def layer_norm_film(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    axis: int,
    eps: float,
    activation: str = "identity",
) -> Tensor:
    """Layer norm over the features of every position, then FiLM.

    Args:
        x: features, samples on axis 0.
        gamma: ``(B, C)`` or ``(C,)``.
        beta: the same shape.
        axis: feature axis, from the front.
        eps: added to the variance.
        activation: what is applied to the result, one of ``ACTIVATIONS``.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    y = _by_gpu_kernel("layer", x, gamma, beta, axis, eps, activation)
    if y is not None:
        return y
    if takes_kernels(x, gamma, beta) and _is_layer_norm_of_samples(x, gamma, beta, axis):
        gamma, beta = (cast(each, compute_dtype(x)).contiguous() for each in (gamma, beta))
        run = partial(_layer_norm_film, x, gamma, beta, axis, eps)
        return activate(as_one(run, x, gamma, beta, axis), activation)
    return modulate(layer_norm(x, axis, eps), gamma, beta, axis, 0, activation)


def _is_layer_norm_of_samples(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> bool:
    """Whether samples are so large that a call of torch's kernel for each of them is faster.

    Not under autocast, which may choose another dtype for a layer norm than that of ``x``; and not
    of half precision with gradients, as the kernel adds up those of γ and β in half precision.
    """
    count = 1 if gamma.ndim == 1 else len(x)
    half = x.dtype is not compute_dtype(x)
    if (half and needs_gradients(x, gamma, beta)) or _keeps_normed(x, gamma, beta):
        return False
    return (
        gamma.ndim <= 2
        and gamma.shape == beta.shape
        and x.numel() >= SAMPLE * max(1, count)
        and is_innermost(x, axis)
        and not torch.is_autocast_enabled("cpu")
    )


def _layer_norm_film(x: Tensor, gamma: Tensor, beta: Tensor, axis: int, eps: float) -> Tensor:
    if not needs_gradients(x, gamma, beta):
        return _layer_norm_of_samples(x, gamma, beta, axis, eps)[0]
    made: Tensor = _LayerNorm.apply(x, gamma, beta, axis, eps)  # type: ignore[no-untyped-call]
    return made


def _layer_norm_of_samples(
    x: Tensor, gamma: Tensor, beta: Tensor, axis: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer norm and FiLM, sample by sample; also mean and 1 / deviation of each row."""
    y, count = torch.empty_like(x), 1 if gamma.ndim == 1 else len(x)
    scale, shift = gamma.view(count, -1), beta.view(count, -1)
    statistics = []
    for own, weight, bias, made in zip(
        rows_of(x, axis, count), scale, shift, rows_of(y, axis, count), strict=True
    ):
        found, *of_rows = torch.native_layer_norm(own, own.shape[-1:], weight, bias, eps)
        made.copy_(found)
        statistics.append(of_rows)
    mean, inverse = (torch.stack(each) for each in zip(*statistics, strict=True))
    return y, mean, inverse


class _LayerNorm(torch.autograd.Function):
    """Layer norm, then FiLM, by a call of torch's kernel for each sample, which has one γ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, axis: int, eps: float) -> Tensor:
        """One kernel for the norm and FiLM of a sample."""
        y, mean, inverse = _layer_norm_of_samples(x, gamma, beta, axis, eps)
        ctx.save_for_backward(x, gamma, mean, inverse)
        ctx.axis, ctx.eps = axis, eps
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One kernel for all gradients; by operators where they are differentiated again."""
        x, gamma, mean, inverse = ctx.saved_tensors
        axis, needed, count = ctx.axis, ctx.needs_input_grad[:3], len(mean)
        if torch.is_grad_enabled() or not takes_kernels(grad):
            return (*_layer_norm_gradients(grad, x, gamma, axis, ctx.eps), None, None)
        to_x = torch.empty_like(x)
        given, rows, made = (rows_of(each, axis, count) for each in (grad, x, to_x))
        sums: list[tuple[Tensor, Tensor]] = []
        for sample, weight in enumerate(gamma.view(count, -1)):
            # The kernel adds up rows one by one, therefore not too many; see `film`.
            for start in range(0, rows.shape[1], ADDED):
                at = sample, slice(start, start + ADDED)
                found, to_gamma, to_beta = torch.ops.aten.native_layer_norm_backward(
                    given[at],
                    rows[at],
                    rows.shape[-1:],
                    mean[at],
                    inverse[at],
                    weight,
                    weight,  # in place of β, whose values do not matter
                    [True, True, True],
                )
                made[at] = found
                sums.append((to_gamma, to_beta))
        by_feature = [
            torch.stack(column).view(count, -1, rows.shape[-1]).sum(1).view(gamma.shape)
            for column in zip(*sums, strict=True)
        ]
        found_all = (to_x, *by_feature)
        kept = (each if need else None for each, need in zip(found_all, needed, strict=True))
        return (*kept, None, None)


def _layer_norm_gradients(
    grad: Tensor, x: Tensor, gamma: Tensor, axis: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x, γ and β, by operators that can be differentiated."""
    own, features = (cast(each, gamma.dtype).movedim(axis, -1) for each in (grad, x))
    centred = features - features.mean(-1, keepdim=True)
    inverse = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    normed = centred * inverse
    rows = list(range(gamma.ndim - 1, own.ndim - 1))  # all axes that share γ
    around = (*gamma.shape[:-1], *(1 for _ in range(own.ndim - gamma.ndim)), gamma.shape[-1])
    to_normed = own * gamma.reshape(around)
    along = (to_normed * normed).mean(-1, keepdim=True)
    to_x = inverse * (to_normed - to_normed.mean(-1, keepdim=True) - normed * along)
    to_gamma, to_beta = own * normed, own
    if rows:  # of no axes, `sum` would add all
        to_gamma, to_beta = to_gamma.sum(rows), to_beta.sum(rows)
    return cast(to_x.movedim(-1, axis), grad.dtype), to_gamma, to_beta


def rms_norm_film(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    axis: int,
    eps: float,
    activation: str = "identity",
) -> Tensor:
    """Root-mean-square norm over the features of every position, then FiLM.

    The arguments are those of `layer_norm_film`; ``eps`` is added to the mean square.
    """
    y = _by_gpu_kernel("rms", x, gamma, beta, axis, eps, activation)
    return modulate(rms_norm(x, axis, eps), gamma, beta, axis, 0, activation) if y is None else y


def layer_norm(x: Tensor, axis: int, eps: float) -> Tensor:
    """Layer norm over any axis, without affine part."""
    last = torch.movedim(x, axis, -1)
    return torch.movedim(F.layer_norm(last, last.shape[-1:], eps=eps), -1, axis)


def rms_norm(x: Tensor, axis: int, eps: float) -> Tensor:
    """Root-mean-square norm over any axis, without affine part."""
    last = torch.movedim(x, axis, -1)
    return torch.movedim(F.rms_norm(last, last.shape[-1:], eps=eps), -1, axis)


def _keeps_normed(x: Tensor, gamma: Tensor, beta: Tensor) -> bool:
    """Whether γ or β alone need gradients, so that the normed features are to be kept.

    One kernel for norm and FiLM would keep ``x`` in their place, which may be changed in place
    afterwards (a residual connection of a frozen network) or be a tensor of inference mode.
    """
    return not x.requires_grad and needs_gradients(gamma, beta)


def _by_gpu_kernel(
    norm: str,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    axis: int,
    eps: float,
    activation: str,
    groups: int = 1,
) -> Tensor | None:
    """Norm, FiLM and activation in one kernel; None where there is none, or it was not chosen."""
    gpu = gpu_kernels(x, gamma, beta)
    if gpu is None or _keeps_normed(x, gamma, beta):
        return None
    y: Tensor | None = gpu.norm_film(gpu.Norm(norm, axis, eps, groups), x, gamma, beta, activation)
    return y


def batch_norm_film(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    activation: str = "identity",
) -> Tensor:
    """Batch norm with running statistics, then FiLM: one scale and one shift.

    Args:
        x: ``(B, C, *positions)``.
        gamma: ``(B, C)`` or ``(C,)``.
        beta: the same shape.
        mean: of each feature, ``(C,)``.
        variance: of each feature, ``(C,)``.
        eps: added to the variance.
        activation: what is applied to the result, one of ``ACTIVATIONS``.

    Returns:
        A tensor of the shape, dtype and memory format of ``x``.
    """
    compute = compute_dtype(x)
    if _keeps_normed(x, gamma, beta):
        averages = cast(mean, compute), cast(variance, compute)
        normed = F.batch_norm(cast(x, compute), *averages, None, None, False, 0.0, eps)
        return cast(modulate(normed, gamma, beta, 1, 0, activation), x.dtype)
    scale = cast(gamma, compute) * (cast(variance, compute) + eps).rsqrt()
    shift = cast(beta, compute) - cast(mean, compute) * scale
    return modulate(x, scale, shift, 1, 0, activation)
