"""What the kernels compute, as functions that autograd knows; they are imported by `use` alone.

===========================  ==========================================  =====================
what                         forward, backward (passes over memory)      where
===========================  ==========================================  =====================
FiLM, activation             2, 3                                        all shapes below
layer or RMS norm, FiLM,     2, 3                                        what is normalised fits
activation                                                               in a tile
group norm of small groups,  2, 3                                        a group fits in a tile
FiLM, activation
group norm of large groups,  3, 5                                        larger groups, or less
FiLM, activation                                                         than `SECTOR` side by side
===========================  ==========================================  =====================

Features are float32, bfloat16 or float16, contiguous ``(B, C, *positions)`` or with features
innermost (tokens, channels-last images, vectors). γ and β have one shape: ``(C,)``, ``(B, C)``, or
for FiLM ``(B, C, *positions)``. All else is refused: a function then returns None.

γ, β, statistics and sums are float32; results are rounded once. Gradients that are differentiated
again, or are many at once, are those of the formula.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core.errors import OperationError
from featurewise.core.kernels import film as plain
from featurewise.core.kernels.norm import layer_norm, rms_norm
from featurewise.core.kernels.triton import code
from featurewise.core.kernels.triton.views import (
    NARROW,
    SECTOR,
    SUM_TILE,
    TILE,
    WIDE,
    View,
    film_view,
    flat,
    norm_view,
    unflat,
)

DEVICE: Final = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
"""Type of the devices on which kernels run; Triton's interpreter runs them on a CPU."""

_FoundT = TypeVar("_FoundT")
_DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16)


def film(x: Tensor, gamma: Tensor, beta: Tensor, axis: int, activation: str) -> Tensor | None:
    """``activation(gamma * x + beta)``, or None; samples are on axis 0."""
    if not _takes(x, gamma, beta) or film_view(x, gamma, axis) is None:
        return None
    return _run(_Film, axis, x, gamma, beta, axis, activation)


@dataclass(frozen=True)
class Norm:
    """A norm without affine part.

    Attributes:
        name: "layer", "rms" or "group".
        axis: feature axis.
        eps: added to the variance.
        groups: of a group norm.
    """

    name: str
    axis: int
    eps: float
    groups: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """By torch."""
        if self.name == "group":
            return F.group_norm(x, self.groups, eps=self.eps)
        norm = layer_norm if self.name == "layer" else rms_norm
        return norm(x, self.axis, self.eps)


def norm_film(norm: Norm, x: Tensor, gamma: Tensor, beta: Tensor, activation: str) -> Tensor | None:
    """``activation(gamma * norm(x) + beta)``, or None; samples are on axis 0."""
    # Under autocast, norms of torch return float32.
    if not _takes(x, gamma, beta) or torch.is_autocast_enabled(x.device.type):
        return None
    view = norm_view(x, gamma, norm.name, norm.axis, norm.groups)
    if view is None:
        return None
    function: Any = _TileNorm
    if norm.name == "group":
        side_by_side = x.element_size() * (view.reduced if view.rows else view.kept)
        if view.norm_tile("group", TILE) is None or (not view.rows and side_by_side < SECTOR):
            function = _LargeGroupNorm
    elif view.norm_tile(norm.name, TILE) is None:
        return None
    return _run(function, norm.axis, x, gamma, beta, norm, activation)


def _takes(x: Tensor, gamma: Tensor, beta: Tensor) -> bool:
    return x.dtype in _DTYPES and x.numel() > 0 and gamma.shape == beta.shape


def _run(
    function: Any, axis: int, x: Tensor, gamma: Tensor, beta: Tensor, *settings: Any
) -> Tensor:
    """Call an autograd function, or only its ``compute`` where nobody wants gradients."""
    gamma, beta = plain.cast(gamma, torch.float32), plain.cast(beta, torch.float32)

    def run() -> Tensor:
        given = x, gamma, beta, *settings
        wanted = plain.needs_gradients(x, gamma, beta)
        made: Tensor = function.apply(*given) if wanted else function.compute(*given)[0]
        return made

    return plain.as_one(run, x, gamma, beta, axis)


# --- FiLM ----------------------------------------------------------------------------------------


class _Film(torch.autograd.Function):
    """``activation(gamma * x + beta)``."""

    @staticmethod
    def compute(x: Tensor, gamma: Tensor, beta: Tensor, axis: int, activation: str) -> list[Tensor]:
        """One pass."""
        view, y = _known(film_view(x, gamma, axis)), torch.empty_like(x)
        scale, shift = (flat(each, x, axis, view) for each in (gamma, beta))
        _film_forward(view, x, scale, shift, None, y, activation)
        return [y]

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, axis: int, activation: str
    ) -> Tensor:
        """The same; x is kept only if γ or an activation needs it."""
        needs_x = ctx.needs_input_grad[1] or activation != "identity"
        ctx.save_for_backward(x if needs_x else None, gamma, beta)
        ctx.strides, ctx.settings = x.stride(), (axis, activation)
        return _Film.compute(x, gamma, beta, axis, activation)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One pass."""
        axis, activation = ctx.settings
        (x, gamma, beta), wanted = ctx.saved_tensors, ctx.needs_input_grad
        # Gradients by x and β alone do not depend on x; something of its shape is read.
        x = grad.detach() if x is None else x
        if _is_differentiated(grad):
            return _by_formula(ctx, lambda x: x, axis, activation, grad, x, gamma, beta)
        grad = _in_memory(grad, ctx.strides)
        x = _in_memory(x, ctx.strides)
        view = _known(film_view(x, gamma, axis))
        scale, shift = (flat(each, x, axis, view) for each in (gamma, beta))
        to_x = torch.empty_like(x) if wanted[0] else None
        sums = _film_backward(
            view, grad, x, scale, shift, activation, to_x=to_x, with_sums=any(wanted[1:3])
        )
        return _gradients(ctx, to_x, sums, gamma, x, axis)


def _film_forward(
    view: View,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    center: Tensor | None,
    y: Tensor,
    activation: str,
) -> None:
    tile = view.tile(TILE)
    programs = view.samples * -(-view.kept // tile[0]) * -(-view.reduced // tile[1])
    given = x, scale, shift, center, y, *view.numbers
    _launch(code.film_forward, programs, x, *given, ACT=activation, **view.flags(tile))


def _film_backward(
    view: View,
    grad: Tensor,
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    activation: str,
    center: Tensor | None = None,
    tilt: Tensor | None = None,
    level: Tensor | None = None,
    *,
    to_x: Tensor | None,
    with_sums: bool,
) -> list[Tensor]:
    """Writes ``to_x``, and returns the sums by scale and shift; none if they are not wanted."""
    tile = view.tile(SUM_TILE, widest=WIDE if view.rows else NARROW)
    chunks, steps = view.split(tile)
    sums: list[Tensor | None] = [None, None]
    if with_sums:
        sums = [*_empty_sums(view, chunks, x)]
    given = grad, x, scale, shift, center, tilt, level, to_x, *sums, *view.numbers, chunks, steps
    programs = view.samples * -(-view.kept // tile[0]) * chunks
    _launch(code.film_backward, programs, x, *given, ACT=activation, **view.flags(tile))
    return [_added(each) for each in sums if each is not None]


# --- norm, FiLM ----------------------------------------------------------------------------------


class _TileNorm(torch.autograd.Function):
    """``activation(gamma * norm(x) + beta)`` where a tile has all that is normalised together."""

    @staticmethod
    def compute(
        x: Tensor, gamma: Tensor, beta: Tensor, norm: Norm, activation: str
    ) -> list[Tensor]:
        """One pass: the result, means and rates (one over the standard deviation)."""
        view, y = _view_of_norm(x, gamma, norm), torch.empty_like(x)
        scale, shift = (flat(each, x, norm.axis, view) for each in (gamma, beta))
        tile = _known(view.norm_tile(norm.name, TILE))
        blocks = -(-view.reduced // tile[1])
        size = view.samples * (1 if norm.name == "group" else view.reduced)
        means, rates = (x.new_empty(size, dtype=torch.float32) for _ in range(2))
        given = x, scale, shift, y, means, rates, *view.numbers, norm.eps
        options = {"NORM": norm.name, "ACT": activation, **view.flags(tile)}
        _launch(code.norm_forward, view.samples * blocks, x, *given, **options)
        return [y, means, rates]

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, norm: Norm, activation: str
    ) -> Tensor:
        """The same."""
        y, *statistics = _TileNorm.compute(x, gamma, beta, norm, activation)
        ctx.save_for_backward(x, gamma, beta, *statistics)
        ctx.settings = norm, activation
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """One pass."""
        norm, activation = ctx.settings
        x, gamma, beta, means, rates = ctx.saved_tensors
        if _is_differentiated(grad):
            return _by_formula(ctx, norm, norm.axis, activation, grad, x, gamma, beta)
        view, to_x = _view_of_norm(x, gamma, norm), torch.empty_like(x)
        scale, shift = (flat(each, x, norm.axis, view) for each in (gamma, beta))
        tile = _known(view.norm_tile(norm.name, SUM_TILE))
        chunks, steps = view.split(tile)
        sums = _empty_sums(view, chunks, x)
        grad = _in_memory(grad, x.stride())
        given = grad, x, scale, shift, means, rates, to_x, *sums, *view.numbers, chunks, steps
        options = {"NORM": norm.name, "ACT": activation, **view.flags(tile)}
        _launch(code.norm_backward, view.samples * chunks, x, *given, **options)
        return _gradients(ctx, to_x, [_added(each) for each in sums], gamma, x, norm.axis)


class _LargeGroupNorm(torch.autograd.Function):
    """The same for groups of any size: their statistics, then FiLM around the means.

    In the backward pass, the two means that the gradient of a norm subtracts are sums of γ times
    the gradients by β and γ, so that no other sums are needed.
    """

    @staticmethod
    def compute(
        x: Tensor, gamma: Tensor, beta: Tensor, norm: Norm, activation: str
    ) -> list[Tensor]:
        """Two passes: the result, and mean and rate of every feature, ``(B, C)``."""
        view, y = _known(film_view(x, _samples(gamma, x), 1)), torch.empty_like(x)
        mean, variance = _group_moments(view, x, norm.groups)
        rate = (variance + norm.eps).rsqrt()
        scale, shift = _samples(gamma, x) * rate, _samples(beta, x)
        _film_forward(view, x, scale, shift, mean, y, activation)
        return [y, mean, rate]

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, norm: Norm, activation: str
    ) -> Tensor:
        """The same."""
        y, *statistics = _LargeGroupNorm.compute(x, gamma, beta, norm, activation)
        ctx.save_for_backward(x, gamma, beta, *statistics)
        ctx.settings = norm, activation
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Two passes."""
        norm, activation = ctx.settings
        x, gamma, beta, mean, rate = ctx.saved_tensors
        if _is_differentiated(grad):
            return _by_formula(ctx, norm, 1, activation, grad, x, gamma, beta)
        grad, each = _in_memory(grad, x.stride()), _samples(gamma, x)
        view = _known(film_view(x, each, 1))
        run = partial(
            _film_backward, view, grad, x, each * rate, _samples(beta, x), activation, mean
        )
        to_scale, to_shift = (sums.view(each.shape) for sums in run(to_x=None, with_sums=True))
        sums = [to_scale * rate, to_shift]
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = torch.empty_like(x)
            by_rate, by_mean = (_group_mean(each * sum_, x, norm.groups) for sum_ in sums)
            run(rate * rate * by_rate, rate * by_mean, to_x=to_x, with_sums=False)
        return _gradients(ctx, to_x, sums, gamma, x, 1)


def _samples(parameter: Tensor, x: Tensor) -> Tensor:
    """γ or β of every sample, ``(B, C)``."""
    return parameter.expand(x.shape[:2]).contiguous()


def _group_mean(sums: Tensor, x: Tensor, groups: int) -> Tensor:
    """Sums by sample and feature, added up and divided by the size of a group; ``(B, C)``."""
    of_group = sums.view(len(x), groups, -1)
    size = x.numel() // (len(x) * groups)
    return (of_group.sum(2, keepdim=True) / size).expand_as(of_group).reshape(sums.shape)


def _group_moments(view: View, x: Tensor, groups: int) -> list[Tensor]:
    """Mean and variance of the group of every feature, ``(B, C)``."""
    tile = view.tile(SUM_TILE, widest=WIDE if view.rows else NARROW)
    chunks, steps = view.split(tile)
    parts = _empty_sums(view, chunks, x)
    given = x, *parts, *view.numbers, chunks, steps
    programs = view.samples * -(-view.kept // tile[0]) * chunks
    _launch(code.moments, programs, x, *given, **view.flags(tile))
    batch, width = x.shape[:2]
    # Samples of the view, chunks, samples of x, groups, and features of a group.
    shape = view.samples, chunks, -1, groups, width // groups
    means, squares = (each.view(shape) for each in parts)
    numbers = torch.full((chunks,), steps * tile[1], dtype=torch.float32, device=x.device)
    numbers[-1] = view.reduced - (chunks - 1) * steps * tile[1]
    numbers = numbers.view(-1, 1, 1, 1)
    size = view.reduced * (width // groups)
    mean = (numbers * means).sum((1, 4), keepdim=True) / size
    variance = (squares + numbers * (means - mean).square()).sum((1, 4), keepdim=True) / size
    of_groups = (each.view(batch, groups, 1) for each in (mean, variance))
    return [each.expand(-1, -1, width // groups).reshape(batch, width) for each in of_groups]


# --- shared --------------------------------------------------------------------------------------


def _launch(kernel: Any, programs: int, x: Tensor, *given: Any, **options: Any) -> None:
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        kernel[(programs,)](*given, **options)


def _known(found: _FoundT | None) -> _FoundT:
    """What was there when the route was taken."""
    if found is None:
        raise OperationError("features changed since their kernel was chosen")
    return found


def _view_of_norm(x: Tensor, gamma: Tensor, norm: Norm) -> View:
    return _known(norm_view(x, gamma, norm.name, norm.axis, norm.groups))


def _in_memory(x: Tensor, strides: tuple[int, ...]) -> Tensor:
    """The same numbers, with these strides."""
    if x.stride() == strides:
        return x
    return x.new_empty_strided(x.shape, strides).copy_(x)


def _empty_sums(view: View, chunks: int, x: Tensor) -> list[Tensor]:
    shape = view.samples, chunks, view.kept
    return [x.new_empty(shape, dtype=torch.float32) for _ in range(2)]


def _added(sums: Tensor) -> Tensor:
    """Sums of all chunks, side by side."""
    return (sums.sum(1) if sums.shape[1] > 1 else sums).view(-1)


def _gradients(
    ctx: Any,
    to_x: Tensor | None,
    sums: list[Tensor],
    gamma: Tensor,
    x: Tensor,
    axis: int,
) -> tuple[Tensor | None, ...]:
    """What a backward returns: gradients by x, γ and β as far as they are wanted, and no others."""
    by_parameter = [
        unflat(each, gamma, x, axis) if need and each is not None else None
        for each, need in zip(sums or (None, None), ctx.needs_input_grad[1:3], strict=True)
    ]
    return to_x if ctx.needs_input_grad[0] else None, *by_parameter, None, None


def _is_differentiated(grad: Tensor) -> bool:
    """Whether gradients are differentiated again, or are many at once."""
    return torch.is_grad_enabled() or not plain.takes_kernels(grad, device=DEVICE)


def _by_formula(
    ctx: Any,
    norm: Callable[[Tensor], Tensor],
    axis: int,
    activation: str,
    grad: Tensor,
    *inputs: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients, by operators that can be differentiated."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that a γ that was made of x counts as an input of its own.
        given = [each.view_as(each) for each in inputs]
        for each, need in zip(given, ctx.needs_input_grad[:3], strict=True):
            if need and not each.requires_grad:
                each.requires_grad_()
        x, gamma, beta = given
        y = plain.activate(plain.formula(norm(x), gamma, beta, axis, 0), activation)
    wanted = [each for each, need in zip(given, ctx.needs_input_grad[:3], strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, grad, create_graph=again))
    needed = ctx.needs_input_grad[:3]
    return *(next(found) if need else None for need in needed), None, None
