"""``GatedGenerator``: learned multipliers for each site and parameter, initialised to zero."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, Layout
from featurewise.core.numbers import is_finite
from featurewise.generators.base import Head
from featurewise.generators.errors import GeneratorError
from featurewise.generators.wrapper import Wrapper, along


class GatedGenerator(Wrapper):
    """Multiplies the prediction of a generator by a learned scalar for each site and parameter.

    ``γ = 1 + γ0 · h(z)`` and ``β = β0 · g(z)`` with scalars γ0 and β0 at every site. Initialised to
    zero, they let the conditioning of each site grow during training; their weight decay controls
    how far. ``parameter_groups`` gives them a weight-decay group of their own (paper: 0.01).

    If a multiplier and the prediction are both zero, neither receives a gradient. With ``start=0``,
    ``bind`` therefore re-initialises those heads, tables and vectors of the inner generator that
    are still at the identity, at random, with unit variance for conditions of unit variance. The
    network is still exactly the unmodified one, since the multipliers are zero. With another
    ``start`` the inner generator is unchanged, at the identity.

    Args:
        generator: the inner generator.
        start: initial value of the multipliers.

    Attributes:
        multipliers: one number for each site and parameter, in the order of the layout; None
            until bound.

    Raises:
        GeneratorError: ``start`` is not finite, or ``generator`` contains a `GatedGenerator`.
        ArgumentTypeError: ``start`` is not a number, or ``generator`` is not a module or is a local
            generator.

    Source:
        Oreshkin et al. 2018, *TADAM*, section 2.2.
    """

    multiplier_weights: ClassVar[tuple[str, ...]] = ("multipliers",)
    multipliers: nn.Parameter | None
    places: Tensor
    start_values: Tensor

    def __init__(self, generator: nn.Module, start: float = 0.0) -> None:
        super().__init__(generator)
        if not isinstance(start, int | float) or isinstance(start, bool):
            raise ArgumentTypeError(f"start must be a number, got {type(start).__name__}")
        if not is_finite(start):
            raise GeneratorError(f"start must be finite, got {short(start)}")
        if any(isinstance(module, GatedGenerator) for module in generator.modules()):
            raise GeneratorError("the generator contains a GatedGenerator already; use only one")
        self.start = float(start)
        self.register_parameter("multipliers", None)

    def _build(self, layout: Layout) -> None:
        super()._build(layout)
        sizes = [math.prod(p.shape) for site in layout for p in site.parameters.values()]
        if self.start == 0.0:
            _randomize_head(self.generator, layout)
        like = next((p for p in self.parameters() if p.is_floating_point()), None)
        device, dtype = (None, None) if like is None else (like.device, like.dtype)
        full = torch.full((len(sizes),), self.start, device=device, dtype=dtype)
        self.multipliers = nn.Parameter(full)
        # With output_size, since values cannot be read on the meta device.
        places = torch.arange(len(sizes))
        self._constant(
            "places", places.repeat_interleave(torch.tensor(sizes), output_size=sum(sizes))
        )
        self._constant("start_values", layout.start())

    def change(self, flat: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "..."]:
        """``flat`` with its deviation from the start values multiplied by the multipliers."""
        if self.multipliers is None:
            raise GeneratorError("a GatedGenerator was bound without its multipliers")
        start = along(self.start_values.to(flat.dtype), flat)
        return start + along(self.multipliers[self.places], flat) * (flat - start)

    def by_site(self) -> dict[str, dict[str, float]]:
        """The multipliers, ``{site: {parameter: number}}``; empty until bound."""
        if self.layout is None or self.multipliers is None:
            return {}
        numbers = iter(self.multipliers.detach().tolist())
        return {site.name: {p: next(numbers) for p in site.parameters} for site in self.layout}

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"start={self.start}"


@torch.no_grad()
def _randomize_head(generator: nn.Module, layout: Layout) -> None:
    """Randomise weights that are at the identity, so that zero multipliers receive gradients."""
    start = layout.start()
    for module in generator.modules():
        declared = getattr(module, "head_weights", ())
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta or not parameter.is_floating_point():
                continue
            if isinstance(module, Head) and name == "weight":
                if not parameter.any():
                    nn.init.normal_(parameter, std=module.in_features**-0.5)
            elif name in declared:
                if (
                    parameter.shape[-1:] == start.shape
                    and not (parameter - start.to(parameter)).any()
                ):
                    parameter.add_(torch.randn_like(parameter))
            elif parameter.ndim > 1 and not parameter.any():
                raise GeneratorError(
                    f"{type(module).__name__}.{name} of the generator is zero, and the multipliers "
                    "start at zero: neither has a gradient; initialise it, or pass start=0.1"
                )
