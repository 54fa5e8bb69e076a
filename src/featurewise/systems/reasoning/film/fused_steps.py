"""The steps of the fused trunk: compiled functions, and their gradients written by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from featurewise.training.hardware import computes_bfloat16

DTYPE = torch.bfloat16 if computes_bfloat16("cpu") else torch.float32
"""Of the features; tests set another."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.cache
    def fast() -> Callable[..., Any]:
        # When first called: the compiler takes seconds to import.
        return torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def call(*tensors: Tensor) -> Any:
        # Gradients are those written below; the compiler warns of tensors that need any.
        return fast()(*(each.detach() for each in tensors))

    return call


# --- formulas: u (N, L, C) is normed, h is added, g and b (N, 1, C) are γ and β --------


@_compiled
def moments(u: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each feature over questions and positions."""
    x = u.float()
    count = u.shape[0] * u.shape[1]
    mean = x.sum(1).sum(0) / count
    return mean, (x * x).sum(1).sum(0) / count - mean * mean


@_compiled
def _block(
    h: Tensor, u: Tensor, mean: Tensor, rstd: Tensor, g: Tensor, b: Tensor
) -> Tensor:
    z = (u.float() - mean) * rstd * g + b
    return (h.float() + z.clamp_min(0)).to(DTYPE)


@_compiled
def _sums(
    grad: Tensor, u: Tensor, mean: Tensor, rstd: Tensor, g: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of β and γ: sums over positions, the last but one dimension."""
    n = (u.float() - mean) * rstd
    dz = torch.where(n * g + b > 0, grad.float(), 0.0)
    return dz.sum(-2), (dz * n).sum(-2)


@_compiled
def _norm_gradient(
    grad: Tensor,
    u: Tensor,
    mean: Tensor,
    rstd: Tensor,
    g: Tensor,
    b: Tensor,
    m1: Tensor,
    m2: Tensor,
) -> Tensor:
    n = (u.float() - mean) * rstd
    dz = torch.where(n * g + b > 0, grad.float(), 0.0)
    return (rstd * (dz * g - m1 - n * m2)).to(DTYPE)


@_compiled
def _over_questions(
    grad: Tensor, u: Tensor, mean: Tensor, rstd: Tensor, g: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the first block, gradients of normed u and of h: sums over an image's questions."""
    n = (u.float() - mean) * rstd
    dz = torch.where(n * g + b > 0, grad.float(), 0.0)
    return (dz * g).sum(1), grad.float().sum(1)


@_compiled
def _relu_sum(x: Tensor, place: Tensor) -> Tensor:
    return (x.float() + place).clamp_min(0).to(DTYPE)


@_compiled
def _relu_sum_gradient(grad: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    d = torch.where(y.float() > 0, grad.float(), 0.0)
    return d.to(DTYPE), d.sum(1)


@_compiled
def _max_gradient(grad: Tensor, x: Tensor, top: Tensor) -> Tensor:
    return torch.where(x == top, grad, 0.0).to(DTYPE)


# --- the same with their gradients -----------------------------------------------------


class NormFilm(torch.autograd.Function):
    """``h + relu(γ norm(u) + β)``; statistics over questions and positions are given."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, u: Tensor, g: Tensor, b: Tensor, mean: Tensor, rstd: Tensor
    ) -> Tensor:
        """See `torch.autograd.Function`."""
        g, b = g.unsqueeze(1).contiguous(), b.unsqueeze(1).contiguous()
        ctx.save_for_backward(u, g, b, mean, rstd)
        found: Tensor = _block(h, u, mean, rstd, g, b)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See `torch.autograd.Function`."""
        u, g, b, mean, rstd = ctx.saved_tensors
        grad = grads[0].contiguous()
        db, dg = _sums(grad, u, mean, rstd, g, b)
        count = u.shape[0] * u.shape[1]
        m1, m2 = (g.squeeze(1) * db).sum(0) / count, (g.squeeze(1) * dg).sum(0) / count
        du = _norm_gradient(grad, u, mean, rstd, g, b, m1, m2)
        return grad, du, dg, db, None, None


class FirstNormFilm(torch.autograd.Function):
    """The same where h and u belong to images, and γ and β to k questions about each."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, u: Tensor, g: Tensor, b: Tensor, mean: Tensor, rstd: Tensor
    ) -> Tensor:
        """See `torch.autograd.Function`."""
        images, length, channels = u.shape
        g = g.view(images, -1, 1, channels).contiguous()
        b = b.view(images, -1, 1, channels).contiguous()
        ctx.save_for_backward(u, g, b, mean, rstd)
        found: Tensor = _block(h.unsqueeze(1), u.unsqueeze(1), mean, rstd, g, b)
        return found.view(-1, length, channels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See `torch.autograd.Function`."""
        u, g, b, mean, rstd = ctx.saved_tensors
        images, length, channels = u.shape
        grad = grads[0].contiguous().view(images, -1, length, channels)
        db, dg = _sums(grad, u.unsqueeze(1), mean, rstd, g, b)
        dn, dh = _over_questions(grad, u.unsqueeze(1), mean, rstd, g, b)
        n = (u.float() - mean) * rstd
        du = rstd * (dn - dn.mean((0, 1)) - n * (dn * n).mean((0, 1)))
        flat = (-1, channels)
        return dh.to(DTYPE), du.to(DTYPE), dg.reshape(flat), db.reshape(flat), None, None


class ReluSum(torch.autograd.Function):
    """``relu(x + place)``, with x (N, L, C) and place (1 or N, L or 1, C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, place: Tensor, whole: Tensor | None) -> Tensor:
        """See `torch.autograd.Function`."""
        added = place if whole is None else place + whole.unsqueeze(1)
        y: Tensor = _relu_sum(x, added)
        ctx.save_for_backward(y)
        ctx.whole = whole is not None
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """See `torch.autograd.Function`."""
        (y,) = ctx.saved_tensors
        d, by_question = _relu_sum_gradient(grads[0].contiguous(), y)
        # A product with ones is the fastest sum over the first dimension.
        rows = d.view(len(d), -1)
        by_place = torch.mm(torch.ones(1, len(d), dtype=DTYPE), rows).float()
        return d, by_place.view(d.shape[1:]), by_question if ctx.whole else None


class _MaxOverPositions(torch.autograd.Function):
    """``max(x)`` over positions; every position that has the maximum gets the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """See `torch.autograd.Function`."""
        top = x.amax(1, keepdim=True)
        ctx.save_for_backward(x, top)
        return top.squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """See `torch.autograd.Function`."""
        x, top = ctx.saved_tensors
        found: Tensor = _max_gradient(grads[0].unsqueeze(1), x, top)
        return found


def max_over_positions(x: Tensor) -> Tensor:
    """``max(x)`` over positions, with the gradient of `_MaxOverPositions`."""
    found: Tensor = _MaxOverPositions.apply(x)  # type: ignore[no-untyped-call]
    return found
