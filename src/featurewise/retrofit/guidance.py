"""``guide``: classifier-free guidance of a conditioned network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, ShapeError, TaskRepresentation, _torch
from featurewise.core.kernels import cast, compute_dtype
from featurewise.core.numbers import WANTED, is_finite, is_float
from featurewise.retrofit import calls
from featurewise.retrofit.conditioned import Conditioned
from featurewise.retrofit.errors import CallError
from featurewise.retrofit.rows import Rows


def guide(
    net: Conditioned,
    *args: Any,
    condition: Any = None,
    task: TaskRepresentation | Tensor | None = None,
    weight: int | float | Tensor,
    null: Any = None,
    repeat: str | None = None,
    rows: Rows | None = None,
    **kwargs: Any,
) -> Any:
    """Run a network with and without its condition, and extrapolate between the two outputs.

    ``base + weight * (conditional - base)``: weight 0 gives the unconditional output and 1 the
    conditional output, both exactly; above 1 the effect of the condition is amplified. In the
    notation of the source, weight = 1 + w. The generator should be trained with random dropout
    of the condition (``generators.Optional``).

    The network runs twice, or once if the weight is the number 0 or 1. Two calls are correct for
    every network; a batch doubled along its first axis is not (batch statistics, batches on other
    axes, inputs without a batch axis).

    Args:
        net: the conditioned network.
        *args: positional arguments of the network.
        condition: as in ``net(...)``.
        task: as in ``net(...)``.
        weight: guidance weight; a number, or ``(B,)``, one per row of outputs with the batch first.
        null: the condition of the base output (a negative prompt), or a ``TaskRepresentation``;
            default: the backbone without conditioning.
        repeat: as in ``net(...)``.
        rows: as in ``net(...)``.
        **kwargs: keyword arguments of the network.

    Returns:
        What the network returns, with guidance applied to every floating-point tensor.

    Raises:
        CallError: as ``net(...)``; or, within ``net.using``, a base output that does not exist
            because an operation has no identity.
        ArgumentTypeError: a weight that is neither a number nor a floating-point tensor, or outputs
            that cannot be blended.
        ShapeError: a weight that is not one number per row, or two outputs of different shapes.

    Source:
        Ho & Salimans 2022, *Classifier-Free Diffusion Guidance*, eq. 6.

    Example:
        >>> from torch import nn
        >>> from featurewise.generators import Linear, Optional
        >>> from featurewise.retrofit import condition
        >>> net = condition(nn.Linear(3, 4), at="", generator=Optional(Linear(2)))
        >>> x, z = torch.randn(5, 3), torch.randn(5, 2)
        >>> guide(net, x, condition=z, weight=3.0).shape
        torch.Size([5, 4])
    """
    if not isinstance(net, Conditioned):
        raise ArgumentTypeError(f"net must be a conditioned network, got {type(net).__name__}")
    _check_weight(weight)
    mapped: dict[str, Any] = {"repeat": repeat, "rows": rows}
    if not isinstance(weight, Tensor) and weight == 0:
        return _base(net, null, args, kwargs, mapped)
    conditional = net(*args, condition=condition, task=task, **mapped, **kwargs)
    if not isinstance(weight, Tensor) and weight == 1:
        return conditional
    return _blend(_base(net, null, args, kwargs, mapped), conditional, weight)


def _check_weight(weight: object) -> None:
    if isinstance(weight, Tensor):
        if not is_float(weight):
            raise ArgumentTypeError(f"weight must be {WANTED}, got {weight.dtype}")
        if weight.ndim > 1:
            raise ShapeError(f"weight must be a number or (B,), got {tuple(weight.shape)}")
    elif not isinstance(weight, int | float) or isinstance(weight, bool):
        raise ArgumentTypeError(f"weight must be a number or a tensor, got {type(weight).__name__}")
    elif not is_finite(weight):
        raise ShapeError(f"weight must be finite, got {short(weight)}")


def _base(
    net: Conditioned,
    null: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    mapped: dict[str, Any],
) -> Any:
    if isinstance(null, TaskRepresentation):
        return net(*args, task=null, **mapped, **kwargs)
    if null is not None:
        return net(*args, condition=null, **mapped, **kwargs)
    if calls.active(net._owner) is None:
        return net.backbone(*args, **kwargs)
    # Within `using` the backbone is conditioned; a call with an identity task undoes that.
    if not net.layout.neutral:
        raise CallError(
            "within net.using() guide needs operations that all have an identity; call it outside "
            "of the block"
        )
    return net(*args, task=_identity(net), **kwargs)


def _identity(net: Conditioned) -> TaskRepresentation:
    start = TaskRepresentation.identity(net.layout)
    like = next(net.backbone.parameters(), None)
    return start if like is None else start.to(like.device)


def _blend(base: Any, conditional: Any, weight: int | float | Tensor) -> Any:
    mine, structure = _torch.tree_flatten(base)
    theirs, other = _torch.tree_flatten(conditional)
    if structure != other:
        raise ArgumentTypeError(f"the outputs differ in structure: {structure} and {other}")
    leaves = [
        _leaf(a, b, weight, place) for place, (a, b) in enumerate(zip(mine, theirs, strict=True))
    ]
    return _torch.tree_unflatten(leaves, structure)


def _leaf(base: Any, conditional: Any, weight: int | float | Tensor, place: int) -> Any:
    if not isinstance(base, Tensor) or not isinstance(conditional, Tensor):
        if type(base) is type(conditional) and _plain(base) and base == conditional:
            return base
        raise ArgumentTypeError(
            f"leaf {place} of the output is a {type(conditional).__name__}; guidance "
            "applies to floating-point tensors and leaves equal constants"
        )
    if not is_float(conditional):
        raise ArgumentTypeError(
            f"leaf {place} of the output is {conditional.dtype}; guidance needs floating point"
        )
    if base.shape != conditional.shape:
        raise ShapeError(
            f"leaf {place} of the output is {tuple(base.shape)} without and "
            f"{tuple(conditional.shape)} with the condition"
        )
    if isinstance(weight, Tensor) and weight.ndim == 1:
        if conditional.shape[:1] != weight.shape:
            raise ShapeError(
                f"weight must be a number or one per row: got {tuple(weight.shape)} for leaf "
                f"{place} of the output, {tuple(conditional.shape)}"
            )
        weight = weight.reshape(-1, *(1,) * (conditional.ndim - 1))
    compute = compute_dtype(conditional)
    if isinstance(weight, Tensor):
        weight = weight.to(conditional.device, compute)
    # `lerp` is exact at both ends, unlike the formula as written, except where one end is
    # infinite: there the other end is copied.
    ends = cast(base, compute), cast(conditional, compute)
    blended = torch.lerp(*ends, weight)
    if isinstance(weight, Tensor):
        for end, at in zip(ends, (0, 1), strict=True):
            blended = blended.where(blended.isfinite() | (weight != at), end)
    return cast(blended, conditional.dtype)


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
