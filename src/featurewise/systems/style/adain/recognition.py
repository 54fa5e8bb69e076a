"""Which photograph an image shows; and what a change of colours alone gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.models.perceptual import Perception


class Recogniser:
    """Finds the photograph whose features are the most like those of an image.

    Each map is normalised over its positions first, so that the statistics that a style
    changes do not count, only where features are strong. Images are never trained on it.

    Args:
        network: what sees images; its content layer counts.
        photographs: in [0, 1], one of which is looked for.
    """

    def __init__(
        self, network: Perception, photographs: Float[Tensor, "P 3 H W"]
    ) -> None:
        self.network = network
        self.known = self._features(photographs)

    def nearest(self, images: Float[Tensor, "N 3 H W"]) -> Int64[Tensor, " N"]:
        """Index of the photograph with the largest cosine."""
        return (self._features(images) @ self.known.T).argmax(1)

    def _features(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N F"]:
        layer = self.network.content
        with torch.no_grad():
            parts = [
                F.instance_norm(self.network(some, last=layer)[layer].float()).flatten(1)
                for some in torch.split(images, 32)
            ]
        return F.normalize(torch.cat(parts), dim=1)


def colours_of(
    painting: Float[Tensor, "3 H W"], photographs: Float[Tensor, "P 3 H W"]
) -> Float[Tensor, "P 3 H W"]:
    """Photographs with the mean and the standard deviation of a painting's three colours.

    AdaIN of pixels, cut off at 0 and 1: what needs no network.
    """
    one = painting.flatten(1)
    many = photographs.flatten(2)
    normal = (many - many.mean(2, keepdim=True)) / (many.std(2, keepdim=True) + 1e-5)
    changed = normal * one.std(1, keepdim=True) + one.mean(1, keepdim=True)
    return changed.view_as(photographs).clamp(0, 1)
