"""Features of images that are trained beforehand, in place of features from ImageNet.

Perez et al. (section 2.2) start from a network that was pretrained on ImageNet and kept
fixed. Here a small network learns to name the object in each cell of its map; then its
features are fixed, and those of all training images are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from featurewise.common.ranges import Natural
from featurewise.worlds.clevr.batch import cell_labels
from featurewise.worlds.clevr.generate import Recipe
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES

ATTRIBUTE_CLASSES = [len(values) + 1 for values in ATTRIBUTES.values()]
"""Values of each attribute, and one for "no object here"."""


@dataclass(frozen=True, kw_only=True)
class Perception:
    """The features, and how they are trained.

    Attributes:
        recipe: how images are generated; the questions about them are not used.
        images: number of images.
        steps: training steps.
        images_per_batch: images in a batch.
        widths: channels of the three convolutions of stride 2.
        learning_rate: of AdamW, the highest.
        seed: of weights, order and augmentation.
    """

    recipe: Recipe
    images: int
    steps: int
    images_per_batch: int = 32
    widths: tuple[int, int, int] = (32, 64, 64)
    learning_rate: float = 2e-3
    seed: Natural = 0


class AttributeHead(nn.Conv2d):
    """Linear map from the features of a cell to the attributes of its object.

    Args:
        channels: width of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, sum(ATTRIBUTE_CLASSES), 1)


def attribute_loss(
    logits: Float[Tensor, "I V h w"],
    objects: Int64[Tensor, "I N 6"],
    size: tuple[int, int],
) -> Float[Tensor, ""]:
    """Cross-entropy of the four attributes; cells without object weigh a quarter.

    Args:
        logits: of `AttributeHead`.
        objects: as in ``Batch.objects``.
        size: width and height of the images, in pixels.
    """
    labels = cell_labels(objects, logits.shape[2], logits.shape[3], size)
    losses = []
    parts = torch.split(logits.float(), ATTRIBUTE_CLASSES, 1)
    for part, label in zip(parts, labels.unbind(1), strict=True):
        weight = torch.ones(part.shape[1], device=part.device)
        weight[0] = 0.25
        losses.append(F.cross_entropy(part, label, weight=weight))
    return torch.stack(losses).sum()


def named_right(
    logits: Float[Tensor, "I V h w"],
    objects: Int64[Tensor, "I N 6"],
    size: tuple[int, int],
) -> Float[Tensor, "M"]:
    """For each cell with an object, 1 where all four attributes are right, and else 0."""
    labels = cell_labels(objects, logits.shape[2], logits.shape[3], size)
    parts = torch.split(logits.float(), ATTRIBUTE_CLASSES, 1)
    found = torch.stack([part.argmax(1) for part in parts], 1)
    return (found == labels).all(1)[labels[:, 0] > 0].float()


class FeatureStem(nn.Module):
    """Images -> standardised features, at an eighth of the height and width.

    Convolutions with batch norm and ReLU: 4 × 4 of stride 2 twice, 3 × 3, 4 × 4 of
    stride 2; then a residual pair of 3 × 3, and a norm without scale and shift, so that
    every feature has mean 0 and variance 1.

    Args:
        widths: channels of the convolutions of stride 2.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 64)) -> None:
        super().__init__()
        first, second, third = widths

        def layer(before: int, after: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, bias=False),
                nn.BatchNorm2d(after),
            )

        self.layers = nn.ModuleList(
            [
                layer(3, first, 4, 2),
                layer(first, second, 4, 2),
                layer(second, second, 3, 1),
                layer(second, third, 4, 2),
            ]
        )
        self.pair = nn.ModuleList([layer(third, third, 3, 1), layer(third, third, 3, 1)])
        self.standardize = nn.BatchNorm2d(third, affine=False)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C h w"]:
        """Features of images whose values lie in [0, 1]."""
        x = (x - 0.5) * 4.0
        for layer in self.layers:
            x = F.relu(layer(x))
        first, second = self.pair
        found: Tensor = self.standardize(F.relu(x + second(F.relu(first(x)))))
        return found


class FrozenStem(FeatureStem):
    """The same, without gradients and always in eval mode."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 64)) -> None:
        super().__init__(widths)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> FrozenStem:
        """Stays in eval mode: the features do not change."""
        super().train(False)
        return self


class Namer(nn.Module):
    """`FeatureStem` and `AttributeHead`, as they are trained."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = FeatureStem(widths)
        self.naming = AttributeHead(widths[-1])

    def forward(self, images: UInt8[Tensor, "I 3 H W"]) -> Float[Tensor, "I V h w"]:
        """Logits of the attributes of each cell's object."""
        x = images.to(memory_format=torch.channels_last) / 255
        logits: Tensor = self.naming(self.stem(x))
        return logits
