"""A norm, then ``gamma * x + beta``, in one pass where a kernel of torch takes γ and β itself."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core.kernels.film import (
    SMALL,
    activate,
    as_one,
    cast,
    compute_dtype,
    gpu_kernels,
    modulate,
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
    if not takes_kernels(x, gamma, beta) or x.numel() < SMALL:
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
    return modulate(layer_norm(x, axis, eps), gamma, beta, axis, 0, activation) if y is None else y


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
    if gpu is None:
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
    scale = cast(gamma, compute) * (cast(variance, compute) + eps).rsqrt()
    shift = cast(beta, compute) - cast(mean, compute) * scale
    return modulate(x, scale, shift, 1, 0, activation)
