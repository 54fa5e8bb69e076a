"""Letters of one face as pictures: one scale and one baseline for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.fontfiles import drawing, font

#: Letters are drawn this many times larger, then averaged: hinting and rounding stay small.
_FINER: Final = 8
#: Height of the em when the letters are measured, in pixels.
_MEASURED_AT: Final = 256.0
SMALLEST: Final = 8


def draw(path: Path, index: int, letters: Sequence[str], size: int) -> NDArray[np.uint8]:
    """The letters of a face, (L, S, S), 255 where all is ink.

    One scale holds for all letters, such that the widest and the whole from the lowest to the
    highest point fit with a margin of S/16 (at least a pixel); so thick stays thick and small
    stays small. All stand on one baseline; each is centred by its own ink from left to right.

    Args:
        path: the font file.
        index: the face in the file.
        letters: single characters that the face has.
        size: height and width of the pictures, S.

    Raises:
        GlyphError: the size is below 8, or all letters are blank.
        TypefaceError: the file cannot be read, or FreeType cannot draw a letter.
    """
    if size < SMALLEST:
        raise GlyphError(f"letters need {SMALLEST} pixels or more, got a size of {size}")
    with drawing(path, index):
        *_, widest, tallest = _extent(path, index, letters, _MEASURED_AT)
        if not widest or not tallest:
            raise GlyphError(f"{path}, face {index}: draws nothing for {''.join(letters)!r}")
        inner = size - 2 * max(1, size // 16)
        em = _MEASURED_AT * _FINER * inner / max(widest, tallest)
        fine = size * _FINER
        top, _, _, tallest = _extent(path, index, letters, em)
        baseline = (fine - tallest) // 2 - top
        return np.stack([_one(path, index, letter, em, fine, baseline) for letter in letters])


def _extent(path: Path, index: int, letters: Sequence[str], em: float) -> tuple[int, int, int, int]:
    """Highest and lowest point (from the baseline, down), widest ink, whole height; in pixels."""
    opened = font(path, index, em)
    boxes = np.array([opened.getbbox(letter, anchor="ls") for letter in letters])
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if not len(boxes):
        return 0, 0, 0, 0
    top, bottom = int(boxes[:, 1].min()), int(boxes[:, 3].max())
    return top, bottom, int((boxes[:, 2] - boxes[:, 0]).max()), bottom - top


def _one(
    path: Path, index: int, letter: str, em: float, fine: int, baseline: int
) -> NDArray[np.uint8]:
    opened = font(path, index, em)
    left, _, right, _ = opened.getbbox(letter, anchor="ls")
    canvas = Image.new("L", (fine, fine))
    place = ((fine - right + left) // 2 - left, baseline)
    ImageDraw.Draw(canvas).text(place, letter, fill=255, font=opened, anchor="ls")
    return np.asarray(canvas.reduce(_FINER))
