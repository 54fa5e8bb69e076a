"""Residual networks with spectral norms. Brock et al. 2019, figure 15; Miyato et al. 2018.

Norms of the generator are plain batch norms: `method` conditions them from outside. The
discriminator is conditioned by projection (Miyato & Koyama 2018, eq. 4).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils import parametrize

LayerT = TypeVar("LayerT", nn.Linear, nn.Conv2d, nn.Embedding)

CORNER = 4
"""Height and width of the first features of the generator, the last of the discriminator."""


class SpectralNorm(nn.Module):
    """``W / sigma(W)``, where sigma is the largest singular value of W as a matrix of rows.

    Miyato et al. 2018, algorithm 1: ``sigma = u' W v``, with a step of the power iteration
    for each training step. Passes without gradients do not iterate, so that to sample, or
    to compute statistics of averaged weights, changes nothing.

    Args:
        weight: its initial value.
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, size in zip(("left", "right"), matrix.shape, strict=True):
            vector = torch.randn(size, dtype=weight.dtype)
            self.register_buffer(name, F.normalize(vector, dim=0))
        for _ in range(15):
            self._iterate(matrix)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, of spectral norm 1."""
        matrix = weight.flatten(1)
        if self.training and torch.is_grad_enabled():
            self._iterate(matrix.detach())
        # Sums of products, as autocast computes matrix products in lower precision.
        outer = self.left[:, None] * self.right
        return weight / (outer * matrix).sum()

    @torch.no_grad()
    def _iterate(self, matrix: Float[Tensor, "N M"]) -> None:
        self.left.copy_(F.normalize((matrix * self.right).sum(1), dim=0))
        self.right.copy_(F.normalize((matrix * self.left[:, None]).sum(0), dim=0))


def spectral(layer: LayerT) -> LayerT:
    """The layer with an orthogonal initial weight (Saxe et al. 2014) and a spectral norm."""
    nn.init.orthogonal_(layer.weight)
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


def convolution(before: int, after: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return spectral(nn.Conv2d(before, after, kernel, padding=kernel // 2))


class BlockUp(nn.Module):
    """Twice the height and width, each time after a norm and a ReLU (figure 15b).

    Args:
        before: channels of x.
        after: channels of the result.
        affine: whether the norms have weights of their own.
    """

    def __init__(self, before: int, after: int, *, affine: bool) -> None:
        super().__init__()
        self.norm_1 = nn.BatchNorm2d(before, affine=affine)
        self.convolve_1 = convolution(before, after)
        self.norm_2 = nn.BatchNorm2d(after, affine=affine)
        self.convolve_2 = convolution(after, after)
        self.shortcut = convolution(before, after, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """Features."""
        h = self.convolve_1(doubled(F.relu(self.norm_1(x))))
        h = self.convolve_2(F.relu(self.norm_2(h)))
        # A 1×1 convolution and the repetition of pixels commute; this order is cheaper.
        made: Tensor = h + doubled(self.shortcut(x))
        return made


def doubled(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
    """Each pixel four times."""
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


class GeneratorTrunk(nn.Module):
    """A vector into an image: a linear map, blocks, a plain norm and a convolution (figure 15a).

    Sites: ``blocks.K.norm_1`` and ``blocks.K.norm_2`` of each block K.

    Args:
        inputs: width of the vector.
        channels: after the last block; each block before has twice as many as the next.
        blocks: how many.
        affine: whether the norms in the blocks have weights of their own.
    """

    def __init__(self, inputs: int, channels: int, blocks: int, *, affine: bool) -> None:
        super().__init__()
        widths = [channels * 2**k for k in range(blocks, -1, -1)]
        self.first = spectral(nn.Linear(inputs, widths[0] * CORNER**2))
        self.blocks = nn.ModuleList(
            BlockUp(one, other, affine=affine) for one, other in pairwise(widths)
        )
        self.norm = nn.BatchNorm2d(channels)
        self.last = convolution(channels, 1)

    def forward(self, x: Float[Tensor, "B Z"]) -> Float[Tensor, "B 1 S S"]:
        """Images from 0 to 1."""
        h = self.first(x).unflatten(1, (-1, CORNER, CORNER))
        for block in self.blocks:
            h = block(h)
        return torch.sigmoid(self.last(F.relu(self.norm(h))))


class BlockDown(nn.Module):
    """Half the height and width, without a norm (figure 15c).

    Args:
        before: channels of x.
        after: channels of the result.
        first: whether x is an image, of which no ReLU is taken.
        halves: whether it halves height and width.
    """

    def __init__(self, before: int, after: int, *, first: bool, halves: bool) -> None:
        super().__init__()
        self.first, self.halves = first, halves
        self.convolve_1 = convolution(before, after)
        self.convolve_2 = convolution(after, after)
        self.shortcut = convolution(before, after, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Features."""
        h = self.convolve_2(F.relu(self.convolve_1(x if self.first else F.relu(x))))
        if self.halves:  # means and a 1×1 convolution commute; this order is cheaper
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        made: Tensor = h + self.shortcut(x)
        return made


class ProjectionDiscriminator(nn.Module):
    """``D(x, y) = w' h(x) + e_y' h(x)``: the class by an inner product with the features.

    Args:
        classes: number of classes.
        channels: after the first block; each later one has twice as many as the one before.
        blocks: that halve height and width; one more follows that does not.
    """

    def __init__(self, classes: int, channels: int, blocks: int) -> None:
        super().__init__()
        widths = [1, *(channels * 2**k for k in range(blocks + 1))]
        self.blocks = nn.Sequential(
            *(
                BlockDown(one, other, first=k == 0, halves=k < blocks)
                for k, (one, other) in enumerate(pairwise(widths))
            )
        )
        self.linear = spectral(nn.Linear(widths[-1], 1))
        self.embed = spectral(nn.Embedding(classes, widths[-1]))

    def forward(
        self, images: Float[Tensor, "B 1 S S"], labels: Int64[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Logits, above 0 for "real and of this class"."""
        h = F.relu(self.blocks(2 * images - 1)).sum((2, 3))
        projection = (self.embed(labels) * h).sum(1)
        logits: Tensor = self.linear(h)[:, 0] + projection
        return logits
