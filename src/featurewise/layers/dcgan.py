"""The two networks of a DCGAN, plain or told a label by concatenation. Radford et al. 2016.

Plain they are stages whose layers and norms `featurewise.condition` finds as ``stages.*.layer`` and
by type; with labels every layer has them concatenated to its input (Mirza & Osindero 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.layers.concat import ConcatConv, ConcatLinear


class Stage(nn.Module):
    """A layer, then its shape, norm and activation; the layer concatenates a label if given one."""

    def __init__(
        self,
        layer: nn.Module,
        *,
        shape: nn.Module | None = None,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.shape, self.norm = shape or nn.Identity(), norm or nn.Identity()
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor, label: Float[Tensor, "B K"] | None = None) -> Tensor:
        """Features of the next stage."""
        y = self.layer(x) if label is None else self.layer(x, label)
        activated: Tensor = self.activation(self.norm(self.shape(y)))
        return activated


class Stages(nn.Module):
    """One stage after another, the label handed to each."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, label: Float[Tensor, "B K"] | None = None) -> Tensor:
        """What the last stage gives."""
        for stage in self.stages:
            x = stage(x, label)
        return x


def generator(
    noise: int, hidden: int, channels: int, size: int, *, labels: int = 0, affine: bool = True
) -> Stages:
    """Noise (B, Z) -> pictures (B, 1, S, S) in [0, 1]: two linear maps, two convolutions up.

    Each convolution has four times its channels, which a shuffle makes places of: a transposed
    convolution of kernel 6 and stride 2.

    Args:
        noise: width Z.
        hidden: units after the first linear map.
        channels: of the last features; twice as many before.
        size: height and width of the pictures, a multiple of 4.
        labels: width of the label that is concatenated everywhere; 0 for none.
        affine: whether the batch norms have weights of their own.
    """
    corner = size // 4
    flat = 2 * channels * corner**2
    return Stages(
        [
            Stage(
                _linear(noise, hidden, labels),
                norm=nn.BatchNorm1d(hidden, affine=affine),
                activation=nn.ReLU(),
            ),
            Stage(
                _linear(hidden, flat, labels),
                shape=nn.Unflatten(1, (2 * channels, corner, corner)),
                norm=nn.BatchNorm2d(2 * channels, affine=affine),
                activation=nn.ReLU(),
            ),
            Stage(
                _conv(2 * channels, 4 * channels, 3, 1, labels),
                shape=nn.PixelShuffle(2),
                norm=nn.BatchNorm2d(channels, affine=affine),
                activation=nn.ReLU(),
            ),
            Stage(
                _conv(channels, 4, 3, 1, labels), shape=nn.PixelShuffle(2), activation=nn.Sigmoid()
            ),
        ]
    )


def discriminator(hidden: int, channels: int, size: int, *, labels: int = 0) -> Stages:
    """Pictures (B, 1, S, S) -> logits (B,) of their being real: two convolutions, two linear maps.

    Args:
        hidden: units before the last linear map.
        channels: of the first features; twice as many after the second convolution.
        size: height and width of the pictures, a multiple of 4.
        labels: width of the label that is concatenated everywhere; 0 for none.
    """
    flat, leak = 2 * channels * (size // 4) ** 2, nn.LeakyReLU(0.2)
    return Stages(
        [
            Stage(_conv(1, channels, 5, 2, labels), activation=leak),
            Stage(
                _conv(channels, 2 * channels, 5, 2, labels),
                norm=nn.BatchNorm2d(2 * channels),
                activation=nn.Sequential(leak, nn.Flatten()),
            ),
            Stage(
                _linear(flat, hidden, labels),
                norm=nn.BatchNorm1d(hidden),
                activation=leak,
            ),
            Stage(_linear(hidden, 1, labels), shape=nn.Flatten(0)),
        ]
    )


def _linear(before: int, after: int, labels: int) -> nn.Module:
    return ConcatLinear(before, labels, after) if labels else nn.Linear(before, after)


def _conv(before: int, after: int, kernel: int, stride: int, labels: int) -> nn.Module:
    pad = kernel // 2
    if labels:
        return ConcatConv(before, labels, after, kernel, stride=stride, padding=pad)
    return nn.Conv2d(before, after, kernel, stride, pad)
