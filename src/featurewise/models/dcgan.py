"""The two networks of a DCGAN, unconditional or with concatenated labels. Radford et al. 2016.

Without labels, `featurewise.condition` finds their layers as ``stages.*.layer`` and their norms by
type. With labels, every layer has them concatenated to its input (Mirza & Osindero 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.generators import GeneratorError
from featurewise.layers.concat import ConcatConv, ConcatLinear


class Stage(nn.Module):
    """A layer, a reshape, a norm and an activation; a label, if given, goes to the layer."""

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
        """Input of the next stage."""
        y = self.layer(x) if label is None else self.layer(x, label)
        activated: Tensor = self.activation(self.norm(self.shape(y)))
        return activated


class Stages(nn.Module):
    """Stages in sequence; each receives the label."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, label: Float[Tensor, "B K"] | None = None) -> Tensor:
        """Output of the last stage."""
        for stage in self.stages:
            x = stage(x, label)
        return x


class ParallelLinear(nn.Conv1d):
    """G linear maps in parallel, each with its own features: (B, G C) -> (B, G D)."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__(groups * before, groups * after, 1, groups=groups)

    def forward(self, x: Float[Tensor, "B GC"]) -> Float[Tensor, "B GD"]:
        """The outputs of all maps, concatenated."""
        return super().forward(x[:, :, None])[:, :, 0]


def generator(
    noise: int,
    hidden: int,
    channels: int,
    size: int,
    *,
    labels: int = 0,
    affine: bool = True,
    copies: int = 1,
    extra: int = 0,
) -> Stages:
    """Noise (B, Z) -> images (B, 1, S, S) in [0, 1]: two linear maps, two upsampling convolutions.

    Each upsampling convolution is a convolution to four times the channels and a pixel shuffle: a
    transposed convolution of kernel size 6 and stride 2.

    Args:
        noise: width Z of the noise.
        hidden: width after the first linear map.
        channels: channels before the last convolution; the layer before has twice as many.
        size: height and width S of the images, a multiple of 4.
        labels: width of the label that is concatenated in every layer; 0 for none.
        affine: whether the batch norms have weights of their own.
        copies: number of independent generators in parallel. The noise is then (B, copies Z), and
            the images have one channel for each generator.
        extra: number of convolutions between the two that upsample, at half the size.

    Raises:
        GeneratorError: several copies and labels.
    """
    if labels and copies > 1:
        raise GeneratorError(
            f"several copies take no labels, got copies={copies} and labels={labels}"
        )
    corner = size // 4
    inner = copies * channels
    return Stages(
        [
            Stage(
                _linear(noise, hidden, labels, copies),
                norm=nn.BatchNorm1d(copies * hidden, affine=affine),
                activation=nn.ReLU(),
            ),
            Stage(
                _linear(hidden, 2 * channels * corner**2, labels, copies),
                shape=nn.Unflatten(1, (2 * inner, corner, corner)),
                norm=nn.BatchNorm2d(2 * inner, affine=affine),
                activation=nn.ReLU(),
            ),
            Stage(
                _conv(2 * inner, 4 * inner, 3, labels, groups=copies),
                shape=nn.PixelShuffle(2),
                norm=nn.BatchNorm2d(inner, affine=affine),
                activation=nn.ReLU(),
            ),
            *(
                Stage(
                    _conv(inner, inner, 3, labels, groups=copies),
                    norm=nn.BatchNorm2d(inner, affine=affine),
                    activation=nn.ReLU(),
                )
                for _ in range(extra)
            ),
            Stage(
                _conv(inner, 4 * copies, 3, labels, groups=copies),
                shape=nn.PixelShuffle(2),
                activation=nn.Sigmoid(),
            ),
        ]
    )


def discriminator(hidden: int, channels: int, size: int, *, labels: int = 0) -> Stages:
    """Images (B, 1, S, S) -> logits (B,) that they are real: two convolutions, two linear maps.

    Args:
        hidden: width before the last linear map.
        channels: channels after the first convolution; the second has twice as many.
        size: height and width of the images, a multiple of 4.
        labels: width of the label that is concatenated in every layer; 0 for none.
    """
    flat, leak = 2 * channels * (size // 4) ** 2, nn.LeakyReLU(0.2)
    return Stages(
        [
            Stage(_conv(1, channels, 5, labels, stride=2), activation=leak),
            Stage(
                _conv(channels, 2 * channels, 5, labels, stride=2),
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


def _linear(before: int, after: int, labels: int, copies: int = 1) -> nn.Module:
    if copies > 1:
        return ParallelLinear(before, after, copies)
    return ConcatLinear(before, labels, after) if labels else nn.Linear(before, after)


def _conv(
    before: int, after: int, kernel: int, labels: int, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    pad = kernel // 2
    if labels:
        return ConcatConv(before, labels, after, kernel, stride=stride, padding=pad)
    return nn.Conv2d(before, after, kernel, stride, pad, groups=groups)
