"""Alphabets of typefaces with some letters given and the others hidden: style and content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import as_ink

#: Every third letter is hidden.
_HIDE_EVERY: Final = 3


@dataclass(frozen=True)
class Styles:
    """Alphabets of F typefaces.

    Attributes:
        letters: (F, L, P), the P = S² pixels of all letters, ink 1, background 0.
        shown: (F, L), 1 for letters that a model may use, 0 for letters that it has to generate.
    """

    letters: Float[Tensor, "F L P"]
    shown: Float[Tensor, "F L"]


class StyleSource:
    """Batches of typefaces, sampled without replacement, with all letters shown.

    Args:
        glyphs: the letters.
        batch_size: typefaces in a batch, F.
        seed: batch ``i`` depends on the seed and on ``i`` only.

    Raises:
        GlyphError: an empty batch, or a batch of more typefaces than there are.
    """

    def __init__(self, glyphs: Glyphs, batch_size: int, seed: int = 0) -> None:
        count = len(glyphs.typefaces)
        if not 1 <= batch_size <= count:
            raise GlyphError(f"batch_size must be from 1 to {count} typefaces, got {batch_size}")
        self.glyphs, self.batch_size, self.seed = glyphs, batch_size, seed

    def batch(self, index: int, /) -> Styles:
        """The batch with this index, the same at every call."""
        order = torch.randperm(len(self.glyphs.typefaces), generator=seeded_rng(self.seed, index))
        letters = _alphabets(self.glyphs)[order[: self.batch_size]]
        return Styles(letters, torch.ones(letters.shape[:2]))


def styles(glyphs: Glyphs, *, shuffled: bool = False) -> Styles:
    """All typefaces, with every third letter hidden (the third, the sixth and so on).

    Args:
        glyphs: the letters.
        shuffled: as a control, permute each shown letter over the typefaces at random, so that the
            shown letters of a row are of different typefaces; hidden letters are not permuted.

    Raises:
        GlyphError: fewer than three letters, so that none would be hidden.
    """
    letters = _alphabets(glyphs)
    typefaces, count = letters.shape[:2]
    if count < _HIDE_EVERY:
        raise GlyphError(f"every third letter is hidden, so at least 3 are needed, got {count}")
    hidden = torch.arange(count) % _HIDE_EVERY == _HIDE_EVERY - 1
    if shuffled:
        rng = seeded_rng(0, 0)
        for letter in (~hidden).nonzero().flatten():
            letters[:, letter] = letters[torch.randperm(typefaces, generator=rng), letter]
    return Styles(letters, (~hidden).float().repeat(typefaces, 1))


def _alphabets(glyphs: Glyphs) -> Float[Tensor, "F L P"]:
    """Pixels of all letters."""
    typefaces, count = glyphs.images.shape[:2]
    return as_ink(glyphs.images.flatten(0, 1)).view(typefaces, count, -1)
