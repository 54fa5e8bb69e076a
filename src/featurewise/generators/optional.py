"""``Optional``: conditions that may be missing, in training at random; ``Masked`` says which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, Layout, ShapeError, _torch
from featurewise.core.numbers import is_finite
from featurewise.generators.base import (
    _Bound,
    bind_part,
    flat_parameters,
    of_all_sites,
    unbound,
)
from featurewise.generators.errors import ConditionError, GeneratorError


@dataclass(frozen=True, eq=False)
class Masked:
    """A condition of which some rows are missing. It is a pytree.

    Attributes:
        condition: the condition of the generator, with B rows. Missing rows need placeholders:
            any values in floating-point tensors (they are replaced by zeros), valid ids
            otherwise.
        present: ``(B,)`` booleans, False where the condition is missing; ``()`` for one sample,
            as inside ``vmap``.

    Raises:
        ConditionError: if the condition is None.
        ArgumentTypeError: if ``present`` is not a tensor of booleans.
        ShapeError: if it has more than one axis.
    """

    condition: Any
    present: Tensor

    def __post_init__(self) -> None:
        if self.condition is None:
            raise ConditionError(
                "the condition of Masked must not be None; for no condition pass None itself"
            )
        if not isinstance(self.present, Tensor) or self.present.dtype != torch.bool:
            kind = getattr(self.present, "dtype", type(self.present).__name__)
            raise ArgumentTypeError(f"present must be a tensor of booleans, got {kind}")
        if self.present.ndim > 1:
            raise ShapeError(f"present must be (B,), got {tuple(self.present.shape)}")


_torch.register_record(Masked, ["condition", "present"], "featurewise.Masked")


class WithDefault(_Bound):
    """Base of the generators that may return the start values of their layout.

    Attributes:
        start: ``layout.start()``, ``(N,)``; None until bound; not in the state dict.
    """

    start: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("start", None, persistent=False)

    def _build(self, layout: Layout) -> None:
        like = next((p for p in self.parameters() if p.is_floating_point()), None)
        start = layout.start()
        self.start = start if like is None else start.to(like.device, like.dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Restore the start values, after ``to_empty``."""
        if self.layout is not None and self.start is not None:
            self.start.copy_(self.layout.start())

    def _bound_start(self) -> tuple[Layout, Tensor]:
        if self.layout is None or self.start is None:
            raise unbound(self)
        return self.layout, self.start


class Optional(WithDefault):
    """A generator whose condition may be missing; without it the network is unmodified.

    The parameters of a missing row are exactly ``layout.start()``. In training each row is dropped
    with probability ``drop``, so that the network also learns to work without a condition, as
    classifier-free guidance needs it (Ho & Salimans 2022, algorithm 1; ``retrofit.guide``).

    Args:
        generator: any generator of all parameters at once.
        drop: probability that a row of the condition is dropped in training.

    Raises:
        ArgumentTypeError: ``generator`` is not a module or is a local generator, or ``drop`` is not
            a number.
        GeneratorError: ``drop`` outside [0, 1].

    Example:
        >>> from featurewise.core import Affine, Site
        >>> from featurewise.generators import Linear
        >>> generator = Optional(Linear(3), drop=0.1)
        >>> generator.bind(Layout((Site("conv", 8, Affine()),)))
        >>> present = torch.tensor([True, False])
        >>> generator(Masked(torch.randn(2, 3), present)).shape
        torch.Size([2, 16])
    """

    generator: nn.Module

    def __init__(self, generator: nn.Module, drop: int | float = 0.1) -> None:
        super().__init__()
        self.generator = of_all_sites(generator, "generator", type(self).__name__)
        if not isinstance(drop, int | float) or isinstance(drop, bool):
            raise ArgumentTypeError(f"drop must be a number, got {type(drop).__name__}")
        if not (is_finite(drop) and 0 <= drop <= 1):
            raise GeneratorError(f"drop must lie in [0, 1], got {short(drop)}")
        self.drop = float(drop)

    def _build(self, layout: Layout) -> None:
        bind_part(self.generator, layout)
        super()._build(layout)

    def forward(self, condition: Any = None) -> Float[Tensor, "..."]:
        """Flat parameters ``(N,)``, ``(B, N)`` or ``(B, N, *positions)``.

        Args:
            condition: the condition of the generator; ``Masked`` if rows are missing; None for no
                condition, for which the result is the start values ``(N,)``.

        Raises:
            LayoutError: if no layout is bound.
            ShapeError: if ``present`` does not have one boolean per row.
            ConditionError: as the generator raises it.
            ArgumentTypeError: ``present`` is on another device; or as the generator raises it.
        """
        layout, start = self._bound_start()
        if condition is None:
            return start.view(-1)
        present: Tensor | None = None
        if isinstance(condition, Masked):
            present = condition.present
            if present.device != start.device:
                raise ArgumentTypeError(
                    f"present is on {present.device}, the generator is on {start.device}"
                )
            condition = _readable(condition.condition, present)
        flat = flat_parameters(self.generator(condition), layout)
        if present is not None:
            _check_rows(present, flat)
        if self.training and self.drop > 0:
            rows = flat.shape[: min(flat.ndim - 1, 1)] if present is None else present.shape
            kept = torch.rand(rows, device=flat.device) >= self.drop
            present = kept if present is None else present & kept
        return flat if present is None else _where(present, flat, start)

    def extra_repr(self) -> str:
        """The probability, for ``repr``."""
        return f"drop={self.drop}"


def _check_rows(present: Tensor, flat: Tensor) -> None:
    if flat.ndim > 1 and present.shape != flat.shape[:1]:
        raise ShapeError(
            f"present must be ({flat.shape[0]},), one boolean for each row of the condition, "
            f"got {tuple(present.shape)}"
        )


def _where(present: Tensor, flat: Tensor, start: Tensor) -> Tensor:
    """``flat`` where present, else the start values."""
    positions = (1,) * (flat.ndim - 2)
    start = start.to(flat.dtype).reshape(-1, *positions)
    if present.ndim == 1:
        present = present.reshape(-1, 1, *positions)
    return torch.where(present, flat, start)


def _readable(condition: Any, present: Tensor) -> Any:
    """The condition with zeros in missing rows, so that NaN there does not enter gradients."""
    leaves, structure = _torch.tree_flatten(condition)
    return _torch.tree_unflatten([_without_missing(leaf, present) for leaf in leaves], structure)


def _without_missing(leaf: Any, present: Tensor) -> Any:
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    if present.ndim == 0:
        return torch.where(present, leaf, 0.0)
    if leaf.ndim < 2 or leaf.shape[0] != present.shape[0]:
        return leaf  # shared by all rows
    return torch.where(present.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0.0)
