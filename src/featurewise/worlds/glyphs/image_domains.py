"""Data sets of small images as domains: clothes, digits, letters, handwritten characters.

All of them are of one channel and one size, so that one network can be trained on one and adapted
to the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.formats.folders import omniglot
from featurewise.worlds.glyphs.handwriting import TRAIN, omniglot_folder, omniglot_versions
from featurewise.worlds.glyphs.labelled import (
    LabelledImages,
    fashion_images,
    fashion_versions,
    letter_images,
)
from featurewise.worlds.glyphs.typefaces import DIGITS, LOWERCASE, UPPERCASE
from featurewise.worlds.glyphs.versions import render_versions
from featurewise.worlds.small import digits

_TRAIN_WRITERS: Final = 13
_TEST_WRITER: Final = 15

CLASSES: Final = {
    "fashion": 10,
    "digits": 10,
    "letters": len(UPPERCASE),
    "omniglot": 136,
    "bundled letters": 10,
    "bundled small letters": 10,
    "bundled digits": 10,
}
"""Name of a domain -> number of its classes."""

_BUNDLED: Final = {
    "bundled letters": UPPERCASE[:10],
    "bundled small letters": LOWERCASE[:10],
    "bundled digits": DIGITS,
}


@dataclass(frozen=True)
class Domain:
    """One data set in parts.

    Attributes:
        train: to train on.
        validation: to choose settings on.
        test: to evaluate on.
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages


@lru_cache(maxsize=8)
def image_domain(name: str, size: int) -> Domain:
    """A data set by its name.

    * ``fashion``: Fashion-MNIST, see :func:`featurewise.worlds.glyphs.labelled.fashion_images`;
    * ``digits``: the 1797 handwritten digits of scikit-learn, of 8 by 8 pixels, interpolated;
    * ``letters``: capital letters of Debian's typefaces, no family in two parts;
    * ``omniglot``: the 136 characters of the first small set of Omniglot, each by 20 people, of
      whom 13 write the training part, 2 that for validation and 5 the test;
    * ``bundled letters``, ``bundled small letters`` and ``bundled digits``: ten characters each of
      the few typefaces that come with matplotlib.

    Args:
        name: one of `CLASSES`.
        size: height and width of the images in pixels: 8, 16 or 32.

    Raises:
        GlyphError: an unknown name, another size, or missing files (the message says how to get
            them).
        TypefaceError: no typefaces.
        FormatError: a file is not what its format promises.
        MissingPackageError: scikit-learn is not installed.
    """
    if name not in CLASSES or size not in (8, 16, 32):
        raise GlyphError(
            f"a domain is one of {', '.join(CLASSES)} in 8, 16 or 32 pixels, not {name} in {size}"
        )
    if name == "digits":
        return Domain(*(_digits(split, size) for split in ("train", "validation", "test")))
    if name == "omniglot":
        return _omniglot(size)
    if name == "fashion":
        fashion = fashion_images(size=size)
        return Domain(fashion.train, fashion.validation, fashion.test)
    typefaces = "bundled" if name in _BUNDLED else "debian"
    letters = letter_images(typefaces, _BUNDLED.get(name, UPPERCASE), size)
    return Domain(letters.train, letters.validation, letters.test)


def domain_versions(name: str) -> dict[str, str]:
    """Name and version of what a domain comes from, as far as it is there."""
    if name == "fashion":
        return fashion_versions()
    if name == "omniglot":
        versions = omniglot_versions(omniglot_folder())
        return {key: version for key, version in versions.items() if TRAIN in key}
    return {} if name == "digits" else render_versions("bundled" if name in _BUNDLED else "debian")


def _digits(split: str, size: int) -> LabelledImages:
    found = digits(split)
    scaled = F.interpolate(found.images, size=(size, size), mode="bilinear", align_corners=False)
    return _labelled(scaled[:, 0] * 255, found.labels)


def _omniglot(size: int) -> Domain:
    folder = omniglot_folder()
    if not (folder / TRAIN).is_dir():
        raise GlyphError(
            f"{folder} lacks {TRAIN}: unpack {TRAIN}.zip of github.com/brendenlake/omniglot there"
        )
    files = omniglot(folder, TRAIN, size)
    images = torch.stack(
        [
            torch.cat([files.image(label, index) for index in range(files.count(label))])
            for label in range(len(files.names))
        ]
    )
    return Domain(
        _characters(images[:, :_TRAIN_WRITERS]),
        _characters(images[:, _TRAIN_WRITERS:_TEST_WRITER]),
        _characters(images[:, _TEST_WRITER:]),
    )


def _characters(images: Tensor) -> LabelledImages:
    """Images (characters, writers, S, S); those of one character are no group: writers differ."""
    labels = torch.arange(len(images)).repeat_interleave(images.shape[1])
    return _labelled(images.flatten(0, 1), labels)


def _labelled(images: Tensor, labels: Tensor) -> LabelledImages:
    return LabelledImages(images.round().to(torch.uint8), labels, torch.arange(len(labels)))
