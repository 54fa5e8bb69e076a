"""Content and style as a pretrained network sees them (Gatys, Ecker & Bethge 2016).

Losses are those of Dumoulin et al. 2017, section 2, but for what they are relative to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.models.pretrained import hed_vgg16, mobilenet_v2
from featurewise.models.pretrained.preprocessing import normalized

LossNetwork: TypeAlias = Literal["hed_vgg16", "mobilenet_v2", "random"]

Features: TypeAlias = Mapping[str, Float[Tensor, "N C h w"]]
"""Name of a layer -> its features."""


@runtime_checkable
class Perception(Protocol):
    """A network that is not trained, and the layers that the losses are of."""

    @property
    def content(self) -> str:
        """The layer whose features a painted image shall keep."""

    @property
    def style(self) -> Sequence[str]:
        """The layers whose Gram matrices it shall have."""

    def __call__(self, images: Float[Tensor, "N 3 H W"], /, last: str | None = None) -> Features:
        """Features of images in [0, 1]: those of ``style``.

        Args:
            images: RGB.
            last: one of ``style``, after which nothing is computed; default: the last of them.
        """


class Vgg:
    """HED-fine-tuned VGG16; the content is that of conv3_3.

    Args:
        style: layers in their order; the content can be had where it is one of them.
    """

    content = "conv3_3"

    def __init__(self, style: Sequence[str] = ("conv1_2", "conv2_2", "conv3_3", "conv4_3")) -> None:
        self.style = style
        self.network = hed_vgg16.load().requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Float[Tensor, "N 3 H W"], /, last: str | None = None) -> Features:
        """See `Perception`."""
        pixels = normalized(255 * images.flip(1), hed_vgg16.MEAN_BGR, (1.0, 1.0, 1.0))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return _seen(self.network.to(images.device).layers(pixels), self.style, last)


class Mobile:
    """MobileNetV2: the last layer of each resolution down to a sixteenth."""

    content = "6"
    style = ("1", "3", "6", "13")

    def __init__(self) -> None:
        self.network = mobilenet_v2.load().requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, images: Float[Tensor, "N 3 H W"], /, last: str | None = None) -> Features:
        """See `Perception`."""
        x = normalized(images, mobilenet_v2.MEAN, mobilenet_v2.STD)
        return _seen(self._layers(x), self.style, last)

    def _layers(self, x: Float[Tensor, "N 3 H W"]) -> Iterator[tuple[str, Tensor]]:
        x = x.contiguous(memory_format=torch.channels_last)
        for name, layer in self.network.to(x.device).features.named_children():
            x = layer(x)
            yield name, x


class Untrained:
    """Three convolutions with random weights: for tests, which need no package.

    Args:
        style: layers in their order.
    """

    content = "1"
    layers = ("0", "1", "2")
    widths = (8, 16, 16)

    def __init__(self, style: Sequence[str] = layers) -> None:
        self.style = style
        rng = torch.Generator().manual_seed(0)
        self.kernels = [
            torch.randn(after, before, 3, 3, generator=rng) / (9 * before) ** 0.5
            for before, after in zip((3, *self.widths), self.widths, strict=False)
        ]

    def __call__(self, images: Float[Tensor, "N 3 H W"], /, last: str | None = None) -> Features:
        """See `Perception`."""
        return _seen(self._layers(2 * images - 1), self.style, last)

    def _layers(self, x: Float[Tensor, "N 3 H W"]) -> Iterator[tuple[str, Tensor]]:
        for name, kernel in enumerate(self.kernels):
            x = F.relu(F.conv2d(x, kernel.to(x), stride=2 if name else 1, padding=1))
            yield str(name), x


def _seen(
    layers: Iterator[tuple[str, Tensor]], wanted: Sequence[str], last: str | None
) -> dict[str, Tensor]:
    """The features of some layers; those after the last one are not computed."""
    found = {}
    for name, features in layers:
        if name in wanted:
            found[name] = features
        if name == (last or wanted[-1]):
            break
    return found


@lru_cache(maxsize=3)
def perception(name: LossNetwork) -> Perception:
    """The network of this name, which is loaded once.

    Raises:
        WeightsError: its weights are not in the cache.
    """
    kinds: dict[str, Callable[[], Perception]] = {
        "hed_vgg16": Vgg,
        "mobilenet_v2": Mobile,
        "random": Untrained,
    }
    return kinds[name]()


def gram(features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C C"]:
    """Mean products of two feature maps over the positions, in float32."""
    flat = features.flatten(2).float()
    with torch.autocast(flat.device.type, enabled=False):
        return flat @ flat.mT / flat.shape[2]


def gram_matrices(
    network: Perception, images: Iterable[Float[Tensor, "3 H W"]]
) -> dict[str, Float[Tensor, "S C C"]]:
    """Gram matrices of each image, by layer.

    Args:
        network: what sees them.
        images: in [0, 1], of any size.
    """
    with torch.no_grad():
        found = [network(image[None]) for image in images]
    return {layer: torch.cat([gram(each[layer]) for each in found]) for layer in network.style}


def style_losses(
    painted: Features,
    targets: Mapping[str, Float[Tensor, "S C C"]],
    styles: Int64[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """``|G - G_s|² / |G_s|²`` of each image, the mean over layers.

    Dumoulin et al. divide by the number of units instead. Relative to the style's own matrix,
    layers and styles weigh alike.

    Args:
        painted: features of painted images.
        targets: Gram matrices of the styles, by layer.
        styles: of each image.
    """
    losses = []
    for layer, target in targets.items():
        wanted = target.to(styles.device)[styles]
        error = (gram(painted[layer]) - wanted).square().sum((1, 2))
        losses.append(error / wanted.square().sum((1, 2)))
    return torch.stack(losses).mean(0)


def content_losses(
    painted: Float[Tensor, "N C h w"], photographs: Float[Tensor, "N C h w"]
) -> Float[Tensor, " N"]:
    """``|φ - φ_c|² / |φ_c|²`` of each image."""
    error = (painted.float() - photographs.float()).square().sum((1, 2, 3))
    return error / photographs.float().square().sum((1, 2, 3))
