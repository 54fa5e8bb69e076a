"""How a face looks, measured from its drawing and not read from its name.

Measured on the letters ``H``, ``I``, ``l`` and ``n``, drawn large. With the height ``h`` of ``H``:

- *slant*, in degrees: the angle whose shear makes the columns of ink most unequal, that is,
  maximises the sum of their squares: then the stems stand upright. Positive leans to the right.
- *weight*: width of a stem of ``H`` by ``h``: the ink of its rows between 60 % and 90 % of the
  height, below the bar and above the feet, halved as there are two stems. The median row.
- *serif*: how much wider the stems of ``H`` end than they are: the row with the most ink in the
  tenth at each end, by the median row of the stems, less 1; the mean of both ends. About 0 without
  serifs, below 0 with rounded ends.
- *width*: width of ``H`` and ``n`` across the stems, upright, by ``h``; their mean.

Slant is taken out before the others are measured.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurewise.worlds.glyphs.drawing import draw
from featurewise.worlds.glyphs.fontfiles import covered, stamp

#: Names of what is measured, in the order of the judge's outputs.
ATTRIBUTES: Final = ("weight", "slant", "serif", "width")

_PROBES: Final = "HIln"
_EDGE: Final = 192
_LEAST, _MOST = -15, 35

Ink = NDArray[np.float64]
Places = NDArray[np.int64]


def attributes(path: Path, index: int) -> dict[str, float]:
    """Weight, slant, serif and width of a face; all NaN when it does not draw ``HIln``.

    Raises:
        TypefaceError: the file cannot be read.
    """
    return dict(_attributes(path, stamp(path), index))


@lru_cache(maxsize=4096)
def _attributes(path: Path, _: tuple[int, ...], index: int) -> dict[str, float]:
    if not set(map(ord, _PROBES)) <= covered(path, index):
        return dict.fromkeys(ATTRIBUTES, float("nan"))
    drawn = draw(path, index, _PROBES, _EDGE) / 255.0
    slant = measured_slant(list(drawn))
    upright = [sheared(picture, slant) for picture in drawn]
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


def measured_slant(pictures: list[Ink]) -> float:
    """The angle from -15 to 35 degrees whose shear makes columns most unequal, to a quarter."""
    inked: list[tuple[Ink, Places]] = []
    for picture in pictures:
        places = np.argwhere(picture).T
        inked.append((picture[places[0], places[1]], places))

    def unequal(angle: float) -> float:
        return sum(float((_columns(ink, places, angle) ** 2).sum()) for ink, places in inked)

    rough = max(map(float, range(_LEAST, _MOST + 1)), key=unequal)
    return max((rough + quarter / 4 for quarter in range(-4, 5)), key=unequal)


def _columns(ink: Ink, places: Places, angle: float) -> Ink:
    """Ink of each column once what leans by ``angle`` stands upright."""
    rows, columns = places
    place = columns + rows * np.tan(np.radians(angle))
    place -= np.floor(place.min())
    left = place.astype(np.int64)
    part = place - left
    size = int(left.max()) + 2
    totals: Ink = np.bincount(left, ink * (1 - part), size).astype(np.float64)
    return totals + np.bincount(left + 1, ink * part, size)


def sheared(picture: Ink, angle: float) -> Ink:
    """The picture (S, S) with what leans by ``angle`` upright, on paper three times as wide."""
    size = len(picture)
    upright = np.zeros((size, 3 * size))
    for row, line in enumerate(picture):
        shift = (row - size / 2) * np.tan(np.radians(angle))
        upright[row] = np.interp(
            np.arange(3 * size) - size - shift, np.arange(size), line, left=0, right=0
        )
    return upright


def _rows(picture: Ink) -> Ink:
    """Ink of each row that has any to speak of."""
    rows: Ink = picture.sum(axis=1)
    inked = np.flatnonzero(rows > 0.5)
    return rows[inked[0] : inked[-1] + 1]


def _span(picture: Ink) -> float:
    """Width between the outer edges of the stems, at the middle half of the height."""
    rows = np.flatnonzero(picture.sum(axis=1) > 0.5)
    quarter = len(rows) // 4
    middle = picture[rows[quarter : len(rows) - quarter]].mean(axis=0)
    inked = np.flatnonzero(middle > 0.5)
    return float(inked[-1] - inked[0] + 1) if len(inked) else 0.0
