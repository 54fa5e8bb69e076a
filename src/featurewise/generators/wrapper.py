"""``Wrapper``: a generator that changes the prediction of an inner generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import Layout
from featurewise.generators.base import (
    _Bound,
    bind_part,
    flat_parameters,
    needs_condition,
    of_all_sites,
    unbound,
)
from featurewise.generators.errors import ConditionError


class Wrapper(_Bound, ABC):
    """Base of the generators that change the flat parameters of an inner generator.

    A subclass implements ``change``, and ``_build`` if it has state that depends on the layout.

    Args:
        generator: a ``Generator``, a wrapper, or any module that returns a flat tensor or a
            ``TaskRepresentation``.

    Attributes:
        generator: the inner generator.
        layout: the sites; None until bound.

    Raises:
        ArgumentTypeError: ``generator`` is not a module, or is a local generator.
    """

    generator: nn.Module

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = of_all_sites(generator, "generator", type(self).__name__)

    @property
    def head(self) -> nn.Module | None:
        """The head of the inner generator; None if it has none or is not bound."""
        return getattr(self.generator, "head", None)

    @abstractmethod
    def change(self, flat: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "..."]:
        """New flat parameters for those of the inner generator, ``flat``, of the same shape."""

    def forward(self, condition: Any = None) -> Float[Tensor, "..."]:
        """Flat parameters, of the same shape as those of the inner generator.

        Args:
            condition: the condition of the inner generator.

        Raises:
            LayoutError: if no layout is bound.
            ConditionError: if the condition is missing.
            ShapeError: if the output of the inner generator does not fit the layout.
            ArgumentTypeError: if that output is not a tensor or task representation.
        """
        if self.layout is None:
            raise unbound(self)
        return self.change(flat_parameters(self._inner(condition), self.layout), self.layout)

    def _inner(self, condition: Any) -> object:
        if condition is not None or isinstance(self.generator, _Bound):
            return self.generator(condition)  # it raises ConditionError itself
        if needs_condition(self.generator):
            raise ConditionError(f"{type(self.generator).__name__} needs a condition, got None")
        return self.generator()

    def _build(self, layout: Layout) -> None:
        bind_part(self.generator, layout)

    def _constant(self, name: str, value: Tensor) -> None:
        """Register a tensor that moves with the module and is not in its state dict."""
        like = next((p for p in self.parameters() if p.is_floating_point()), None)
        device = None if like is None or like.is_meta else like.device
        self.register_buffer(name, value.to(device), persistent=False)


def along(vector: Tensor, flat: Tensor) -> Tensor:
    """View ``(N,)`` or ``(B, N)`` so that it broadcasts over ``(B, N, *positions)``."""
    return vector.reshape(tuple(vector.shape) + (1,) * (flat.ndim - max(vector.ndim, 2)))
