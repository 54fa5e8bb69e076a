"""Unconditioned networks with named sites.

Systems condition them with ``featurewise.condition``.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import _torch


class CoordinateConv(nn.Module):
    """1×1 convolution over the features and two coordinate maps in [-1, 1].

    Concatenating the maps to the input equals adding a map that depends on the position only. This
    needs no copy of the features.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, features, 1)
        self.place = nn.Conv2d(2, features, 1, bias=False)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H W"]:
        """Features ``(N, D, H, W)`` that depend on their position."""
        place: Tensor = self.place(coordinates(x.shape[2], x.shape[3], x.dtype, x.device))
        projected: Tensor = self.project(x)
        return projected + place


class PoolingBlock(nn.Module):
    """``pool(relu(norm(3×3(x))))``; the norm has its own scale and shift."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Features of half the height and width."""
        return F.max_pool2d(F.relu(self.norm(self.convolve(x))), 2)


class PoolingTrunk(nn.Module):
    """Pooling blocks, flattened: the embedding of few-shot learning; sites ``blocks.*.norm``.

    Vinyals et al. 2016, section 4.1.1; Snell et al. 2017, section 3: four blocks of 64 channels.

    Args:
        channels: width of every block.
        blocks: number of blocks; each halves height and width, rounding down.
        inputs: channels of the images.
    """

    def __init__(self, channels: int = 64, blocks: int = 4, inputs: int = 1) -> None:
        super().__init__()
        widths = [inputs, *[channels] * blocks]
        self.blocks = nn.ModuleList(map(PoolingBlock, widths, widths[1:]))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """Embeddings of images."""
        for block in self.blocks:
            x = block(x)
        return x.flatten(1)


def coordinates(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 2 H W"]:
    """Maps of x and y, each from -1 to 1.

    They are kept for later calls, but where a mode or a transform makes another kind of tensor of
    them, such as a fake one without values.
    """
    if torch.compiler.is_compiling() or _torch.in_mode():
        return _coordinates(height, width, dtype, device)
    with torch.inference_mode(False):
        return _cached_coordinates(height, width, dtype, device)


def _coordinates(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    x = torch.linspace(-1, 1, width, dtype=dtype, device=device).expand(height, width)
    y = torch.linspace(-1, 1, height, dtype=dtype, device=device).unsqueeze(1).expand(height, width)
    return torch.stack((x, y)).unsqueeze(0)


_cached_coordinates = lru_cache(maxsize=16)(_coordinates)
