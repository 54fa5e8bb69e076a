"""The broadcasting rule of the library.

A parameter of a site declares its own shape S (usually ``(C,)``, the width). It may be given as

* ``S``: shared by the whole batch,
* ``(B, *S)``: one per sample,
* ``(B, *S, *positions)``: one per time step, token or pixel; a position of size 1 is repeated.
  Positions are the remaining axes of the features, in their order.

The three differ in rank, so they cannot be confused. Nothing else is broadcast. Positions of other
sizes raise an error, unless the site has a ``resize`` rule (``resample``).
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core.errors import ArgumentTypeError, ShapeError
from featurewise.core.numbers import FLOATS, WANTED


def feature_axis(x: object, axis: int, batch_axis: int | None, where: str) -> int:
    """Check features ``x`` and their axes; return the feature axis counted from the front.

    Args:
        x: features; a floating-point tensor.
        axis: feature axis; negative counts from the end.
        batch_axis: axis of the samples, or None where there is none.
        where: name of the site or caller in error messages.

    Raises:
        ArgumentTypeError: if ``x`` is not a floating-point tensor, or an axis is not an integer.
        ShapeError: if an axis is out of range, or both axes coincide.
    """
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"{where}: x must be a tensor, got {type(x).__name__}")
    if x.dtype not in FLOATS:
        raise ArgumentTypeError(f"{where}: x must be {WANTED}, got {x.dtype}")
    front = position_of(axis, x.ndim, "axis", where)
    if batch_axis is not None and position_of(batch_axis, x.ndim, "batch_axis", where) == front:
        raise ShapeError(f"{where}: axis and batch_axis are both axis {front} of x{shape_of(x)}")
    return front


def check_features(x: object, width: int, axis: int, batch_axis: int | None, where: str) -> int:
    """Check features ``x`` against a site and return the feature axis counted from the front.

    Args:
        x: features; a floating-point tensor whose size along ``axis`` is ``width``.
        width: number of features C.
        axis: feature axis; negative counts from the end.
        batch_axis: axis of the samples, or None where there is none.
        where: name of the site or caller in error messages.

    Raises:
        ArgumentTypeError: if ``x`` is not a floating-point tensor, or an axis is not an integer.
        ShapeError: if an axis is out of range, both axes coincide, or the width differs.
    """
    front = feature_axis(x, axis, batch_axis, where)
    if isinstance(x, Tensor) and x.shape[front] != width:
        raise ShapeError(
            f"{where}: expected {width} features on axis {axis}, "
            f"x{shape_of(x)} has {x.shape[front]} there"
        )
    return front


def check_parameter(
    value: object,
    x: Tensor,
    shape: tuple[int, ...],
    positional: bool,
    axis: int,
    batch_axis: int | None,
    name: str,
    where: str,
) -> None:
    """Check one parameter tensor against the rule of this module (axes from the front).

    Raises:
        ArgumentTypeError: not a floating-point tensor, or on another device than ``x``.
        ShapeError: a shape that is not one of the three allowed ones.
    """
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{where}: {name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in FLOATS:
        raise ArgumentTypeError(f"{where}: {name} must be {WANTED}, got {value.dtype}")
    if value.device != x.device:
        raise ArgumentTypeError(f"{where}: {name} is on {value.device}, x is on {x.device}")
    hint = ""
    if value.ndim == len(shape) and value.shape == shape:  # sizes of other ranks may be symbols
        return
    if batch_axis is not None and value.shape[: 1 + len(shape)] == (x.shape[batch_axis], *shape):
        rest = value.shape[1 + len(shape) :]
        full = positions(x, axis, batch_axis)
        if not rest or (positional and _broadcasts(rest, full)):
            return
        if positional and len(rest) == len(full):
            hint = (
                "; with resize='nearest' (or another rule) the site resizes positions to those of x"
            )
    raise ShapeError(
        f"{where}: {name}{shape_of(value)} has none of the shapes "
        f"{_allowed(x, shape, positional, axis, batch_axis)} for x{shape_of(x)}{hint}"
    )


def align(value: Tensor, x: Tensor, axis: int, batch_axis: int | None) -> Tensor:
    """View a checked parameter of one axis so that it broadcasts over ``x`` (axes from the front).

    Args:
        value: ``(C,)``, ``(B, C)`` or ``(B, C, *positions)``.
        x: features with C on ``axis`` and B on ``batch_axis``.
        axis: feature axis, not negative.
        batch_axis: sample axis, not negative, or None.
    """
    rank, own = x.ndim, value.ndim
    if own == 1:
        return value.reshape((-1,) + (1,) * (rank - 1 - axis))
    batch = 0 if batch_axis is None else batch_axis
    if own == 2 and batch < axis:  # one view, as each costs a node in the backward pass
        samples, width = value.shape
        if axis == 1:  # and so batch is 0: the most frequent case
            return value if rank == 2 else value.reshape((samples, width) + (1,) * (rank - 2))
        around = (1,) * batch, (1,) * (axis - batch - 1), (1,) * (rank - 1 - axis)
        return value.reshape((*around[0], samples, *around[1], width, *around[2]))
    if own == 2:
        value = value.reshape(tuple(value.shape) + (1,) * (rank - 2))
    return value if (batch, axis) == (0, 1) else torch.movedim(value, (0, 1), (batch, axis))


#: Rules of ``resample`` -> modes of torch for one, two and three position axes.
RESAMPLING: Final = {
    "nearest": ("nearest-exact",) * 3,
    "linear": ("linear", "bilinear", "trilinear"),
    "area": ("area",) * 3,
}


def resample(value: Tensor, own: int, sizes: tuple[int, ...], rule: str) -> Tensor:
    """Resize a parameter to other positions.

    Args:
        value: ``(B, *S, *positions)``; a position axis of size 1 stays, since it is broadcast.
        own: number of axes of S.
        sizes: new sizes of the position axes, one to three, as many as ``value`` has.
        rule: "nearest" takes the nearest position, "linear" interpolates linearly along each axis
            (positions are the centres of equal cells), "area" averages over a cell.

    Returns:
        ``(B, *S, *sizes)``, or ``value`` itself where the sizes are equal already.
    """
    given = value.shape[1 + own :]
    wanted = [1 if g == 1 else size for g, size in zip(given, sizes, strict=True)]
    if list(given) == wanted:
        return value
    flat = value.reshape(value.shape[0], -1, *given)
    mode = RESAMPLING[rule][len(sizes) - 1]
    return F.interpolate(flat, size=wanted, mode=mode).reshape(*value.shape[: 1 + own], *wanted)


def positions(x: Tensor, axis: int, batch_axis: int | None) -> tuple[int, ...]:
    """Sizes of the axes of ``x`` that hold neither features nor samples (axes from the front)."""
    return tuple(size for i, size in enumerate(x.shape) if i not in (axis, batch_axis))


def position_of(axis: int, ndim: int, name: str, where: str) -> int:
    """Count ``axis`` from the front.

    Raises:
        ArgumentTypeError: if ``axis`` is not an integer.
        ShapeError: if a tensor of ``ndim`` axes has no such axis.
    """
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise ArgumentTypeError(f"{where}: {name} must be an integer, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{where}: {name}={axis} is not an axis of a tensor with {ndim} axes")
    return axis % ndim


def shape_of(x: Tensor) -> str:
    """Shape as ``(2, 3)``, for error messages."""
    return str(tuple(x.shape))


def _broadcasts(given: tuple[int, ...], full: tuple[int, ...]) -> bool:
    return len(given) == len(full) and all(g in (1, f) for g, f in zip(given, full, strict=True))


def _allowed(
    x: Tensor, shape: tuple[int, ...], positional: bool, axis: int, batch_axis: int | None
) -> str:
    """The shapes a parameter may have over ``x``, as text for an error."""
    allowed = [str(shape)]
    if batch_axis is not None:
        sample = (x.shape[batch_axis], *shape)
        allowed.append(str(sample))
        rest = positions(x, axis, batch_axis)
        if positional and rest:
            allowed.append(f"{(*sample, *rest)} (any position may be 1)")
    return ", ".join(allowed)
