"""Letters told by what they are, and letters told by where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.source import GlyphSource, generator

#: Three rows of three; neighbours overlap by half.
PLACES: Final = 9


@dataclass(frozen=True)
class Pixels:
    """Black and white letters.

    Attributes:
        images: (B, 1, S, S), ink 1 on paper 0.
        told: (B, L + 9), what is told of each, one-hot: the letter, or the place. Where nothing
            is told, an equal share of each.
        what: (B,), whether the letter is (or was to be) told.
    """

    images: Float[Tensor, "B 1 S S"]
    told: Float[Tensor, "B K"]
    what: Bool[Tensor, "B"]


class PlacedSource:
    """Batches of which the first half is told by what it shows, the second by where.

    What: a letter that fills the picture. Where: a letter by lot, which is not told, at half the
    size in one of nine places.

    Args:
        source: of the letters; ``batch(i)`` depends on its seed and on i alone.
        conditioned: False for a control whose condition is the same for all images.

    Raises:
        GlyphError: pictures whose size is no multiple of 4.
    """

    def __init__(self, source: GlyphSource, conditioned: bool = True) -> None:
        if source.glyphs.size % 4:
            raise GlyphError(f"size must be a multiple of 4, got {source.glyphs.size}")
        self.source, self.conditioned = source, conditioned

    def batch(self, index: int, /) -> Pixels:
        """The batch of a number: the same at every call."""
        found = self.source.batch(index)
        count, letters = len(found.letters), len(self.source.glyphs.letters)
        place, _ = self._random(index, count)
        what = torch.arange(count) < count // 2
        images = torch.where(what[:, None, None, None], found.images, placed(found.images, place))
        known = torch.where(what, found.letters, letters + place)
        told = F.one_hot(known, letters + PLACES)
        return Pixels(
            (images > 0.5).float(), told.float() if self.conditioned else nothing(told), what
        )

    def permutation(self, index: int, batch: Pixels) -> Int64[Tensor, "B"]:
        """A random order of the images of a batch, for a control whose condition is permuted."""
        return self._random(index, len(batch.images))[1]

    def _random(self, index: int, count: int) -> tuple[Tensor, Tensor]:
        """Places of the images of a batch, and an order of them."""
        rng = generator(~self.source.seed, index)
        place = torch.randint(PLACES, (count,), generator=rng)
        return place, torch.randperm(count, generator=rng)


def nothing(told: Tensor) -> Float[Tensor, "B T"]:
    """What stands for one-hot rows (B, T) where nothing is told: an equal share of each.

    Their sum is that of a one-hot row, so that what a step of Adam moves is alike.
    """
    return torch.full_like(told, 1 / told.shape[1], dtype=torch.float32)


def placed(images: Float[Tensor, "B 1 S S"], place: Int64[Tensor, "B"]) -> Float[Tensor, "B 1 S S"]:
    """Pictures at half their size, each in its place, 0 around; places count in reading order."""
    size = images.shape[-1]
    small, page = F.avg_pool2d(images, 2), torch.zeros_like(images)
    for number in range(PLACES):
        top, left = (step * size // 4 for step in divmod(number, 3))
        here = place == number
        page[here, :, top : top + size // 2, left : left + size // 2] = small[here]
    return page
