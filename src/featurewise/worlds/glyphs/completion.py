"""Letters as functions from coordinates to ink, given at some of their pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.labelled import LabelledImages


@dataclass(frozen=True)
class Completion:
    """T tasks, images of S by S pixels; coordinates are in [-1, 1], ink is in [0, 1].

    Attributes:
        support_x: coordinates of the K given pixels: right, down.
        support_y: their ink.
        query_x: coordinates of all P = S² pixels, row by row.
        query_y: their ink.
    """

    support_x: Float[Tensor, "T K 2"]
    support_y: Float[Tensor, "T K 1"]
    query_x: Float[Tensor, "T P 2"]
    query_y: Float[Tensor, "T P 1"]

    def swapped(self) -> Completion:
        """Control: every image has the given pixels of the image before it in the batch."""
        x, y = self.support_x.roll(1, 0), self.support_y.roll(1, 0)
        return replace(self, support_x=x, support_y=y)

    def nearest(self) -> Float[Tensor, "T P 1"]:
        """Baseline: every pixel has the ink of the nearest given pixel."""
        index = torch.cdist(self.query_x, self.support_x).argmin(2, keepdim=True)
        return self.support_y.gather(1, index)

    def mean(self) -> Float[Tensor, "T P 1"]:
        """Baseline: every pixel has the mean ink of the given pixels."""
        return self.support_y.mean(1, keepdim=True).expand_as(self.query_y)


class CompletionSource:
    """Random batches of images, each with pixels of its own that are given.

    Args:
        images: the letters.
        tasks: T, images per batch.
        given: K, given pixels of an image.
        ordered: give the first K pixels, row by row, instead of K random ones.
        seed: of all randomness; batch ``i`` depends on it and on ``i`` alone.

    Raises:
        GlyphError: an empty batch, or more given pixels than there are.
    """

    def __init__(
        self,
        images: LabelledImages,
        tasks: int,
        given: int,
        *,
        ordered: bool = False,
        seed: int = 0,
    ) -> None:
        self.size = images.images.shape[-1]
        if tasks < 1 or not 1 <= given <= self.size**2:
            raise GlyphError(
                f"a batch has at least 1 image, of which 1 to {self.size**2} pixels are given; got "
                f"tasks={tasks} and given={given}"
            )
        self.images, self.tasks, self.given = images, tasks, given
        self.ordered, self.seed = ordered, seed

    def batch(self, index: int, /) -> Completion:
        """The batch of this index."""
        rng = seeded_rng(self.seed, "images", index)
        return self._tasks(torch.randint(len(self.images), (self.tasks,), generator=rng), rng)

    def whole(self) -> Completion:
        """All images, in order; the given pixels do not depend on the seed."""
        return self._tasks(torch.arange(len(self.images)), seeded_rng(0, "whole"))

    def _tasks(self, rows: Tensor, rng: torch.Generator) -> Completion:
        ink = self.images.images[rows].flatten(1)[:, :, None] / 255
        chosen = torch.rand(len(rows), self.size**2, generator=rng).argsort(1)[:, : self.given]
        if self.ordered:
            chosen = torch.arange(self.given).expand(len(rows), -1)
        coordinates = grid(self.size).expand(len(rows), -1, -1)
        support_x = coordinates.gather(1, chosen[:, :, None].expand(-1, -1, 2))
        return Completion(support_x, ink.gather(1, chosen[:, :, None]), coordinates, ink)


def grid(size: int) -> Float[Tensor, "P 2"]:
    """Coordinates of the pixels of an image, row by row: right and down, in [-1, 1]."""
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((right, down), dim=2).flatten(0, 1)
