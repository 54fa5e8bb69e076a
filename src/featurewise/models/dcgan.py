"""The two networks of a DCGAN, plain or told a label by concatenation. Radford et al. 2016.

Plain they are stages whose layers and norms `featurewise.condition` finds as ``stages.*.layer`` and
by type; with labels every layer has them concatenated to its input (Mirza & Osindero 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from featurewise.generators import GeneratorError
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


class SideBySide(nn.Conv1d):
    """Linear maps of features of their own each, (B, G C) -> (B, G D)."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__(groups * before, groups * after, 1, groups=groups)

    def forward(self, x: Float[Tensor, "B GC"]) -> Float[Tensor, "B GD"]:
        """Each map's output, one after the other."""
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
        copies: so many generators of these sizes side by side: noise (B, copies Z), that of each
            after that of the other, and a channel of the pictures for each.

    Raises:
        GeneratorError: copies with labels.
    """
    if labels and copies > 1:
        raise GeneratorError(f"copies side by side are told no label, got labels={labels}")
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
            Stage(
                _conv(inner, 4 * copies, 3, labels, groups=copies),
                shape=nn.PixelShuffle(2),
                activation=nn.Sigmoid(),
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
        return SideBySide(before, after, copies)
    return ConcatLinear(before, labels, after) if labels else nn.Linear(before, after)


def _conv(
    before: int, after: int, kernel: int, labels: int, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    pad = kernel // 2
    if labels:
        return ConcatConv(before, labels, after, kernel, stride=stride, padding=pad)
    return nn.Conv2d(before, after, kernel, stride, pad, groups=groups)
