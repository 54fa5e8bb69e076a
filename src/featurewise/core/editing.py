"""``Edit``: some numbers of a task representation, selected by site, parameter and feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from featurewise.common.text import short
from featurewise.core.broadcast import shape_of
from featurewise.core.errors import ArgumentTypeError, LayoutError, ShapeError
from featurewise.core.numbers import WANTED, is_finite, is_float, is_number, readable
from featurewise.core.patterns import matching
from featurewise.core.site import Layout, Site


@runtime_checkable
class _Vector(Protocol):
    """The part of ``TaskRepresentation`` that an edit uses; that module imports this one."""

    layout: Layout
    flat: Tensor

    def _with(self, flat: Tensor) -> Any: ...

    def _pair(self, other: object) -> tuple[Tensor, Tensor]: ...

    def __mul__(self, weight: Any) -> Any: ...


T = TypeVar("T", bound=_Vector)


class Edit(Generic[T]):
    """Selected numbers of a task representation, to be changed. Made by ``task.edit(...)``.

    Every change returns a new task representation, differentiable in the old one and in the new
    values. The numbers that are not selected keep their exact values. Numbers are raw: zero is the
    identity for the usual operations, see ``featurewise.core.operation``.

    Args:
        task: the task representation to edit.
        at: a pattern of site names, or several; None means all sites.
        parameter: name of one parameter; None means all of them.
        features: indices of features (an integer, a list, a slice, a vector of integers or of
            booleans), the same at each site; None means all features. With indices, parameters
            that are not per feature (the row terms of ``RowColumn``) are not selected.

    Raises:
        LayoutError: if no site or no parameter matches.
        ShapeError: if a site has no such feature, or the selection is empty.
        ArgumentTypeError: an argument of the wrong kind.

    Example:
        >>> from featurewise.core import Affine, TaskRepresentation
        >>> layout = Layout((Site("a", 2, Affine()), Site("b", 3, Affine())))
        >>> task = TaskRepresentation(layout, torch.arange(1.0, 11.0))
        >>> task.edit(at="b", parameter="gamma", features=[0, 2]).zero().flat
        tensor([ 1.,  2.,  3.,  4.,  0.,  6.,  0.,  8.,  9., 10.])
    """

    __slots__ = ("mask", "task")

    def __init__(
        self,
        task: T,
        at: str | Sequence[str] | None = None,
        parameter: str | None = None,
        features: Any = None,
    ) -> None:
        self.task = task
        self.mask = selected(task.layout, at, parameter, features)

    def __len__(self) -> int:
        """How many numbers of one task are selected."""
        return int(self.mask.sum())

    def __repr__(self) -> str:
        return f"Edit({len(self)} of {self.task.layout.size} numbers)"

    def zero(self) -> T:
        """Set the numbers to raw zero: γ = 1 and β = 0 for the usual operations."""
        return self._put(torch.zeros_like(self.task.flat))

    def set(self, value: int | float | Tensor) -> T:
        """Set the numbers to given values.

        Args:
            value: one number for all, or a tensor ``(K,)`` or ``(B, K)`` for the K selected
                numbers (K is ``len(edit)``), in the order of the flat vector. With ``(B, K)`` a
                single task becomes a batch.

        Raises:
            ShapeError: a tensor of another shape, or a number that is not finite.
            ArgumentTypeError: neither a number nor a floating-point tensor.
        """
        flat = self.task.flat
        if not isinstance(value, Tensor):
            return self._put(torch.full_like(flat, _finite(value, "value")))
        if not is_float(value):
            raise ArgumentTypeError(f"value must be {WANTED}, got {value.dtype}")
        if readable(value) and not bool(value.isfinite().all()):
            raise ShapeError("value must be finite, it holds NaN or an infinity")
        if value.ndim == 0:
            return self._put(value.to(flat).expand_as(flat))
        count, rows = len(self), flat.shape[:1] if flat.ndim > 1 else value.shape[:-1]
        if value.ndim > 2 or value.shape not in ((count,), (*rows, count)):
            raise ShapeError(
                f"value must be a number, ({count},) or (B, {count}) for {count} selected numbers "
                f"of flat {shape_of(flat)}, got {shape_of(value)}"
            )
        if flat.ndim == 1 and value.ndim == 2:
            flat = flat.expand(len(value), -1)
        places = self.mask.nonzero().squeeze(1).to(flat.device)
        new = value.new_zeros(*value.shape[:-1], self.task.layout.size)
        new = new.index_copy(value.ndim - 1, places, value).to(flat)
        return self._put(new.reshape(*new.shape, *(1,) * (flat.ndim - 2)), flat)

    def freeze(self, to: T) -> T:
        """Set the numbers to those of another task, such as the mean of many (``tasks.mean()``).

        Args:
            to: a single task, used for every row; or a batch with the same rows and positions.

        Raises:
            LayoutError: if it has another layout.
            ShapeError: if its rows or positions differ.
        """
        own, other = self.task._pair(to)
        return self._put(other, own)

    def noise(self, std: int | float, rng: torch.Generator | None = None) -> T:
        """Add normal noise.

        Noise is sampled for all numbers, so that the noise of a number, for one seed, does not
        depend on which other numbers are selected.

        Args:
            std: standard deviation, in raw units.
            rng: random generator; default: the global one of torch.

        Raises:
            ShapeError: if ``std`` is negative or not finite.
            ArgumentTypeError: if ``std`` is not a number.
        """
        flat = self.task.flat
        if _finite(std, "std") < 0:
            raise ShapeError(f"std must be finite and not negative, got {std}")
        if rng is None:  # vmap supports only this call
            return self._put(flat + std * torch.randn_like(flat))
        noise = torch.randn(flat.shape, generator=rng, dtype=flat.dtype, device=rng.device)
        return self._put(flat + std * noise.to(flat.device))

    def scale(self, weight: int | float | Tensor) -> T:
        """Multiply the raw numbers by a number, or row by row with a tensor ``(B,)``.

        For the usual operations, weights below one move the selected numbers towards the identity,
        weights above one away from it.

        Raises:
            ShapeError: a tensor that is not one number per row, or a number that is not finite.
            ArgumentTypeError: neither a number nor a tensor.
        """
        if not isinstance(weight, Tensor):
            _finite(weight, "weight")
        scaled: T = self.task * weight
        return self._put(scaled.flat)

    def _put(self, new: Tensor, old: Tensor | None = None) -> T:
        """``new`` where selected, ``old`` elsewhere."""
        old = self.task.flat if old is None else old
        mask = self.mask.to(old.device)
        mask = mask.reshape(-1, *(1,) * (max(old.ndim, new.ndim) - 2))
        edited: T = self.task._with(torch.where(mask, new.to(old.dtype), old))
        return edited


def selected(
    layout: Layout,
    at: str | Sequence[str] | None = None,
    parameter: str | None = None,
    features: Any = None,
) -> Tensor:
    """Mask ``(N,)`` of the selected numbers of a flat vector; arguments as in ``Edit``."""
    if parameter is not None and not isinstance(parameter, str):
        raise ArgumentTypeError(f"parameter must be a name, got {type(parameter).__name__}")
    mask = torch.zeros(layout.size, dtype=torch.bool)
    views = layout.split(mask)
    sites = matching(at, layout.names)
    known = {name for site in sites for name in layout[site].parameters}
    if parameter is not None and parameter not in known:
        raise LayoutError(
            f"no site of {', '.join(sites)} has a parameter {parameter!r}; "
            f"there are {', '.join(sorted(known))}"
        )
    for site in sites:
        for name, view in views[site].items():
            if parameter in (None, name):
                _mark(view, layout[site], name, features, explicit=parameter is not None)
    if not mask.any():
        raise ShapeError("no number is selected: the sites or the features are empty")
    return mask


def _mark(view: Tensor, site: Site, name: str, features: Any, explicit: bool) -> None:
    """Set the mask at the selected features of one parameter; ``view`` is a view of the mask."""
    if features is None:
        view.fill_(True)
        return
    axis = _feature_axis(site, name)
    if axis is not None:
        torch.movedim(view, axis, 0)[_numbers(features, site)] = True
    elif explicit:
        raise LayoutError(f"site '{site.name}': {name} is not a parameter of single features")


def _feature_axis(site: Site, name: str) -> int | None:
    """The feature axis of a parameter: the axis whose size grows with the width."""
    own = site.parameters[name].shape
    wider = site.operation.parameters(site.width + 1, site.extent)[name].shape
    grown = [axis for axis, (a, b) in enumerate(zip(own, wider, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 else None


def _finite(value: Any, name: str) -> float:
    """``value`` as a finite float."""
    if not is_number(value):
        raise ArgumentTypeError(f"{name} must be a number, got {type(value).__name__}")
    if not is_finite(value):
        raise ShapeError(f"{name} must be finite, got {short(value)}")
    return float(value)


def _numbers(features: Any, site: Site) -> Tensor:
    """``features`` as a vector of feature indices of a site."""
    where, width = f"site '{site.name}'", site.width
    if isinstance(features, slice):
        return torch.arange(width)[features]
    if isinstance(features, int) and not isinstance(features, bool):
        features = [features]
    if isinstance(features, Sequence) and not isinstance(features, str):
        if not all(isinstance(f, int) for f in features):
            raise ArgumentTypeError(f"{where}: features must be integers, got {features!r}")
        kind = torch.bool if any(isinstance(f, bool) for f in features) else torch.int64
        features = torch.tensor(features, dtype=kind)
    if not isinstance(features, Tensor) or features.is_floating_point() or features.ndim != 1:
        raise ArgumentTypeError(
            f"{where}: features must be an integer, a list, a slice or a vector of integers or "
            f"booleans, got {features!r}"
        )
    numbers = features.cpu()
    if numbers.dtype == torch.bool:
        if len(numbers) != width:
            raise ShapeError(f"{where}: features must hold {width} booleans, got {len(numbers)}")
        return numbers.nonzero().squeeze(1)
    wrong = numbers[(numbers < -width) | (numbers >= width)]
    if len(wrong):
        raise ShapeError(f"{where}: there is no feature {int(wrong[0])}, it has {width}")
    return numbers.to(torch.int64)
