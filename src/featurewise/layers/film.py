"""``FiLM`` as a layer of a network, with a generator or as a declared site without one."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Layout,
    Operation,
    Site,
    _torch,
    operation_of,
)
from featurewise.core.kernels import modulate
from featurewise.core.plan import Pair, Plan, pair_fits
from featurewise.generators import (
    ConditionError,
    Generator,
    GeneratorError,
    Linear,
    LocalGenerator,
    flat_parameters,
)
from featurewise.generators.base import positive


class FiLM(nn.Module):
    """Modulates features by a condition: ``γ(z) * x + β(z)`` (Perez et al. 2018, eq. 2).

    * ``FiLM(C, F)``: conditions ``(B, F)`` and one linear map, which starts at the identity.
    * ``FiLM(C, generator=g)``: any generator; it is bound to this site.
    * ``FiLM(C)``: a *declared site*: exactly the identity, until ``featurewise.condition``
      selects it by name or type and modulates its output, by default with its operation.

    Args:
        features: width C of the features.
        condition_features: width F of the condition.
        operation: the operation on the features, or its name.
        axis: feature axis of x.
        batch_axis: axis of the samples, or None if there is none.
        generator: condition -> parameters of this site; instead of ``condition_features``.

    Attributes:
        layout: a single site, named "film".
        generator: its generator, or None.

    Raises:
        GeneratorError: if both ``condition_features`` and ``generator`` are given.
        ShapeError: if the width is not positive, or the operation needs sizes of positions.
        OperationError: an unknown name of an operation.
        LayoutError: if the generator is bound to another layout.
        ArgumentTypeError: an argument of the wrong type.

    Example:
        >>> import torch
        >>> film = FiLM(64, 16)
        >>> film(torch.randn(8, 64, 14, 14), torch.randn(8, 16)).shape
        torch.Size([8, 64, 14, 14])
    """

    generator: nn.Module | None

    def __init__(
        self,
        features: int,
        condition_features: int | None = None,
        *,
        operation: Operation | str = Affine(),  # noqa: B008 (frozen)
        axis: int = 1,
        batch_axis: int | None = 0,
        generator: nn.Module | None = None,
    ) -> None:
        super().__init__()
        _check(features, axis, generator)
        if condition_features is not None:
            if generator is not None:
                raise GeneratorError("give condition_features or a generator, not both")
            generator = Linear(positive(condition_features, "condition_features"))
        site = Site("film", features, operation_of(operation), axis, batch_axis)
        self.layout = Layout((site,))
        self._plan = Plan(self.layout)
        if isinstance(generator, Generator | LocalGenerator):
            generator.bind(self.layout)
        self.register_module("generator", generator)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._plan = Plan(self.layout)  # layers pickled by version 0.1 have none

    def forward(self, x: Float[Tensor, "..."], condition: Any = None) -> Float[Tensor, "..."]:
        """Features of the shape and dtype of ``x``.

        Args:
            x: features, C of them on ``axis``; samples on ``batch_axis``.
            condition: the condition of the generator; None at a declared site.

        Raises:
            ConditionError: if the condition is missing, or given to a declared site.
            ShapeError: a shape that does not fit.
            ArgumentTypeError: an argument of the wrong type, dtype or device.
        """
        generator = self.generator  # once, as a module looks its parts up slowly
        if generator is None:
            return self._untouched(x, condition)
        if isinstance(generator, LocalGenerator):
            (site,) = self.layout
            return site.modulate(x, generator(site, x, condition, None)[0])
        return self.modulate(x, *self.parameters_for(x, condition))

    @property
    def is_fusable(self) -> bool:
        """Whether a norm may apply the scale and the shift itself, without a call of this layer.

        Not where the call does more: in a subclass, with another ``forward``, or with hooks.
        """
        return (
            type(self) is FiLM
            and self.generator is not None
            and not isinstance(self.generator, LocalGenerator)
            and not _torch.has_own_call(self)
        )

    def modulate(self, x: Tensor, flat: Tensor, pair: Pair | None) -> Tensor:
        """Features modulated by what `parameters_for` returned."""
        (site,) = self.layout.sites
        if pair is None:
            return site.modulate(x, self.layout.split_site(flat, site.name))
        batch = None if site.batch_axis is None else site.batch_axis % x.ndim
        return modulate(x, *pair, site.axis % x.ndim, batch)

    def parameters_for(self, x: Tensor, condition: Any) -> tuple[Tensor, Pair | None]:
        """What the generator makes of a condition: raw parameters, and scale and shift.

        Args:
            x: features.
            condition: the condition of the generator, which is not a local one.

        Returns:
            The flat raw parameters; scale and shift ``(C,)`` or ``(B, C)``, or None where the
            operation is not a scale and a shift, or where ``Site.modulate`` has to look at them.

        Raises:
            ConditionError: if the condition or the generator is missing.
        """
        generator = self.generator
        if generator is None:
            raise ConditionError("this FiLM is a declared site without a generator")
        (site,) = self.layout.sites
        if condition is None and not isinstance(generator, Generator):
            raise ConditionError("FiLM needs a condition, got None")
        flat = flat_parameters(generator(condition), self.layout)
        pairs = self._plan.pairs(flat)
        pair = None if pairs is None else pairs[0]
        if pair is not None and not pair_fits(x, pair, site.width, site.axis, site.batch_axis):
            pair = None
        return flat, pair

    def _untouched(self, x: Tensor, condition: Any) -> Tensor:
        if condition is not None:
            raise ConditionError(
                "this FiLM is a declared site without a generator and takes no condition: "
                "pass condition_features or a generator, or condition the whole network"
            )
        return x

    def extra_repr(self) -> str:
        """Width, operation and axis, for ``repr``."""
        (site,) = self.layout
        return f"{site.width}, {site.operation}, axis={site.axis}"


def _check(features: object, axis: object, generator: object) -> None:
    for name, value in (("features", features), ("axis", axis)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ArgumentTypeError(f"{name} must be an integer, got {type(value).__name__}")
    if generator is not None and not isinstance(generator, nn.Module):
        raise ArgumentTypeError(
            f"generator must be a module or None, got {type(generator).__name__}"
        )
