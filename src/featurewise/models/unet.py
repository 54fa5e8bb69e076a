"""A U-Net of residual blocks, and embeddings of time and class, for diffusion models.

Ho et al. 2020, *Denoising Diffusion Probabilistic Models*, appendix B; Dhariwal & Nichol 2021,
*Diffusion Models Beat GANs on Image Synthesis*, section 3. The U-Net itself has no time input:
``featurewise.condition`` adds it at the sites ``**.second_norm`` or ``**.first``.
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
    """Sinusoidal embedding of numbers, at wavelengths from 2π to about ``2π * longest``.

    Vaswani et al. 2017, section 3.5; all sines come before all cosines.

    Args:
        features: width F, even.
        longest: longest wavelength, in units of 2π.

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
        """The embedding; in the default dtype where the numbers are integers."""
        dtype = t.dtype if t.is_floating_point() else torch.get_default_dtype()
        half = self.features // 2
        order = torch.arange(half, dtype=dtype, device=t.device)
        angles = t[:, None].to(dtype) * torch.exp(order * (-math.log(self.longest) / half))
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class TimeAndClass(nn.Module):
    """``silu(emb(t) + emb(y))``: time and class embedding for the generator of a diffusion model.

    The time has a sinusoidal embedding and two linear maps with a SiLU between them, the class a
    lookup table (Dhariwal & Nichol 2021, section 3).

    Args:
        width: width F of the embedding.
        classes: number of classes, the null class included.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        first, second = nn.Linear(width, width), nn.Linear(width, width)
        self.waves = Sinusoidal(width)
        self.time = nn.Sequential(first, nn.SiLU(), second)
        self.table = nn.Embedding(classes, width)

    def forward(self, condition: tuple[Tensor, Int[Tensor, " N"]]) -> Float[Tensor, "N F"]:
        """Embeddings of times (N,) and classes (N,)."""
        times, classes = condition
        # In the default dtype: integer times would coincide in the half precision of the weights.
        waves = self.waves(times).to(self.table.weight.dtype)
        return F.silu(self.time(waves) + self.table(classes))


class DiffusionBlock(nn.Module):
    """``skip(x) + second(silu(second_norm(first(silu(first_norm(x))))))``.

    The second convolution is zero-initialised, so that a block starts as its skip connection. Its
    sites are ``second_norm`` (scale and shift) or ``first`` (shift only).

    Args:
        in_channels: number of input channels C.
        out_channels: number of output channels D; where D differs from C the skip connection is a
            1×1 convolution.
        groups: number of groups of the norms; a divisor of C and D.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int = 8) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(groups, in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second_norm = nn.GroupNorm(groups, out_channels)
        self.second = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H W"]:
        """Features at the same positions."""
        h = self.first(F.silu(self.first_norm(x)))
        y: Tensor = self.skip(x) + self.second(F.silu(self.second_norm(h)))
        return y


class UNet(nn.Module):
    """U-Net: residual blocks on several levels, with skip connections between the two paths.

    A strided convolution between levels halves height and width; nearest-neighbour upsampling and
    a convolution double them. There is no attention. The output layer is zero-initialised.

    Args:
        in_channels: number of image channels I.
        widths: number of channels of each level, from fine to coarse, multiples of ``groups``.
        blocks: residual blocks per level in the downward path; the upward path has one more.
        groups: number of groups of the norms.

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
        self.down, skips = _down_path(widths, blocks, groups)
        self.middle = DiffusionBlock(widths[-1], widths[-1], groups)
        self.up = _up_path(widths, blocks, groups, skips)
        self.norm = nn.GroupNorm(groups, widths[0])
        self.output = zero_init(nn.Conv2d(widths[0], in_channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "N I H W"]) -> Float[Tensor, "N I H W"]:
        """An output of the shape of the images.

        Height and width must be multiples of ``2 ** (levels - 1)``.
        """
        skips = [h := self.stem(x)]
        for layer in self.down:
            skips.append(h := layer(h))
        h = self.middle(h)
        for layer in self.up:
            if isinstance(layer, DiffusionBlock):
                h = torch.cat((h, skips.pop()), dim=1)
            h = layer(h)
        result: Tensor = self.output(F.silu(self.norm(h)))
        return result


class Upsample(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H2 W2"]:
        """Features of twice the height and width."""
        y: Tensor = self.convolve(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """Set the weights and the bias of a layer to zero, and return it."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _down_path(widths: Sequence[int], blocks: int, groups: int) -> tuple[nn.ModuleList, list[int]]:
    """Layers from fine to coarse, and the widths of the skip connections."""
    layers, skips = nn.ModuleList(), [widths[0]]
    for level, width in enumerate(widths):
        if level:
            layers.append(nn.Conv2d(skips[-1], skips[-1], 3, stride=2, padding=1))
            skips.append(skips[-1])
        for _ in range(blocks):
            layers.append(DiffusionBlock(skips[-1], width, groups))
            skips.append(width)
    return layers, skips


def _up_path(widths: Sequence[int], blocks: int, groups: int, skips: list[int]) -> nn.ModuleList:
    """Layers from coarse to fine; each block takes one skip connection."""
    layers, rest, now = nn.ModuleList(), list(skips), widths[-1]
    for level in range(len(widths) - 1, -1, -1):
        for _ in range(blocks + 1):
            layers.append(DiffusionBlock(now + rest.pop(), widths[level], groups))
            now = widths[level]
        if level:
            layers.append(Upsample(now))
    return layers
