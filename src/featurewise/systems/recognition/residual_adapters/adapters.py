"""Convolutions with residual adapters, of which a network for several domains is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.models.residual import convolution


@dataclass(frozen=True)
class Parts:
    """What domains have of their own.

    Attributes:
        domains: number of domains; 0 is the base domain.
        adapters: "parallel" to a convolution, in "series" with it, or "none".
        base_adapters: whether the base domain has adapters, too.
        own_norms: whether each domain has norms of its own.
    """

    domains: int
    adapters: Literal["parallel", "series", "none"]
    base_adapters: bool
    own_norms: bool


def adapter(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """A 1×1 convolution, initialised as all convolutions of the authors (He et al. 2015)."""
    found = nn.Conv2d(before, after, 1, stride, bias=False)
    nn.init.normal_(found.weight, std=math.sqrt(2 / after))
    return found


class AdaptedConvolution(nn.Module):
    """A 3×3 convolution of all domains, with the adapters and norms of each.

    Parallel (2018, figure 2): ``norm(convolve(x) + A x)``. Series (2017, eq. 3 and figure 2):
    ``norm(y + A norm'(y))`` with ``y = convolve(x)``. A is a 1×1 convolution.

    Args:
        before: channels of x.
        after: channels of the result.
        stride: 2 leaves out every second position.
        parts: what domains have of their own.
    """

    def __init__(self, before: int, after: int, stride: int, parts: Parts) -> None:
        super().__init__()
        self.convolve = convolution(before, after, stride)
        self.parallel, self.series = nn.ModuleDict(), nn.ModuleDict()
        for domain in range(0 if parts.base_adapters else 1, parts.domains):
            if parts.adapters == "parallel":
                self.parallel[str(domain)] = adapter(before, after, stride)
            elif parts.adapters == "series":
                self.series[str(domain)] = nn.Sequential(
                    nn.BatchNorm2d(after), adapter(after, after)
                )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(after) for _ in range(parts.domains if parts.own_norms else 1)
        )

    def forward(
        self, x: Float[Tensor, "N C H W"], domain: int
    ) -> Float[Tensor, "N D h w"]:
        """Features of images of a domain."""
        y = self.convolve(x)
        if (key := str(domain)) in self.parallel:
            y = y + self.parallel[key](x)
        if key in self.series:
            y = y + self.series[key](y)
        return self.norms[min(domain, len(self.norms) - 1)](y)  # type: ignore[no-any-return]

    def start_new_domains(self) -> None:
        """New domains get the norms of the base domain, and its adapters, if it has any."""
        for norm in self.norms:
            norm.load_state_dict(self.norms[0].state_dict())
        for own in (self.parallel, self.series):
            for each in own.values() if "0" in own else ():
                each.load_state_dict(own["0"].state_dict())


class AdaptedBlock(nn.Module):
    """``relu(second(relu(first(x))) + shortcut(x))`` with two adapted convolutions.

    The shortcut has no weights: where the channels change and positions are halved, it is the
    mean of four positions, with zeros for the further channels.
    """

    def __init__(self, before: int, after: int, parts: Parts) -> None:
        super().__init__()
        self.first = AdaptedConvolution(
            before, after, 1 if before == after else 2, parts
        )
        self.second = AdaptedConvolution(after, after, 1, parts)

    def forward(
        self, x: Float[Tensor, "N C H W"], domain: int
    ) -> Float[Tensor, "N D h w"]:
        """Features of images of a domain."""
        y: Tensor = self.second(self.first(x, domain).relu(), domain)
        if y.shape != x.shape:
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)


class AdaptedTrunk(nn.Module):
    """An adapted convolution, residual blocks, and the mean over positions.

    Args:
        widths: channels of each block, which do not fall.
        parts: what domains have of their own.
    """

    def __init__(self, widths: Sequence[int], parts: Parts) -> None:
        super().__init__()
        self.stem = AdaptedConvolution(1, widths[0], 1, parts)
        self.blocks = nn.ModuleList(
            AdaptedBlock(before, after, parts)
            for before, after in zip((widths[0], *widths[:-1]), widths, strict=True)
        )

    def forward(
        self, images: Float[Tensor, "N 1 S S"], domain: int
    ) -> Float[Tensor, "N D"]:
        """A vector of each image of a domain."""
        x: Tensor = self.stem(images, domain).relu()
        for block in self.blocks:
            x = block(x, domain)
        return x.mean((2, 3))

    @property
    def convolutions(self) -> list[AdaptedConvolution]:
        """All adapted convolutions."""
        return [each for each in self.modules() if isinstance(each, AdaptedConvolution)]
