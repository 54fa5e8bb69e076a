"""Lines of letters of one typeface, for recognising the typeface whatever the letters are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import as_ink

FOLDS: Final = 3
"""Parts of the alphabet, of which one is kept for the test."""


@dataclass(frozen=True)
class LineBatch:
    """Lines of letters.

    Attributes:
        images: (B, 1, S, W·S), W letters of size S side by side, ink 1, background 0.
        typefaces: (B,), index of the typeface, the same for all letters of a line.
    """

    images: Float[Tensor, "B 1 S WS"]
    typefaces: Int64[Tensor, " B"]


def letter_folds(letters: str, fold: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of the letters to train on and of those of the test.

    Both cases of a letter are in the same part, since many look alike: of the different letters in
    order, whatever their case, every third one is tested on.

    Args:
        letters: different characters.
        fold: 0 to 2, the first letter that is tested on.

    Raises:
        GlyphError: another fold, or a part without letters.
    """
    if not 0 <= fold < FOLDS:
        raise GlyphError(f"fold must be 0 to {FOLDS - 1}, got {fold}")
    order = dict.fromkeys(letter.casefold() for letter in letters)
    tested = {letter for index, letter in enumerate(order) if index % FOLDS == fold}
    parts = (
        tuple(i for i, letter in enumerate(letters) if (letter.casefold() in tested) is wanted)
        for wanted in (False, True)
    )
    train, test = parts
    if not train or not test:
        raise GlyphError(f"letters {letters!r} leave none to train on or to test on; give more")
    return train, test


def lines(
    glyphs: Glyphs, typefaces: Int64[Tensor, " B"], letters: Int64[Tensor, "B W"]
) -> LineBatch:
    """One line for each typeface.

    Args:
        glyphs: the letters.
        typefaces: index of each line's typeface.
        letters: indices of its letters.
    """
    images: UInt8[Tensor, "B W S S"] = glyphs.images[typefaces[:, None], letters]
    ink = as_ink(images.flatten(0, 1)).view(images.shape)
    return LineBatch(torch.cat(ink.unbind(1), -1).unsqueeze(1), typefaces)


@dataclass(frozen=True)
class LineSource:
    """Lines whose typeface and letters are sampled uniformly, with replacement.

    Attributes:
        glyphs: the letters.
        letters: indices of those that lines are made of.
        width: letters in a line.
        batch_size: lines in a batch.
        seed: batch ``i`` depends on the seed and on ``i`` only.
    """

    glyphs: Glyphs
    letters: tuple[int, ...]
    width: int
    batch_size: int
    seed: int = 0

    def batch(self, index: int, /) -> LineBatch:
        """The batch with this index, the same at every call."""
        rng = seeded_rng(self.seed, index)
        typefaces = torch.randint(len(self.glyphs.typefaces), (self.batch_size,), generator=rng)
        return lines(self.glyphs, typefaces, self._letters(self.batch_size, rng))

    def each(self, count: int) -> LineBatch:
        """So many lines of every typeface, in its order, the same at every call."""
        typefaces = torch.arange(len(self.glyphs.typefaces)).repeat_interleave(count)
        rng = seeded_rng(self.seed, "each")
        return lines(self.glyphs, typefaces, self._letters(len(typefaces), rng))

    def _letters(self, count: int, rng: torch.Generator) -> Int64[Tensor, "B W"]:
        chosen = torch.randint(len(self.letters), (count, self.width), generator=rng)
        return torch.tensor(self.letters)[chosen]
