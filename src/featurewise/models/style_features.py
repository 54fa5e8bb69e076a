"""What a style predictor sees of an image: features of a fixed network, their spatial mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from featurewise.models.perceptual import Untrained
from featurewise.models.pretrained import efficientnet_lite0

StyleEncoderName: TypeAlias = Literal["efficientnet_lite0", "random"]
"""EfficientNet-Lite0, trained on ImageNet; or three random convolutions, for tests."""

STYLE_WIDTHS: Final[Mapping[StyleEncoderName, int]] = {
    "efficientnet_lite0": 672,
    "random": Untrained.widths[-1],
}
"""Number of features F of each encoder."""

_LAST: Final = 11
"""The first block of EfficientNet-Lite0 that leaves a sixteenth of the height and width."""


@lru_cache(maxsize=2)
def _encoder(name: StyleEncoderName) -> Callable[[Tensor], Tensor]:
    if name == "random":
        network = Untrained()
        return lambda images: network(images / 255)[network.style[-1]]
    pretrained = efficientnet_lite0.load().requires_grad_(False)

    def features(images: Tensor) -> Tensor:
        x = efficientnet_lite0.prepare(images, None)
        x = F.relu6(pretrained._bn0(pretrained._conv_stem(x)))
        for block in pretrained._blocks[:_LAST]:
            x = block(x)
        widened = cast("efficientnet_lite0.MBConv", pretrained._blocks[_LAST])
        norm = widened._bn0
        return F.batch_norm(
            widened._expand_conv(x), norm.running_mean, norm.running_var, eps=norm.eps
        )

    return features


def style_features(
    name: StyleEncoderName, images: UInt8[Tensor, "N 3 H W"]
) -> Float[Tensor, "N F"]:
    """The spatial mean of the encoder's features, without gradients.

    Ghiasi et al. 2017 (section 2.3) take Inception-v3's layer Mixed_6e, at a sixteenth of the
    height and width, 768 maps. Of EfficientNet-Lite0 it is the last layer of that size: the
    expansion of its twelfth block, 672 maps, as its norm standardises them with the statistics
    that it keeps, before scale, shift and ReLU6.

    Args:
        name: of the encoder.
        images: RGB of 8 bits, of any size.

    Raises:
        WeightsError: the weights are not in the cache.
    """
    see = _encoder(name)
    with torch.no_grad():
        return torch.cat([see(some).mean((2, 3)).float() for some in torch.split(images, 32)])
