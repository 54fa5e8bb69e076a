"""Which painting an image looks like: a classifier that sees nothing but paintings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from featurewise.models.perceptual import Perception
from featurewise.systems.softmax import fit_softmax
from featurewise.worlds.pictures import Painting, crops, with_shorter_side


class StyleClassifier:
    """Multinomial regression on channel means and standard deviations of a pretrained network.

    It is trained on crops of the left half of each painting, and tested on those of the
    right half. Generated images are never among them, and its network is another one than
    that of the losses.

    Args:
        network: what sees images.
        paintings: the classes.
        size: height and width of the crops.
        painting_size: shorter side of the paintings that they are taken from.
        count: crops of each painting.

    Attributes:
        real_accuracy: share of crops of right halves that are classified correctly.
    """

    def __init__(
        self,
        network: Perception,
        paintings: Sequence[Painting],
        *,
        size: int,
        painting_size: int,
        count: int,
    ) -> None:
        self.network = network
        images = [with_shorter_side(each.image, painting_size) for each in paintings]
        # A half may be narrower than a crop of a painting in portrait format.
        halves = [_halves(each, size) for each in images]
        train = [crops(left, size, count, seed=0) for left, _ in halves]
        test = [crops(right, size, count // 2, seed=1) for _, right in halves]
        features = torch.cat([self._features(each / 255) for each in train])
        self.mean, self.std = features.mean(0), features.std(0) + 1e-6
        labels = torch.arange(len(train)).repeat_interleave(count)
        self.weight, self.bias = fit_softmax(self._scaled(features), labels)
        found = torch.cat([self.logits(each / 255).argmax(1) for each in test])
        expected = torch.arange(len(test)).repeat_interleave(count // 2)
        self.real_accuracy = float((found == expected).float().mean())

    def logits(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N S"]:
        """Logits of the paintings for images in [0, 1]."""
        return self._scaled(self._features(images)) @ self.weight + self.bias

    def _scaled(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        return (features - self.mean) / self.std

    def _features(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N F"]:
        parts = []
        with torch.no_grad():
            for some in torch.split(images, 32):
                seen = self.network(some).values()
                parts.append(
                    torch.cat(
                        [
                            m(each.float(), dim=(2, 3))
                            for each in seen
                            for m in (torch.mean, torch.std)
                        ],
                        1,
                    )
                )
        return torch.cat(parts)


def _halves(
    image: UInt8[Tensor, "3 H W"], size: int
) -> tuple[UInt8[Tensor, "3 H w"], UInt8[Tensor, "3 H v"]]:
    """Left and right half, each at least ``size`` wide."""
    middle = image.shape[2] // 2
    return image[..., : max(middle, size)], image[
        ..., min(middle, image.shape[2] - size) :
    ]
