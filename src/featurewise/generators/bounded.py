"""``Bounded``: smooth bounds on scales and shifts."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, Layout, Site
from featurewise.core.numbers import is_finite
from featurewise.generators.errors import GeneratorError
from featurewise.generators.wrapper import Wrapper, along

Range = tuple[float, float]
_IDENTITY: Final = {"gamma": 1.0, "beta": 0.0}


class Bounded(Wrapper):
    """Keep the effective γ and β of all sites within bounds, by a tanh on each side.

    A deviation d from the identity becomes ``r tanh(d / r)``, where r is the distance from the
    identity to the bound on that side. The identity stays exact, small deviations are almost
    unchanged (slope one), and no bound is exceeded. ``gamma=(0.0, 2.0)`` keeps signs,
    ``gamma=(0.5, 1.5)`` keeps a network near the unmodified one.

    Args:
        generator: the inner generator.
        gamma: lowest and highest scale, with one between them; None for no bounds.
        beta: lowest and highest shift, with zero between them; None for no bounds.

    Raises:
        GeneratorError: bounds that are not finite or not on both sides of the identity, or no
            bounds; in ``bind``: no site has the parameter, or an operation whose raw γ is not the
            offset of the scale from one (``Gate``, which is bounded already, ``exp`` and others).
        ArgumentTypeError: an argument of the wrong type.
    """

    above: Tensor
    below: Tensor
    limited: Tensor
    start_values: Tensor

    def __init__(
        self, generator: nn.Module, gamma: Range | None = None, beta: Range | None = None
    ) -> None:
        super().__init__(generator)
        self.ranges = {
            name: _range(bounds, name)
            for name, bounds in (("gamma", gamma), ("beta", beta))
            if bounds is not None
        }
        if not self.ranges:
            raise GeneratorError("Bounded needs bounds: gamma=(low, high), beta=(low, high)")

    def _build(self, layout: Layout) -> None:
        missing = [
            name for name in self.ranges if not any(name in site.parameters for site in layout)
        ]
        if missing:
            raise GeneratorError(f"no site has a parameter called {missing[0]} to be bounded")
        below: list[float] = []
        above: list[float] = []
        for site in layout:
            for name, parameter in site.parameters.items():
                down, up = self._reach(site, name)
                below += [down] * math.prod(parameter.shape)
                above += [up] * math.prod(parameter.shape)
        super()._build(layout)
        limited = ~torch.tensor(above).isnan()
        self._constant("limited", limited)
        # One where there is no bound: the result there is discarded, but must be finite.
        self._constant("below", torch.where(limited, torch.tensor(below), 1.0))
        self._constant("above", torch.where(limited, torch.tensor(above), 1.0))
        self._constant("start_values", layout.start())

    def change(self, flat: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "..."]:
        """``flat``, with its deviation from the start values limited."""
        start, below, above = (
            along(constant.to(flat.dtype), flat)
            for constant in (self.start_values, self.below, self.above)
        )
        away = flat - start
        radius = torch.where(away >= 0, above, below)
        return torch.where(
            along(self.limited, flat), start + radius * torch.tanh(away / radius), flat
        )

    def _reach(self, site: Site, name: str) -> Range:
        """Largest deviation below and above the identity; NaN if the parameter is not bounded."""
        if name not in self.ranges:
            return math.nan, math.nan
        _check_offset(site, name)
        low, high = self.ranges[name]
        return _IDENTITY[name] - low, high - _IDENTITY[name]

    def extra_repr(self) -> str:
        """For ``repr``."""
        return ", ".join(f"{name}={bounds}" for name, bounds in self.ranges.items())


def _range(bounds: object, name: str) -> Range:
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        raise ArgumentTypeError(f"{name} must be (low, high), got {bounds!r}")
    for bound in bounds:
        if not isinstance(bound, int | float) or isinstance(bound, bool):
            raise ArgumentTypeError(f"{name} must be two numbers, got {bounds!r}")
    low, high = bounds
    identity = _IDENTITY[name]
    if not (is_finite(low) and is_finite(high) and low < identity < high):
        raise GeneratorError(
            f"{name} must be finite bounds with the identity, {identity:g}, between them, "
            f"got {short(bounds)}"
        )
    return float(low), float(high)


def _check_offset(site: Site, name: str) -> None:
    """Raise unless raw ``name`` minus its start is the deviation of the effective parameter."""
    probe = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
    start = site.parameters[name].start
    values = {
        other: torch.full_like(probe, parameter.start)
        for other, parameter in site.parameters.items()
    }
    effective = site.operation.effective({**values, name: start + probe})[name]
    if not torch.equal(effective, _IDENTITY[name] + probe):
        raise GeneratorError(
            f"site '{site.name}': {name} of {site.operation} is not an offset from the identity "
            "and cannot be bounded; use Affine() or Scale() there"
        )
