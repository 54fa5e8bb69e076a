"""What a study of made letters needs of a place: letters to learn from, others, and a judge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from featurewise.worlds.glyphs.judging import Judge, Training, judge
from featurewise.worlds.glyphs.render import Glyphs, glyphs
from featurewise.worlds.glyphs.typefaces import Split, find_typefaces, split_typefaces


@dataclass(frozen=True)
class Material:
    """Letters of typefaces that share no family; the judge's own are kept from all others.

    Attributes:
        train: to learn from.
        held_out: to be tested on.
        split: the typefaces of both, and of the judge.
    """

    train: Glyphs
    held_out: Glyphs
    split: Split

    def judge(self, steps: int = Training().steps) -> Judge:
        """The judge of these letters, trained for so many steps at the first use."""
        letters, size = self.train.letters, self.train.size
        return judge(self.split, letters, size, training=Training(steps=steps))


@lru_cache(maxsize=4)
def material(where: str | Path, letters: str, size: int) -> Material:
    """The letters of a place, parted by family.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.
        letters: what every face must draw.
        size: height and width of a picture, 8 or more.

    Raises:
        TypefaceError: no typefaces, or of too few families.
        GlyphError: wrong letters, or a wrong size.
    """
    split = split_typefaces(find_typefaces(where, letters))
    train, held_out = (glyphs(part, letters, size) for part in (split.train, split.held_out))
    return Material(train, held_out, split)
