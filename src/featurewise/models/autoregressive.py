"""Autoregressive models of images: causal convolutions, the gated unit and the gated PixelCNN.

van den Oord et al. 2016, *Conditional Image Generation with PixelCNN Decoders*, figure 2. Pixels
are in raster order: row by row from the top, each row from the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError
from featurewise.generators import GeneratorError
from featurewise.generators.base import positive
from featurewise.layers.film import FiLM


class CausalConv2d(nn.Conv2d):
    """A causal convolution: half of the usual receptive field, the same number of positions.

    With "vertical" the receptive field is the rows above (mask A), or those and the own row (mask
    B). With "horizontal" it is the pixels to the left in the own row (mask A), or those and the
    pixel itself (mask B). It equals the masked convolution of size k×k, without the taps that the
    mask sets to zero.

    Args:
        in_channels: number of input channels C.
        out_channels: number of output channels D.
        size: k, odd; the receptive field reaches ``(k - 1) / 2`` pixels to each side.
        stack: "vertical" or "horizontal".
        strict: use mask A, which the first layer of a network needs; otherwise mask B.

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
        # Mask A excludes the own row or pixel: one row or column less of padding on that side.
        if stack == "vertical":
            self.border = (reach, reach, reach, -int(strict))
        else:
            self.border = (reach, -int(strict), 0, 0)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H W"]:
        """Features at the same positions."""
        return super().forward(F.pad(x, self.border))


class GatedUnit(nn.Module):
    """``tanh(a) * σ(b)`` of the halves a and b of the channels (eq. 2 there).

    The conditional bias, inside tanh and σ (eq. 4 and 5), is the site ``shift``.

    Args:
        channels: number of output channels C, half of the input channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = FiLM(2 * channels)

    def forward(self, x: Float[Tensor, "N C2 H W"]) -> Float[Tensor, "N C H W"]:
        """Features with half as many channels."""
        signal, gate = self.shift(x).chunk(2, dim=1)
        return torch.tanh(signal) * torch.sigmoid(gate)


class GatedLayer(nn.Module):
    """One layer of the gated PixelCNN: a vertical stack and a horizontal stack, which it feeds.

    The receptive field of the vertical stack is all rows above, that of the horizontal stack is
    the own row, so that there is no blind spot. The horizontal stack has a residual connection.

    Args:
        channels: width C of both stacks.
        size: kernel size of the convolutions.
        first: whether the input is the image itself: mask A and no residual connection.
        last: whether this is the last layer, in which nothing follows the vertical stack.
        in_channels: number of input channels; default: C.
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
        """Output of the vertical stack for the horizontal one, and for the next layer.

        In the last layer the second output is not gated, since nothing uses it.
        """
        rows = self.vertical(x)
        return self.across(rows), rows if self.vertical_gate is None else self.vertical_gate(rows)

    def along(self, x: Float[Tensor, "N C H W"], above: Tensor) -> Float[Tensor, "N D H W"]:
        """Output of the horizontal stack; ``above`` is the first output of ``above()``."""
        mixed: Tensor = self.mix(self.horizontal_gate(self.horizontal(x) + above))
        return mixed if self.first else x + mixed


class GatedPixelCNN(nn.Module):
    """Logits of each pixel given the pixels before it; the sites are ``layers.*.*_gate.shift``.

    Args:
        channels: width C of the layers.
        layers: number of layers, at least 2.
        size: kernel size in all layers but the first.
        first_size: kernel size in the first layer, whose input is the image.
        outputs: number of logits K per pixel.

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
        """Logits of every pixel; they depend on earlier pixels only."""
        return self.along(x, self.above(x))

    def above(self, x: Float[Tensor, "N 1 H W"]) -> list[Tensor]:
        """For every layer, the input of its horizontal stack from the rows above (N, 2C, H, W)."""
        outputs = []
        for layer in cast(Sequence[GatedLayer], self.layers):
            output, x = layer.above(x)
            outputs.append(output)
        return outputs

    def along(self, x: Float[Tensor, "N 1 H W"], above: Sequence[Tensor]) -> Tensor:
        """Logits (N, K, H, W) of some rows, given the output of ``above()`` for these rows."""
        layers = cast(Sequence[GatedLayer], self.layers)
        for layer, row in zip(layers, above, strict=True):
            x = layer.along(x, row)
        logits: Tensor = self.head(x)
        return logits


def sample_pixels(
    network: nn.Module,
    like: Float[Tensor, "N 1 H W"],
    rng: torch.Generator,
    rows_context: Callable[[slice], AbstractContextManager[object]] = lambda _: nullcontext(),
) -> Float[Tensor, "N 1 H W"]:
    """Sample binary images pixel by pixel: 1 with probability ``σ(logit)``. Call without gradients.

    The vertical stacks are evaluated once per row, for all of its pixels.

    Args:
        network: a `GatedPixelCNN` with one output, trained on images of -1 and 1.
        like: any images of the required shape, dtype and device.
        rng: random generator on that device.
        rows_context: slice of rows -> a context in which the network runs for these rows, such as
            one that sets their condition.

    Returns:
        Images of 0 and 1.

    Raises:
        ArgumentTypeError: ``network`` is not a `GatedPixelCNN`.
    """
    if not isinstance(network, GatedPixelCNN):
        raise ArgumentTypeError(f"network must be a GatedPixelCNN, got {type(network).__name__}")
    images = torch.full_like(like, -1.0)
    uniform = torch.rand(like.shape, generator=rng, dtype=like.dtype, device=like.device)
    for row in range(like.shape[2]):
        with rows_context(slice(row + 1)):
            above = [output[:, :, row:] for output in network.above(images[:, :, : row + 1])]
        current = images[:, :, row : row + 1]  # a view: writing to it fills in the image
        with rows_context(slice(row, row + 1)):
            for column in range(like.shape[3]):
                probability = network.along(current, above)[..., column].sigmoid()
                current[..., column] = 2 * (uniform[:, :, row : row + 1, column] < probability) - 1
    return (images + 1) / 2
