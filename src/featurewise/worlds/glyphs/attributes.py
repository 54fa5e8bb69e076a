"""Attributes of a typeface, measured on its images and not read from its name.

They are measured on the letters ``H``, ``I``, ``l`` and ``n`` at 192 pixels, where ``h`` is the
height of ``H``:

- *slant*, in degrees: the angle whose shear maximises the sum of squares of the columns' ink, which
  makes the stems vertical. Positive slants lean to the right.
- *weight*: stem width of ``H`` divided by ``h``: the median ink of its rows between 60 % and 90 %
  of the height, below the bar and above the feet, halved as there are two stems.
- *serif*: how much wider the stems of ``H`` are at their ends: the row with the most ink in the
  tenth of the height at each end, divided by the median row above, less 1; the mean of both ends.
  About 0 without serifs, below 0 with rounded ends.
- *width*: width of ``H`` and ``n`` across the stems, upright, divided by ``h``; their mean.

Slant is corrected before the others are measured.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurewise.worlds.glyphs.fontfiles import code_points, stamp
from featurewise.worlds.glyphs.rasterize import rasterize

#: Names of the attributes, in the order of the classifier's outputs.
ATTRIBUTES: Final = ("weight", "slant", "serif", "width")

_PROBES: Final = "HIln"
#: Image size, in pixels.
_SIZE: Final = 192
#: Range of slants, in degrees.
_MIN_SLANT, _MAX_SLANT = -15, 35

Ink = NDArray[np.float64]
Positions = NDArray[np.int64]


def attributes(path: Path, index: int) -> dict[str, float]:
    """Weight, slant (degrees), serif and width of a typeface; all NaN if it lacks one of ``HIln``.

    Raises:
        TypefaceError: the file cannot be read.
    """
    return dict(_attributes(path, stamp(path), index))


@lru_cache(maxsize=4096)
def _attributes(path: Path, _: tuple[int, ...], index: int) -> dict[str, float]:
    if not set(map(ord, _PROBES)) <= code_points(path, index):
        return dict.fromkeys(ATTRIBUTES, float("nan"))
    images = rasterize(path, index, _PROBES, _SIZE) / 255.0
    slant = measured_slant(list(images))
    upright = [sheared(image, slant) for image in images]
    bar = _rows(upright[0])
    height = len(bar)
    stems = float(np.median(bar[round(0.6 * height) : round(0.9 * height)]))
    tenth = max(1, round(0.1 * height))
    ends = (bar[:tenth].max() + bar[-tenth:].max()) / 2
    across = [_span(upright[0]), _span(upright[3])]
    return {
        "weight": stems / 2 / height,
        "slant": slant,
        "serif": float(ends / stems) - 1,
        "width": sum(across) / len(across) / height,
    }


def measured_slant(images: list[Ink]) -> float:
    """The slant of images (S, S), from -15 to 35 degrees, in steps of a quarter of a degree."""
    inked: list[tuple[Ink, Positions]] = []
    for image in images:
        positions = np.argwhere(image).T
        inked.append((image[positions[0], positions[1]], positions))

    def sum_of_squares(angle: float) -> float:
        return sum(float((_columns(ink, where, angle) ** 2).sum()) for ink, where in inked)

    degrees = max(map(float, range(_MIN_SLANT, _MAX_SLANT + 1)), key=sum_of_squares)
    return max((degrees + quarter / 4 for quarter in range(-4, 5)), key=sum_of_squares)


def _columns(ink: Ink, positions: Positions, angle: float) -> Ink:
    """Ink of each column after shearing by ``angle``, so that this slant becomes upright."""
    rows, columns = positions
    column = columns + rows * np.tan(np.radians(angle))
    column -= np.floor(column.min())
    left = column.astype(np.int64)
    part = column - left
    size = int(left.max()) + 2
    totals: Ink = np.bincount(left, ink * (1 - part), size).astype(np.float64)
    return totals + np.bincount(left + 1, ink * part, size)


def sheared(image: Ink, angle: float) -> Ink:
    """The image (S, S) sheared so that a slant of ``angle`` becomes upright, as (S, 3 S)."""
    size = len(image)
    upright = np.zeros((size, 3 * size))
    for row, line in enumerate(image):
        shift = (row - size / 2) * np.tan(np.radians(angle))
        upright[row] = np.interp(
            np.arange(3 * size) - size - shift, np.arange(size), line, left=0, right=0
        )
    return upright


def _rows(image: Ink) -> Ink:
    """Ink of each row, from the first to the last row with more than half a pixel of ink."""
    rows: Ink = image.sum(axis=1)
    inked = np.flatnonzero(rows > 0.5)
    return rows[inked[0] : inked[-1] + 1]


def _span(image: Ink) -> float:
    """Width between the outer edges of the stems, over the middle half of the height, in pixels."""
    rows = np.flatnonzero(image.sum(axis=1) > 0.5)
    quarter = len(rows) // 4
    middle = image[rows[quarter : len(rows) - quarter]].mean(axis=0)
    inked = np.flatnonzero(middle > 0.5)
    return float(inked[-1] - inked[0] + 1) if len(inked) else 0.0
