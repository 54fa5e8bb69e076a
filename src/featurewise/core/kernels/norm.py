"""A norm, then ``gamma * x + beta``, in one pass where a kernel of torch takes γ and β itself."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core.kernels.film import (
    SMALL,
    as_one,
    cast,
    compute_dtype,
    modulate,
    takes_kernels,
)


def group_norm_film(x: Tensor, gamma: Tensor, beta: Tensor, groups: int, eps: float) -> Tensor:
    """Group norm, then FiLM; with one group for each feature this is instance norm, then FiLM.

    The batch is viewed as one sample with B times as many groups, so that torch's kernel takes the
    γ and β of every sample.

    Args:
        x: ``(B, C, *positions)``.
        gamma: ``(B, C)`` or ``(C,)``.
        beta: the same shape.
        groups: number of groups, a divisor of C.
        eps: added to the variance.

    Returns:
        A tensor of the shape, dtype and memory format of ``x``.
    """
    if not takes_kernels(x, gamma, beta) or x.numel() < SMALL:
        return modulate(F.group_norm(x, groups, eps=eps), gamma, beta, 1, 0)
    # Channels last, float32, several features in a group: torch's kernel is fast without a copy.
    if not x.is_contiguous() and groups < x.shape[1] and x.dtype is compute_dtype(x):
        return modulate(F.group_norm(x, groups, eps=eps), gamma, beta, 1, 0)
    run = partial(_group_norm_film, x, gamma, beta, groups, eps)
    return as_one(run, x, gamma, beta, 1)


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


def batch_norm_film(
    x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """Batch norm with running statistics, then FiLM: one scale and one shift.

    Args:
        x: ``(B, C, *positions)``.
        gamma: ``(B, C)`` or ``(C,)``.
        beta: the same shape.
        mean: of each feature, ``(C,)``.
        variance: of each feature, ``(C,)``.
        eps: added to the variance.

    Returns:
        A tensor of the shape, dtype and memory format of ``x``.
    """
    compute = compute_dtype(x)
    scale = cast(gamma, compute) * (cast(variance, compute) + eps).rsqrt()
    return modulate(x, scale, cast(beta, compute) - cast(mean, compute) * scale, 1, 0)
