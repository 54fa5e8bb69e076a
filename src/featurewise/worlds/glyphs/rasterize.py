"""Letters of one typeface as images, all at one scale and on one baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.fontfiles import font, freetype_errors

#: Supersampling factor along each axis: it keeps hinting and rounding small.
_SUPERSAMPLING: Final = 8
#: Height of the em at which letters are measured, in pixels.
_MEASURED_AT: Final = 256.0
MIN_SIZE: Final = 8


def rasterize(path: Path, index: int, letters: Sequence[str], size: int) -> NDArray[np.uint8]:
    """Images of letters of a typeface, (L, S, S), 255 for ink and 0 for background.

    All letters have the same scale: the largest at which the widest letter fits, and so does the
    height from the lowest to the highest point of all, with a margin of S/16 (at least a pixel).
    So stroke widths and sizes of letters stay comparable. All letters stand on one baseline; each
    is centred horizontally by its ink.

    Args:
        path: the font file.
        index: of the typeface in the file.
        letters: single characters that the typeface has.
        size: height and width of the images, S, in pixels.

    Raises:
        GlyphError: the size is below 8, or all letters are blank.
        TypefaceError: the file cannot be read, or FreeType cannot render a letter.
    """
    if size < MIN_SIZE:
        raise GlyphError(f"size must be {MIN_SIZE} pixels or more, got {size}")
    with freetype_errors(path, index):
        *_, widest, tallest = _extent(path, index, letters, _MEASURED_AT)
        if not widest or not tallest:
            raise GlyphError(f"{path}, typeface {index}: {''.join(letters)!r} is blank")
        inner = size - 2 * max(1, size // 16)
        em = _MEASURED_AT * _SUPERSAMPLING * inner / max(widest, tallest)
        fine = size * _SUPERSAMPLING
        top, _, _, tallest = _extent(path, index, letters, em)
        baseline = (fine - tallest) // 2 - top
        return np.stack([_one(path, index, letter, em, fine, baseline) for letter in letters])


def _extent(path: Path, index: int, letters: Sequence[str], em: float) -> tuple[int, int, int, int]:
    """Highest and lowest point (below the baseline is positive), widest ink, height; in pixels."""
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
    position = ((fine - right + left) // 2 - left, baseline)
    ImageDraw.Draw(canvas).text(position, letter, fill=255, font=opened, anchor="ls")
    return np.asarray(canvas.reduce(_SUPERSAMPLING))
