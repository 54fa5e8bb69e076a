"""The network: FiLM in every block of a residual network (figures 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Float, UInt8
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.trunks import CoordinateConv
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.perception import AttributeHead, FrozenStem
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch


class Answers(NamedTuple):
    """What a network gives for a batch.

    Attributes:
        logits: of the answers, (Q, 28).
        attributes: logits of `AttributeHead`, (I, V, h, w); None from a network without
            images.
    """

    logits: Tensor
    attributes: Tensor | None


class PixelStem(nn.Module):
    """Images -> feature map: strided convolutions, each with batch norm and ReLU.

    Section 2.2 (trained from scratch): four 4 x 4 convolutions of 128 channels and
    stride 2; the widths here are free. Every convolution halves height and width.

    Args:
        widths: output channels of each convolution.
        kernel: kernel size.
    """

    def __init__(self, widths: Sequence[int], kernel: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, after, kernel, 2, (kernel - 1) // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
        """Features of images whose values lie in [0, 1]."""
        y: Tensor = self.layers((x - 0.5) * 4.0)
        return y


class ResidualBlock(nn.Module):
    """The block of figure 3 without its FiLM layer, whose site is ``norm``.

    ``h = relu(1×1(x, coordinates)); y = h + relu(norm(3×3(h)))``. The norm has no
    affine part.

    Args:
        channels: width C.
        dilation: of the 3 × 3 convolution.
        context: whether the 1 × 1 convolution also gets ``max(x)`` over all positions.
    """

    def __init__(self, channels: int, dilation: int = 1, context: bool = False) -> None:
        super().__init__()
        self.project = CoordinateConv(channels, channels)
        self.context: nn.Linear | None = None
        if context:  # zero at first: the maximum is larger than what a position adds
            self.context = nn.Linear(channels, channels, bias=False)
            nn.init.zeros_(self.context.weight)
        self.convolve = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Features of the same shape."""
        h = self.project(x)
        if self.context is not None:
            h = h + self.context(x.amax(dim=(2, 3)))[:, :, None, None]
        h = F.relu(h)
        return h + F.relu(self.norm(self.convolve(h)))


class ResidualTrunk(nn.Module):
    """A stack of residual blocks; the sites of FiLM are ``blocks.*.norm``.

    Args:
        channels: width C of every block.
        blocks: number of blocks.
        dilations: of their 3 × 3 convolutions, repeated as often as needed.
        context: see `ResidualBlock`; the first block has none.
    """

    def __init__(
        self,
        channels: int = 128,
        blocks: int = 4,
        dilations: Sequence[int] = (1,),
        context: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, dilations[i % len(dilations)], context and i > 0)
            for i in range(blocks)
        )

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Features of the same shape."""
        for block in self.blocks:
            x = block(x)
        return x


class PooledClassifier(nn.Module):
    """1×1 convolution with coordinates, global max-pool, perceptron (section 2.2).

    Args:
        channels: width of the incoming features.
        features: width F of the map that is max-pooled.
        hidden: width of the hidden layer.
        classes: number of classes.
    """

    def __init__(self, channels: int, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.project = CoordinateConv(channels, features)
        self.classify = nn.Sequential(
            nn.Linear(features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def map(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F H W"]:
        """The features before the global max-pool."""
        return F.relu(self.project(x))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N classes"]:
        """Logits of the classes."""
        logits: Tensor = self.classify(self.map(x).amax(dim=(2, 3)))
        return logits


def image_stem(config: Config) -> nn.Module:
    """What turns images into features: fixed, or trained with the rest."""
    if config.perception is not None:
        return FrozenStem(config.perception.widths)
    return PixelStem((*config.stem, config.channels))


def image_features(
    stem: nn.Module, images: UInt8[Tensor, "I 3 H W"] | BFloat16[Tensor, "I C h w"]
) -> Float[Tensor, "I C h w"]:
    """Features of images, computed once for all questions about them.

    Args:
        stem: from `image_stem`.
        images: 8-bit RGB, or features that the stem computed beforehand.
    """
    if images.is_floating_point():
        return images.float()
    found: Tensor = stem(images.to(memory_format=torch.channels_last) / 255)
    return found


def residual_trunk(config: Config) -> ResidualTrunk:
    """The trunk of a config, not conditioned."""
    return ResidualTrunk(
        config.channels, config.blocks, config.dilations, config.context
    )


class FilmNetwork(nn.Module):
    """Figure 2: the question conditions every block of the trunk, by eq. 2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = image_stem(config)
        self.naming = AttributeHead(config.channels)
        generator = fw.Recurrent(len(VOCABULARY), config.embedding, config.hidden)
        self.trunk = fw.condition(
            residual_trunk(config),
            at="blocks.*.norm",
            operation=fw.Affine(),
            generator=generator,
        )
        if config.head_std and generator.head is not None:
            std = config.head_std / math.sqrt(config.hidden)
            nn.init.normal_(generator.head.weight, std=std)
        self.answer = PooledClassifier(
            config.channels,
            config.features,
            config.classifier or config.features,
            len(ANSWERS),
        )

    def forward(self, batch: Batch) -> Answers:
        """Answers to all questions of a batch."""
        image = image_features(self.stem, batch.images)
        question = (batch.questions, batch.lengths)
        features = self.trunk(image[batch.image_index], condition=question)
        return Answers(self.answer(features), self.naming(image))
