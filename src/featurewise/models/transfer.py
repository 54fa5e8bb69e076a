"""The network that paints an image in one pass. Dumoulin et al. 2017, table 1.

It is not conditioned: its sites are the instance norms, which have no scale and shift of their own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Mirror padding, convolution, instance norm without scale and shift: a site, ``norm``.

    Args:
        before: channels of the input.
        after: channels of the output.
        kernel: size of the kernel.
        stride: of the convolution.
        upsample: by which factor the input is enlarged first, to the nearest pixel.
    """

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, upsample: int = 1
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.convolve = nn.Conv2d(
            before,
            after,
            kernel,
            stride,
            padding=kernel // 2,
            padding_mode="reflect",
            bias=False,  # the norm would take it away
        )
        self.norm = nn.InstanceNorm2d(after)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Normalised features."""
        if self.upsample > 1:
            x = F.interpolate(x, scale_factor=self.upsample, mode="nearest")
        y: Tensor = self.norm(self.convolve(x))
        return y


class ResidualBlock(nn.Module):
    """``x + norm(conv(relu(norm(conv(x)))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels, 3)
        self.second = ConvNorm(channels, channels, 3)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Features of the same shape."""
        y: Tensor = self.second(F.relu(self.first(x)))
        return x + y


class TransferNetwork(nn.Module):
    """Table 1: two convolutions of stride 2, residual blocks, two enlargements.

    Args:
        width: channels W of the first convolution; the blocks have four times as many.
        blocks: residual blocks.
    """

    def __init__(self, width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        self.contract = nn.ModuleList(
            [
                ConvNorm(3, width, 9),
                ConvNorm(width, 2 * width, 3, stride=2),
                ConvNorm(2 * width, 4 * width, 3, stride=2),
            ]
        )
        self.blocks = nn.ModuleList(ResidualBlock(4 * width) for _ in range(blocks))
        self.expand = nn.ModuleList(
            [
                ConvNorm(4 * width, 2 * width, 3, upsample=2),
                ConvNorm(2 * width, width, 3, upsample=2),
            ]
        )
        self.paint = ConvNorm(width, 3, 9)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
        """Images in [0, 1], of the size of the input where that is a multiple of four."""
        x = 2 * x - 1
        for layer in self.contract:
            x = F.relu(layer(x))
        for block in self.blocks:
            x = block(x)
        for layer in self.expand:
            x = F.relu(layer(x))
        return torch.sigmoid(self.paint(x))
