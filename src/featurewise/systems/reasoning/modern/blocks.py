"""The frozen network of MODERN, as blocks: MobileNetV2 with the weights of ImageNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featurewise.models.pretrained import mobilenet_v2

Backbone: TypeAlias = Literal["mobilenet_v2", "random"]
"""The pretrained network; or three layers with random weights, for tests."""


@dataclass(frozen=True)
class Plan:
    """Blocks of a frozen network.

    Attributes:
        below: number of blocks below the first norm that is ever changed.
        last: number of blocks below the last stage.
        width: channels at the end.
    """

    below: int
    last: int
    width: int


PLANS: Final[Mapping[Backbone, Plan]] = {
    "mobilenet_v2": Plan(below=2, last=14, width=1280),
    "random": Plan(below=1, last=2, width=32),
}


def blocks_of(name: Backbone) -> nn.Sequential:
    """The blocks of a frozen network, in evaluation mode.

    Raises:
        WeightsError: the pretrained weights are not in the cache.
    """
    if name == "mobilenet_v2":
        return mobilenet_v2.load().features.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            mobilenet_v2.conv_norm_relu(before, after, 3, stride=2)
            for before, after in ((3, 8), (8, 16), (16, 32))
        ]
    return nn.Sequential(*layers).requires_grad_(False).eval()


def in_channels_last(blocks: nn.Module) -> nn.Module:
    """The same blocks, with weights in the order that is fastest on a CPU."""
    blocks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return blocks


@torch.no_grad()
def lower_features(
    blocks: nn.Module, images: UInt8[Tensor, "N 3 S S"]
) -> Float[Tensor, "N C h w"]:
    """What the blocks below the first changed norm make of images."""
    inputs = mobilenet_v2.prepare(images, None)
    features: Tensor = blocks(inputs.contiguous(memory_format=torch.channels_last))
    return features.contiguous()
