"""A fixed encoder and its mirror: Huang & Belongie 2017, section 6.1.

The encoder is a pretrained network up to the first convolution of a block. The decoder has the
same convolutions in the opposite order, and enlarges where the encoder pools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError
from featurewise.models.perceptual import Perception, Untrained, Vgg
from featurewise.models.pretrained.hed_vgg16 import TABLE

EncoderName: TypeAlias = Literal["hed_vgg16", "random"]
"""HED-fine-tuned VGG16; or three convolutions with random weights, for tests."""

Plan: TypeAlias = Sequence[Sequence[int]]
"""Channels of each convolution, by block; a block has half the height and width of the last."""

_TABLES: Mapping[EncoderName, Plan] = {
    "hed_vgg16": TABLE,
    "random": tuple((width,) for width in Untrained.widths),
}

#: Root mean square of the features of the training photographs, at 48 by 48 pixels.
_RMS: Mapping[EncoderName, Sequence[float]] = {
    "hed_vgg16": (40.0, 57.0, 28.0, 14.0),
    "random": (1.0, 1.0, 1.0),
}


def plan_of(name: EncoderName, blocks: int) -> Plan:
    """Channels of an encoder that ends after the first convolution of a block.

    Raises:
        ArgumentTypeError: there are not so many blocks.
    """
    table = _TABLES[name]
    if not 1 <= blocks <= len(table):
        raise ArgumentTypeError(f"{name} has 1 to {len(table)} blocks, not {blocks}")
    return (*table[: blocks - 1], table[blocks - 1][:1])


class Encoder:
    """Features after the first convolution of each block, and its ReLU.

    Each layer is divided by the root mean square that it has for photographs: without that, the
    layers of this VGG16 would weigh very differently (Gatys et al. 2016, section 2, scale the
    weights instead).

    Args:
        name: of the pretrained network.
        blocks: how many; the features of the last one are what a decoder gets.

    Raises:
        ArgumentTypeError: there are not so many blocks.
        WeightsError: the weights are not in the cache.
    """

    def __init__(self, name: EncoderName, blocks: int) -> None:
        self.plan = plan_of(name, blocks)
        self.network: Perception
        if name == "hed_vgg16":
            self.network = Vgg(tuple(f"conv{block}_1" for block in range(1, blocks + 1)))
        else:
            self.network = Untrained(Untrained.layers[:blocks])
        self.rms = _RMS[name][:blocks]

    def __call__(self, images: Float[Tensor, "N 3 H W"]) -> list[Float[Tensor, "..."]]:
        """Features of images in [0, 1], by block."""
        seen = self.network(images)
        pairs = zip(self.network.style, self.rms, strict=True)
        return [seen[layer].float() / rms for layer, rms in pairs]


@lru_cache(maxsize=4)
def encoder(name: EncoderName, blocks: int) -> Encoder:
    """The encoder, which is loaded once; see `Encoder`."""
    return Encoder(name, blocks)


class Decoder(nn.Sequential):
    """Features of an encoder -> an image in [0, 1]: the encoder's mirror.

    Mirror padding, ReLU but at the end, enlargement to the nearest pixel, no norms; initial weights
    are He's, which keep the size of the features. The paper's decoder ends without a bound; this
    one ends in a sigmoid.

    Args:
        plan: of the encoder.
        narrow: by which number the channels between features and image are divided.
    """

    def __init__(self, plan: Plan, narrow: int = 1) -> None:
        layers: list[nn.Module] = []
        before = [3, *(width for block in plan for width in block)]
        ends = {sum(map(len, plan[:block])) for block in range(1, len(plan))}
        for index in range(len(before) - 1, 0, -1):
            top, bottom = index == len(before) - 1, index == 1
            layers.append(
                nn.Conv2d(
                    before[index] // (1 if top else narrow),
                    3 if bottom else before[index - 1] // narrow,
                    3,
                    padding=1,
                    padding_mode="reflect",
                )
            )
            layers.append(nn.Sigmoid() if bottom else nn.ReLU())
            if index - 1 in ends:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def moments(features: Float[Tensor, "N C h w"], eps: float = 1e-5) -> Float[Tensor, "N 2 C"]:
    """Mean and ``sqrt(variance + eps)`` of each map, over its positions."""
    flat = features.flatten(2)
    std = (flat.var(2, correction=0) + eps).sqrt()
    return torch.stack([flat.mean(2), std], 1)
