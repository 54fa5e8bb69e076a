"""Whole alphabets of typefaces, of which some letters are shown: style and content."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import as_ink, generator

_EVERY = 3


@dataclass(frozen=True)
class Styles:
    """Alphabets of F typefaces.

    Attributes:
        letters: all letters of each, S² pixels, ink 1 on paper 0.
        shown: 1 for letters that may be looked at, 0 for those to be drawn.
    """

    letters: Float[Tensor, "F L P"]
    shown: Float[Tensor, "F L"]


class StyleSource:
    """Typefaces dealt by lot, with all letters shown.

    Args:
        glyphs: the letters.
        faces: how many typefaces are in a batch, no two alike.
        seed: of the lots; batch ``i`` depends on it and on ``i`` alone.

    Raises:
        GlyphError: more typefaces than there are, or none.
    """

    def __init__(self, glyphs: Glyphs, faces: int, seed: int = 0) -> None:
        if not 1 <= faces <= len(glyphs.faces):
            raise GlyphError(f"there are {len(glyphs.faces)} typefaces to deal, got {faces}")
        self.glyphs, self.faces, self.seed = glyphs, faces, seed

    def batch(self, index: int, /) -> Styles:
        """The batch of a number: the same at every call."""
        dealt = torch.randperm(len(self.glyphs.faces), generator=generator(self.seed, index))
        letters = _alphabets(self.glyphs)[dealt[: self.faces]]
        return Styles(letters, torch.ones(letters.shape[:2]))


def styles(glyphs: Glyphs, *, mixed: bool = False) -> Styles:
    """All typefaces, every third letter hidden (the third, the sixth and so on).

    Args:
        glyphs: the letters.
        mixed: as a control, each shown letter is that of a typeface of its own, by lot; the
            hidden ones stay.

    Raises:
        GlyphError: fewer than three letters, so that none would be hidden.
    """
    letters = _alphabets(glyphs)
    faces, count = letters.shape[:2]
    if count < _EVERY:
        raise GlyphError(f"every third letter is hidden, and there are {count}")
    hidden = torch.arange(count) % _EVERY == _EVERY - 1
    if mixed:
        lots = generator(0, 0)
        for letter in (~hidden).nonzero().flatten():
            letters[:, letter] = letters[torch.randperm(faces, generator=lots), letter]
    return Styles(letters, (~hidden).float().repeat(faces, 1))


def _alphabets(glyphs: Glyphs) -> Float[Tensor, "F L P"]:
    """Pixels of all letters."""
    faces, count = glyphs.images.shape[:2]
    return as_ink(glyphs.images.flatten(0, 1)).view(faces, count, -1)
