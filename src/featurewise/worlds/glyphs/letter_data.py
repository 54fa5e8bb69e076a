"""Letters for a generative system, in three parts: training, test, evaluation classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from featurewise.worlds.glyphs.classifier import (
    Classifier,
    ClassifierConfig,
    evaluation_classifier,
)
from featurewise.worlds.glyphs.render import Glyphs, glyphs
from featurewise.worlds.glyphs.typefaces import Split, find_typefaces, split_typefaces


@dataclass(frozen=True)
class LetterData:
    """Rendered letters of typefaces that share no family.

    Attributes:
        train: letters of the training typefaces.
        test: letters of the test typefaces.
        split: the typefaces of both parts, and those of the evaluation classifier.
    """

    train: Glyphs
    test: Glyphs
    split: Split

    def classifier(self, steps: int = ClassifierConfig().steps) -> Classifier:
        """The evaluation classifier of these letters.

        Args:
            steps: training steps, run at the first call; later calls load it from the cache.
        """
        letters, size = self.train.letters, self.train.size
        config = ClassifierConfig(steps=steps)
        return evaluation_classifier(self.split, letters, size, config=config)


@lru_cache(maxsize=4)
def letter_splits(where: str | Path, letters: str, size: int) -> LetterData:
    """The letters of some typefaces, rendered and split by typeface family.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.
        letters: the letters that every typeface must have.
        size: height and width of an image, in pixels, 8 or more.

    Raises:
        TypefaceError: no typefaces, or of too few families.
        GlyphError: wrong letters, or a wrong size.
    """
    split = split_typefaces(find_typefaces(where, letters))
    train, test = (glyphs(part, letters, size) for part in (split.train, split.test))
    return LetterData(train, test, split)
