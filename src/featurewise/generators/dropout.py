"""``ParameterDropout``: dropout of modulation parameters to the identity."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.common.text import short
from featurewise.core import ArgumentTypeError, Layout, Site
from featurewise.generators.errors import GeneratorError
from featurewise.generators.wrapper import Wrapper, along

_PER: Final = ("feature", "site", "row")


class ParameterDropout(Wrapper):
    """In training, random parameters of a generator are replaced by the identity.

    Each row of a batch has its own dropout mask, which is the same at all positions; a shared
    ``(N,)`` has one mask. In evaluation the parameters are unchanged. Under ``torch.func.vmap``
    pass ``randomness="different"``.

    Args:
        generator: the inner generator.
        p: probability of dropout, in [0, 1).
        per: unit of dropout: a "feature" of a site with all its parameters, a "site", or a "row",
            which is all sites of a sample.
        rescale: divide the remaining deviations by ``1 - p``, as ``nn.Dropout`` does, so that the
            mean equals that in evaluation. With ``per="row"`` and False each sample is conditioned
            fully or not at all, as for classifier-free guidance.

    Raises:
        GeneratorError: ``p`` outside [0, 1), or an unknown ``per``.
        ArgumentTypeError: an argument of the wrong type.
    """

    groups: Tensor
    start_values: Tensor

    def __init__(
        self, generator: nn.Module, p: float = 0.1, per: str = "feature", rescale: bool = True
    ) -> None:
        super().__init__(generator)
        if not isinstance(p, int | float) or isinstance(p, bool):
            raise ArgumentTypeError(f"p must be a number, got {type(p).__name__}")
        if not 0 <= p < 1:
            raise GeneratorError(f"p must lie in [0, 1), got {short(p)}")
        if per not in _PER:
            raise GeneratorError(f"per must be one of {', '.join(_PER)}, got {per!r}")
        if not isinstance(rescale, bool):
            raise ArgumentTypeError(f"rescale must be True or False, got {rescale!r}")
        self.p = float(p)
        self.per = per
        self.rescale = rescale
        self.count = 0

    def _build(self, layout: Layout) -> None:
        super()._build(layout)
        groups = _groups(layout, self.per)
        self.count = int(groups.max()) + 1
        self._constant("groups", groups)
        self._constant("start_values", layout.start())

    def change(self, flat: Float[Tensor, "..."], layout: Layout) -> Float[Tensor, "..."]:
        """``flat`` with random parameters at their start values, the others kept or rescaled."""
        if not self.training or self.p == 0.0:
            return flat
        batch = flat.shape[:1] if flat.ndim > 1 else ()
        kept_groups = torch.rand((*batch, self.count), device=flat.device) >= self.p
        start = along(self.start_values.to(flat.dtype), flat)
        kept = start + (flat - start) / (1.0 - self.p) if self.rescale else flat
        return torch.where(along(kept_groups[..., self.groups], flat), kept, start)

    def extra_repr(self) -> str:
        """For ``repr``."""
        return f"p={self.p}, per={self.per!r}, rescale={self.rescale}"


def _groups(layout: Layout, per: str) -> Tensor:
    """Dropout group of each of the N numbers: ``(N,)``."""
    if per == "row":
        return torch.zeros(layout.size, dtype=torch.int64)
    if per == "site":
        sizes = torch.tensor([site.size for site in layout])
        return torch.repeat_interleave(torch.arange(len(layout)), sizes)
    parts: list[Tensor] = []
    first = 0
    for site in layout:
        own, count = _features(site)
        parts.append(own + first)
        first += count
    return torch.cat(parts)


def _features(site: Site) -> tuple[Tensor, int]:
    """Group of each number of a site, and the number of groups: features first, then the rest."""
    wider = site.operation.parameters(2 * site.width, site.extent)
    parts: list[Tensor] = []
    count = site.width
    for name, parameter in site.parameters.items():
        shape, size = parameter.shape, math.prod(parameter.shape)
        # The feature axis is the one whose size grows with the width.
        grows = [i for i, wide in enumerate(wider[name].shape) if wide != shape[i]]
        if grows:
            view = [site.width if i == grows[0] else 1 for i in range(len(shape))]
            parts.append(torch.arange(site.width).reshape(view).expand(shape).flatten())
        else:  # a row or column term
            parts.append(torch.arange(count, count + size))
            count += size
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64), count
