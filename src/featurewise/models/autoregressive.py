"""Pixel by pixel: causal convolutions, the gated unit, and the gated PixelCNN made of them.

van den Oord et al. 2016, *Conditional Image Generation with PixelCNN Decoders*, figure 2. Pixels
are in reading order: row by row from the top, each from the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import KindError
from featurewise.generators import GeneratorError
from featurewise.generators.base import positive
from featurewise.layers.film import FiLM


class CausalConv2d(nn.Conv2d):
    """A convolution that sees a half of its neighbourhood; positions stay as they are.

    "vertical" sees rows: with the mask A those above its own, with B its own, too. "horizontal"
    sees pixels of its own row: with A those at its left, with B itself, too. It is the masked
    convolution of size k×k without the taps that the mask makes zero.

    Args:
        in_channels: channels C that come in.
        out_channels: channels D that go out.
        size: k, odd: how far the whole neighbourhood reaches, ``(k - 1) / 2`` to each side.
        stack: "vertical" or "horizontal".
        strict: mask A, which the first layer of a network needs; otherwise B.

    Raises:
        GeneratorError: an even size or one below 3, or an unknown stack.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int, stack: str, strict: bool = False
    ) -> None:
        if positive(size, "size") % 2 == 0 or size < 3:
            raise GeneratorError(f"size must be odd and at least 3, got {size}")
        if stack not in ("vertical", "horizontal"):
            raise GeneratorError(f"stack must be 'vertical' or 'horizontal', got {stack!r}")
        reach = size // 2
        taps = reach if strict else reach + 1
        super().__init__(
            in_channels, out_channels, (taps, size) if stack == "vertical" else (1, taps)
        )
        # What is shut out by the mask A is cut off at the far side.
        if stack == "vertical":
            self.border = (reach, reach, reach, -int(strict))
        else:
            self.border = (reach, -int(strict), 0, 0)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H W"]:
        """Features of the same positions."""
        return super().forward(F.pad(x, self.border))


class GatedUnit(nn.Module):
    """``tanh(a) * σ(b)`` of the halves a and b of the channels (eq. 2 there).

    Its site ``shift`` is the place of the conditional bias, in tanh and σ (eq. 4 and 5).

    Args:
        channels: C, half of what comes in.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = FiLM(2 * channels)

    def forward(self, x: Float[Tensor, "N C2 H W"]) -> Float[Tensor, "N C H W"]:
        """Half as many channels."""
        signal, gate = self.shift(x).chunk(2, dim=1)
        return torch.tanh(signal) * torch.sigmoid(gate)


class GatedLayer(nn.Module):
    """One layer of the gated PixelCNN: two stacks, of which the vertical feeds the horizontal.

    Rows above are seen whole by the vertical stack, the own row by the horizontal one, so that
    there is no blind spot. The horizontal stack has a residual connection.

    Args:
        channels: width C of both stacks.
        size: of the convolutions.
        first: whether the picture itself comes in: mask A, and no residual connection.
        last: whether the vertical stack ends here.
        in_channels: channels that come in; C where None.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        *,
        first: bool = False,
        last: bool = False,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        inside = channels if in_channels is None else in_channels
        self.first = first
        self.vertical = CausalConv2d(inside, 2 * channels, size, "vertical", first)
        self.horizontal = CausalConv2d(inside, 2 * channels, size, "horizontal", first)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.vertical_gate = None if last else GatedUnit(channels)
        self.horizontal_gate = GatedUnit(channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def above(self, x: Float[Tensor, "N C H W"]) -> tuple[Tensor, Tensor]:
        """What each row gets from those above it, and the vertical stack, one layer on.

        Of the last layer that stack is not gated: nothing reads it.
        """
        rows = self.vertical(x)
        return self.across(rows), rows if self.vertical_gate is None else self.vertical_gate(rows)

    def along(self, x: Float[Tensor, "N C H W"], above: Tensor) -> Float[Tensor, "N D H W"]:
        """The horizontal stack, one layer on."""
        mixed: Tensor = self.mix(self.horizontal_gate(self.horizontal(x) + above))
        return mixed if self.first else x + mixed


class GatedPixelCNN(nn.Module):
    """Each pixel's logits from the pixels before it; the sites are ``layers.*.*_gate.shift``.

    Args:
        channels: width C of the layers.
        layers: how many, at least 2.
        size: of the convolutions of all layers but the first.
        first_size: of those of the first, which sees the picture.
        outputs: numbers per pixel.

    Raises:
        GeneratorError: fewer than 2 layers.
    """

    def __init__(
        self, channels: int, layers: int, size: int = 3, first_size: int = 7, outputs: int = 1
    ) -> None:
        super().__init__()
        if layers < 2:
            raise GeneratorError(f"a gated PixelCNN has at least 2 layers, not {layers}")
        self.layers = nn.ModuleList(
            GatedLayer(
                channels,
                size if i else first_size,
                first=i == 0,
                last=i == layers - 1,
                in_channels=None if i else 1,
            )
            for i in range(layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, outputs, 1)
        )

    def forward(self, x: Float[Tensor, "N 1 H W"]) -> Float[Tensor, "N K H W"]:
        """Logits of every pixel, of which none saw that pixel or a later one."""
        return self.along(x, self.above(x))

    def above(self, x: Float[Tensor, "N 1 H W"]) -> list[Tensor]:
        """What each row is told, in every layer, of the rows above it."""
        told = []
        for layer in cast(Sequence[GatedLayer], self.layers):
            row, x = layer.above(x)
            told.append(row)
        return told

    def along(self, x: Float[Tensor, "N 1 H W"], above: Sequence[Tensor]) -> Tensor:
        """Logits (N, K, H, W) of some rows, told of those above: who draws needs one at a time."""
        layers = cast(Sequence[GatedLayer], self.layers)
        for layer, row in zip(layers, above, strict=True):
            x = layer.along(x, row)
        logits: Tensor = self.head(x)
        return logits


class PlaceMap(nn.Sequential):
    """A vector -> a map ``s = m(h)``: linear, ReLU, deconvolution of size and stride 4.

    The conditions of eq. 5 there, which say what holds where.

    Args:
        features: width F of the vector.
        channels: C of the map.
        size: height and width S of the map, a multiple of 4.

    Raises:
        GeneratorError: another size.
    """

    def __init__(self, features: int, channels: int, size: int) -> None:
        if positive(size, "size") % 4:
            raise GeneratorError(f"size must be a multiple of 4, got {size}")
        corner = size // 4
        super().__init__(
            nn.Linear(features, channels * corner**2),
            nn.Unflatten(1, (channels, corner, corner)),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 4, stride=4),
        )


def draw_pixels(
    network: nn.Module,
    like: Float[Tensor, "N 1 H W"],
    random: torch.Generator,
    among: Callable[[slice], AbstractContextManager[object]] = lambda _: nullcontext(),
) -> Float[Tensor, "N 1 H W"]:
    """Binary pictures, pixel by pixel: 1 with the chance ``σ(logit)``. Call it without gradients.

    What a row is told of those above it is computed once for all its pixels.

    Args:
        network: a `GatedPixelCNN` of one output, trained on pictures of -1 and 1.
        like: any pictures of the shape, dtype and device that are wanted.
        random: on that device.
        among: rows -> where the network runs for these rows alone: conditioned, say.

    Returns:
        Pictures of 0 and 1.

    Raises:
        KindError: another network.
    """
    if not isinstance(network, GatedPixelCNN):
        raise KindError(f"network must be a GatedPixelCNN, got {type(network).__name__}")
    pictures = torch.full_like(like, -1.0)
    lots = torch.rand(like.shape, generator=random, dtype=like.dtype, device=like.device)
    for row in range(like.shape[2]):
        with among(slice(row + 1)):
            above = [told[:, :, row:] for told in network.above(pictures[:, :, : row + 1])]
        here = pictures[:, :, row : row + 1]  # a view: what is written there is seen here
        with among(slice(row, row + 1)):
            for column in range(like.shape[3]):
                chance = network.along(here, above)[..., column].sigmoid()
                here[..., column] = 2 * (lots[:, :, row : row + 1, column] < chance) - 1
    return (pictures + 1) / 2
