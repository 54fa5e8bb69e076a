"""Letters conditioned on their class, and small letters conditioned on their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.source import GlyphSource

#: Three rows of three places; neighbours overlap by half.
PLACES: Final = 9

_CONDITION_MODES: Final = ("matched", "shuffled", "unconditional")


@dataclass(frozen=True)
class PlacedLetters:
    """Black and white letters and the condition of each.

    Attributes:
        images: (B, 1, S, S), ink 1, background 0.
        condition: (B, L + 9), one-hot: the letter, or the place. Unconditional rows have the same
            value in every column.
        by_letter: (B,), whether the image belongs to the half conditioned on the letter; the other
            half is conditioned on the place.
    """

    images: Float[Tensor, "B 1 S S"]
    condition: Float[Tensor, "B K"]
    by_letter: Bool[Tensor, "B"]


class PlacedSource:
    """Batches whose first half is conditioned on the letter, and whose second half on the place.

    First half: a letter that fills the image. Second half: a random letter, which is not part of
    the condition, at half the size in one of nine places.

    Args:
        source: of the letters; ``batch(i)`` depends on its seed and on ``i`` only.
        condition_mode: "matched", the condition of the image itself; as controls "shuffled", the
            conditions of the batch permuted at random, or "unconditional", the same condition for
            all images.

    Raises:
        GlyphError: an image size that is no multiple of 4, or an unknown mode.
    """

    def __init__(self, source: GlyphSource, condition_mode: str = "matched") -> None:
        if source.glyphs.size % 4:
            raise GlyphError(f"size must be a multiple of 4, got {source.glyphs.size}")
        if condition_mode not in _CONDITION_MODES:
            raise GlyphError(
                f"condition_mode must be one of {_CONDITION_MODES}, got {condition_mode!r}"
            )
        self.source, self.condition_mode = source, condition_mode

    def batch(self, index: int, /) -> PlacedLetters:
        """The batch with this index, the same at every call."""
        batch = self.source.batch(index)
        count, letters = len(batch.letters), len(self.source.glyphs.letters)
        rng = seeded_rng(self.source.seed, "places", index)
        place = torch.randint(PLACES, (count,), generator=rng)
        by_letter = torch.arange(count) < count // 2
        small = shrunk_to_place(batch.images, place)
        images = torch.where(by_letter[:, None, None, None], batch.images, small)
        label = torch.where(by_letter, batch.letters, letters + place)
        order = torch.randperm(count, generator=rng)
        if self.condition_mode == "shuffled":
            label = label[order]
        condition = F.one_hot(label, letters + PLACES).float()
        if self.condition_mode == "unconditional":
            condition = null_condition(condition)
        return PlacedLetters((images > 0.5).float(), condition, by_letter)


def null_condition(condition: Tensor) -> Float[Tensor, "B K"]:
    """The condition of the unconditional mode, in the shape of one-hot rows (B, K): 1 / K each.

    The rows sum to 1 as one-hot rows do, so that Adam updates the weights by a similar amount.
    """
    return torch.full_like(condition, 1 / condition.shape[1], dtype=torch.float32)


def shrunk_to_place(
    images: Float[Tensor, "B 1 S S"], place: Int64[Tensor, "B"]
) -> Float[Tensor, "B 1 S S"]:
    """Each image at half its size in its place, 0 elsewhere; places are numbered row by row."""
    size = images.shape[-1]
    small, canvas = F.avg_pool2d(images, 2), torch.zeros_like(images)
    for number in range(PLACES):
        top, left = (step * size // 4 for step in divmod(number, 3))
        here = place == number
        canvas[here, :, top : top + size // 2, left : left + size // 2] = small[here]
    return canvas
