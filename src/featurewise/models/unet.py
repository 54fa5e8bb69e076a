"""A U-Net of residual blocks, and the embedding of a time: the trunk of diffusion models.

Ho et al. 2020, *Denoising Diffusion Probabilistic Models*, appendix B; Dhariwal & Nichol 2021,
*Diffusion Models Beat GANs on Image Synthesis*, section 3. Alone it knows no time: conditioning,
at ``**.second_norm`` or at ``**.first``, is added by ``featurewise.condition``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from featurewise.generators import GeneratorError
from featurewise.generators.base import positive


class Sinusoidal(nn.Module):
    """Sines and cosines of a number, at wavelengths from 2π to about ``2π * longest``.

    Vaswani et al. 2017, section 3.5, the sines first and the cosines after them.

    Args:
        features: width F, even.
        longest: of the wavelengths, in units of 2π.

    Raises:
        GeneratorError: an odd width.
    """

    def __init__(self, features: int, longest: float = 10_000.0) -> None:
        super().__init__()
        if positive(features, "features") % 2:
            raise GeneratorError(f"features must be even, got {features}")
        self.features = features
        self.longest = longest

    def forward(self, t: Float[Tensor, " N"] | Int[Tensor, " N"]) -> Float[Tensor, "N F"]:
        """Features of numbers; in the default dtype where the numbers are integers."""
        dtype = t.dtype if t.is_floating_point() else torch.get_default_dtype()
        half = self.features // 2
        order = torch.arange(half, dtype=dtype, device=t.device)
        angles = t[:, None].to(dtype) * torch.exp(order * (-math.log(self.longest) / half))
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class TimeAndClass(nn.Module):
    """``silu(emb(t) + emb(y))``: what the head of a diffusion model's generator reads.

    The time goes through sines, cosines and two linear maps with SiLU between them, the class
    through a table (Dhariwal & Nichol 2021, section 3).

    Args:
        width: F.
        classes: rows of the table, one for "not told" included.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        first, second = nn.Linear(width, width), nn.Linear(width, width)
        self.waves = Sinusoidal(width)
        self.time = nn.Sequential(first, nn.SiLU(), second)
        self.table = nn.Embedding(classes, width)

    def forward(self, told: tuple[Tensor, Int[Tensor, " N"]]) -> Float[Tensor, "N F"]:
        """Features of times (N,) and classes (N,)."""
        times, classes = told
        # Whole times are told apart in the default dtype, whatever that of the weights is.
        waves = self.waves(times).to(self.table.weight.dtype)
        return F.silu(self.time(waves) + self.table(classes))


class DiffusionBlock(nn.Module):
    """``skip(x) + second(silu(second_norm(first(silu(first_norm(x))))))``.

    The second convolution starts at zero, so that a block starts as its skip. Conditioning goes
    after ``second_norm`` (scale and shift) or after ``first`` (shift alone).

    Args:
        in_channels: channels C that come in.
        out_channels: channels D that go out; where they differ the skip is a 1×1 convolution.
        groups: of the norms; a divisor of both.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int = 8) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(groups, in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second_norm = nn.GroupNorm(groups, out_channels)
        self.second = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H W"]:
        """Features of the same positions."""
        h = self.first(F.silu(self.first_norm(x)))
        y: Tensor = self.skip(x) + self.second(F.silu(self.second_norm(h)))
        return y


class UNet(nn.Module):
    """Down to coarser maps and up again, every block's features handed across.

    Between levels a strided convolution halves height and width, and a convolution after nearest
    neighbours doubles them. There is no attention. The output starts at zero.

    Args:
        in_channels: channels I of pictures.
        widths: channels of each level, from fine to coarse, multiples of ``groups``.
        blocks: residual blocks per level on the way down; one more on the way up.
        groups: of the norms.

    Raises:
        GeneratorError: no level, or no block.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        blocks: int = 1,
        groups: int = 8,
    ) -> None:
        super().__init__()
        if not widths:
            raise GeneratorError("a U-Net has at least one level")
        positive(blocks, "blocks")
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down, handed = _way_down(widths, blocks, groups)
        self.middle = DiffusionBlock(widths[-1], widths[-1], groups)
        self.up = _way_up(widths, blocks, groups, handed)
        self.norm = nn.GroupNorm(groups, widths[0])
        self.output = zeroed(nn.Conv2d(widths[0], in_channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N I H W"]:
        """Numbers like the pictures; height and width are halved once less than there are levels.

        Both must be multiples of what that makes of 1.
        """
        handed = [h := self.stem(x)]
        for layer in self.down:
            handed.append(h := layer(h))
        h = self.middle(h)
        for layer in self.up:
            if isinstance(layer, DiffusionBlock):
                h = torch.cat((h, handed.pop()), dim=1)
            h = layer(h)
        result: Tensor = self.output(F.silu(self.norm(h)))
        return result


class Upsample(nn.Module):
    """Nearest neighbours, twice as high and wide, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H2 W2"]:
        """Features of four times as many positions."""
        y: Tensor = self.convolve(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer, its weights and its bias at zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _way_down(widths: Sequence[int], blocks: int, groups: int) -> tuple[nn.ModuleList, list[int]]:
    """Layers from fine to coarse, and the widths of what is handed across."""
    layers, handed = nn.ModuleList(), [widths[0]]
    for level, width in enumerate(widths):
        if level:
            layers.append(nn.Conv2d(handed[-1], handed[-1], 3, stride=2, padding=1))
            handed.append(handed[-1])
        for _ in range(blocks):
            layers.append(DiffusionBlock(handed[-1], width, groups))
            handed.append(width)
    return layers, handed


def _way_up(widths: Sequence[int], blocks: int, groups: int, handed: list[int]) -> nn.ModuleList:
    """Layers from coarse to fine; each block takes one of what was handed across."""
    layers, rest, now = nn.ModuleList(), list(handed), widths[-1]
    for level in range(len(widths) - 1, -1, -1):
        for _ in range(blocks + 1):
            layers.append(DiffusionBlock(now + rest.pop(), widths[level], groups))
            now = widths[level]
        if level:
            layers.append(Upsample(now))
    return layers
