"""``adapt``: a few gradient steps on the conditioning of a network; its weights stay fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, ShapeError, TaskRepresentation, _torch
from featurewise.core.numbers import WANTED, is_finite, is_float
from featurewise.retrofit.errors import CallError

T = TypeVar("T", TaskRepresentation, Tensor)


def adapt(
    loss: Callable[[T], Tensor],
    start: T,
    *,
    steps: int,
    lr: int | float | Tensor,
    second_order: bool = False,
    at: str | Sequence[str] | None = None,
) -> T:
    """Minimise ``loss`` from ``start`` by a few steps of gradient descent.

    With a task representation it is few-shot learning of FiLM parameters alone (FiT, Shysheya et
    al. 2023); with a context vector that a generator turns into parameters, the inner loop of
    CAVIA (Zintgraf et al. 2019, eq. 3). The result is a new object, no module is changed and no
    ``.grad`` is written. The result is differentiable with respect to ``start`` and ``lr``. It
    may be used within ``torch.func`` transforms (``vmap`` over tasks, ``grad`` through it), and
    under ``torch.no_grad``, where the result has no autograd graph.

    A generator whose head is zero (its initial state) gives the context a zero gradient; for
    CAVIA, initialise the head with small random weights first.

    Args:
        loss: adapted value -> scalar, such as ``lambda t: mse(net(x, task=t), y)``. For many
            tasks in one batch ``(B, N)``, return the *sum* of their losses.
        start: a task representation, or a floating-point tensor.
        steps: number of steps; 0 returns ``start``.
        lr: learning rate; a number, or a tensor that broadcasts over ``start`` and may be learned.
        second_order: let outer gradients pass through the inner gradients. Otherwise inner
            gradients are constants (first-order MAML, Finn et al. 2017), and outer gradients
            reach ``start`` and ``lr`` alone.
        at: patterns of the sites that may change; None means all. Task representations only.

    Returns:
        The adapted value, of the type of ``start``.

    Raises:
        ArgumentTypeError: a ``start`` or ``lr`` of the wrong type, a loss that returns no tensor,
            or ``at`` with a tensor.
        ShapeError: a loss that is not a scalar, negative ``steps``, or an ``lr`` that does not
            broadcast over ``start``.
        LayoutError: a pattern that matches no site.
        CallError: a loss that does not depend on the adapted value, or inference mode.

    Example:
        >>> from featurewise.core import Affine, Layout, Site
        >>> task = TaskRepresentation.identity(Layout((Site("a", 2, Affine()),)))
        >>> adapt(lambda t: (t["a"]["beta"] - 1).square().sum(), task, steps=1, lr=0.5).flat
        tensor([0., 0., 1., 1.])
    """
    _check(loss, start, steps, second_order)
    flat, wrap, mask = _parts(start, at)
    if not _torch.in_transform() and torch.is_inference_mode_enabled():
        raise CallError(
            "adapt computes gradients, which inference mode forbids; use torch.no_grad()"
        )
    learning_rate = _learning_rate(lr, flat)

    def evaluate(flat: Tensor) -> Tensor:
        return _scalar(loss(wrap(flat)))

    for _ in range(steps):
        stepped = flat - learning_rate * _gradient(evaluate, flat, second_order)
        flat = stepped if mask is None else torch.where(mask, stepped, flat)
    adapted: T = wrap(flat)
    return adapted


def _gradient(loss: Callable[[Tensor], Tensor], flat: Tensor, second_order: bool) -> Tensor:
    """Gradient of ``loss`` at ``flat``; it has an autograd graph of its own if ``second_order``."""
    if _torch.in_transform():  # its tensors are not autograd's
        # A transform computes gradients in every mode; the mode decides whether they have a graph.
        with torch.set_grad_enabled(second_order and torch.is_grad_enabled()):
            gradient: Tensor = torch.func.grad(loss)(flat)
        return gradient
    history = second_order and torch.is_grad_enabled()
    with torch.enable_grad():
        at = flat if history and flat.requires_grad else flat.detach().requires_grad_()
        value = loss(at)
        if not value.requires_grad:
            raise CallError(_INDEPENDENT)
        (found,) = torch.autograd.grad(value, at, create_graph=history, allow_unused=True)
    if found is None:
        raise CallError(_INDEPENDENT)
    return found


_INDEPENDENT = (
    "the loss does not depend on the adapted value: pass it on, as in net(x, task=task) or "
    "net(x, condition=context), and detach no tensor between them"
)


def _check(loss: object, start: object, steps: object, second_order: object) -> None:
    if not callable(loss):
        raise ArgumentTypeError(f"loss must be a function, got {type(loss).__name__}")
    if not isinstance(start, TaskRepresentation | Tensor):
        raise ArgumentTypeError(
            f"start must be a TaskRepresentation or a tensor, got {type(start).__name__}"
        )
    if isinstance(start, Tensor) and not is_float(start):
        raise ArgumentTypeError(f"start must be {WANTED}, got {start.dtype}")
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise ArgumentTypeError(f"steps must be an integer, got {type(steps).__name__}")
    if steps < 0:
        raise ShapeError(f"steps must not be negative, got {steps}")
    if not isinstance(second_order, bool):
        raise ArgumentTypeError(f"second_order must be True or False, got {second_order!r}")


def _parts(
    start: Any, at: str | Sequence[str] | None
) -> tuple[Tensor, Callable[[Tensor], Any], Tensor | None]:
    """The flat tensor, a function that restores the type of ``start``, and a mask of ``at``."""
    if isinstance(start, Tensor):
        if at is not None:
            raise ArgumentTypeError("at names sites; a context vector has none")
        return start, lambda flat: flat, None
    layout, flat = start.layout, start.flat
    mask = None
    if at is not None:
        mask = start.edit(at=at).mask.to(flat.device).reshape(-1, *(1,) * (flat.ndim - 2))
    return flat, lambda flat: TaskRepresentation(layout, flat), mask


def _learning_rate(lr: Any, flat: Tensor) -> Any:
    if isinstance(lr, Tensor):
        if not is_float(lr):
            raise ArgumentTypeError(f"lr must be {WANTED}, got {lr.dtype}")
        try:
            lr.expand(flat.shape)
        except RuntimeError as error:
            raise ShapeError(
                f"lr must broadcast over {tuple(flat.shape)}, got {tuple(lr.shape)}"
            ) from error
        return lr.to(flat)
    if not isinstance(lr, int | float) or isinstance(lr, bool):
        raise ArgumentTypeError(f"lr must be a number or a tensor, got {type(lr).__name__}")
    if not is_finite(lr):
        raise ShapeError(f"lr must be finite, got {short(lr)}")
    return lr


def _scalar(value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"loss must return a tensor, got {type(value).__name__}")
    if value.ndim != 0:
        raise ShapeError(
            f"loss must return a scalar, got {tuple(value.shape)}; take its sum or mean"
        )
    return value
