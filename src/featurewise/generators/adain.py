"""``AdaIN``: parameters that transfer the feature statistics of a style to a site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from featurewise.common.text import short
from featurewise.core import Affine, ArgumentTypeError, Layout, OperationError, ShapeError, Site
from featurewise.core.numbers import is_finite
from featurewise.generators.base import LocalGenerator
from featurewise.generators.errors import ConditionError, GeneratorError
from featurewise.generators.statistics import position_statistics


class AdaIN(LocalGenerator):
    """Adaptive instance normalisation (Huang & Belongie 2017, eq. 8).

    ``σ(y) (x - μ(x)) / σ(x) + μ(y)`` as an ``Affine`` with ``γ = σ(y) / σ(x)`` and
    ``β = μ(y) - γ μ(x)``; there are no learned parameters. Means μ and standard deviations σ are
    taken over the positions of each sample and feature.

    The condition is the features y of the style at the site: a tensor if there is one site, else a
    mapping from the name of each site to a tensor. They have the axes of x, any positions, and
    either one sample per sample of x or a single one for all.

    Args:
        eps: added to the variances before the root, in units of squared features.

    Raises:
        GeneratorError: if ``eps`` is not positive.
        ArgumentTypeError: if it is not a number.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        if not isinstance(eps, int | float) or isinstance(eps, bool):
            raise ArgumentTypeError(f"eps must be a number, got {type(eps).__name__}")
        if not (is_finite(eps) and eps > 0):
            raise GeneratorError(f"eps must be positive and finite, got {short(eps)}")
        self.eps = eps

    def _build(self, layout: Layout) -> None:
        for site in layout:
            operation = site.operation
            if not isinstance(operation, Affine) or operation.activation != "identity":
                raise OperationError(
                    f"site '{site.name}': AdaIN needs the operation Affine(), got {operation}"
                )

    def forward(
        self, site: Site, x: Tensor, condition: Any, memory: Any = None
    ) -> tuple[dict[str, Tensor], Any]:
        """Raw γ and β ``(B, C)`` of ``site``, and the memory unchanged.

        Raises:
            LayoutError: if no layout is bound, or ``site`` is not in it.
            ConditionError: if the style of this site is missing.
            ShapeError: features that do not fit the site, or have fewer than two positions.
            ArgumentTypeError: an argument of the wrong type.
        """
        self.index(site)
        style = self._style(site, condition)
        mean, std = position_statistics(x, site, self.eps, "x")
        style_mean, style_std = position_statistics(style, site, self.eps, "style")
        if style_mean.ndim == 2 and len(style_mean) not in (1, len(mean)):
            raise ShapeError(
                f"site '{site.name}': style has {len(style_mean)} samples, "
                f"expected {len(mean)} as x has, or 1 for all"
            )
        if style_mean.device != mean.device:
            raise ArgumentTypeError(
                f"site '{site.name}': style is on {style_mean.device}, x is on {mean.device}"
            )
        gamma = style_std / std
        beta = style_mean - gamma * mean
        raw = isinstance(site.operation, Affine) and site.operation.raw
        return {"gamma": gamma if raw else gamma - 1.0, "beta": beta}, memory

    def _style(self, site: Site, condition: Any) -> Any:
        if condition is None:
            raise ConditionError("AdaIN needs the features of the style as its condition, got None")
        if isinstance(condition, Mapping):
            if site.name not in condition:
                raise ConditionError(
                    f"no style for site '{site.name}'; there are {', '.join(map(str, condition))}"
                )
            return condition[site.name]
        if self.layout is not None and len(self.layout) > 1:
            raise ConditionError(
                f"one style tensor for {len(self.layout)} sites: give a mapping from each of "
                f"{', '.join(self.layout.names)} to its own"
            )
        return condition
