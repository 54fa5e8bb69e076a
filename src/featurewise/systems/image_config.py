"""Settings that systems share which generate images of letters, or of Fashion-MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featurewise.systems.glyph_config import GlyphConfig
from featurewise.worlds.glyphs.labelled import (
    FASHION_CLASSES,
    FASHION_FOLDER,
    ImageSplits,
    fashion_images,
    fashion_versions,
    letter_images,
)
from featurewise.worlds.glyphs.versions import render_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig(GlyphConfig):
    """A generator of images, its training and its evaluation.

    Attributes:
        data: "letters" of typefaces, or "fashion": Fashion-MNIST in its official files.
        letters: the classes, where they are letters.
        fashion_folder: where the files of Fashion-MNIST are.
    """

    data: Literal["letters", "fashion"] = "letters"
    letters: str = "0123456789"
    fashion_folder: str = FASHION_FOLDER

    @property
    def splits(self) -> ImageSplits:
        """The data in parts.

        Raises:
            GlyphError: typefaces or files are missing.
        """
        if self.data == "fashion":
            return fashion_images(self.fashion_folder, self.image_size)
        return letter_images(self.typefaces, self.letters, self.image_size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, known without the data."""
        return FASHION_CLASSES if self.data == "fashion" else tuple(self.letters)

    @property
    def versions(self) -> dict[str, str]:
        """Name and version of what the data come from."""
        if self.data == "fashion":
            return fashion_versions(self.fashion_folder)
        return render_versions(self.typefaces)
