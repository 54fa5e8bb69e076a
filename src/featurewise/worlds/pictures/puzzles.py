"""The paintings of Debian's gcompris-qt-data, put together from the tiles of its jigsaw puzzles."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.images import decode_image
from featurewise.worlds.pictures.errors import MissingPicturesError, PictureError
from featurewise.worlds.pictures.images import as_tensor
from featurewise.worlds.pictures.packages import resource_path
from featurewise.worlds.pictures.resources import read_resources

#: Works in the package: 22 puzzles.
COUNT: Final = 22

#: Pixels that are cut off at each side: the ragged outline of the tiles, the black frame around
#: Bazille's and the white paper around Hiroshige's landscape.
MARGIN: Final = 6

#: Largest width and height of a puzzle, in pixels, and most tiles.
_LARGEST: Final = 2048
_MOST_TILES: Final = 100

#: Painter as the package spells it -> full name.
_SPELT: Final = {
    "Katsushika Hokusa": "Katsushika Hokusai",
    "Pieter Brugel": "Pieter Bruegel",
    "Bazille": "Frédéric Bazille",
    "Vincent Van Gogh": "Vincent van Gogh",
}
#: Painter -> the name that they are known by, where it is not the last word.
_KNOWN_AS: Final = {"Leonardo da Vinci": "Leonardo", "Vincent van Gogh": "van Gogh"}

_INSTRUCTION: Final = re.compile(r'instruction: *qsTr\("([^"]+)"\)')
_SIZE: Final = re.compile(r'"width": *(\d{1,6}),\s*"height": *(\d{1,6})')
_TILE: Final = re.compile(
    r'"pixmapfile" *: *"(image/[^"]+\.webp)",\s*"x" *: *"(0?\.\d+)",\s*"y" *: *"(0?\.\d+)"'
)
_TITLED: Final = re.compile(
    r"(?P<painter>[^\s,][^,]*), (?P<title>.+?)(?: - (?P<year>\d{4}[-\d]*)\.?)?"
)


@dataclass(frozen=True)
class Painting:
    """A work that a network can learn the style of.

    Attributes:
        name: painter and title in lower case, such as ``renoir_bal_du_moulin_de_la_galette``.
        painter: full name.
        title: in English or in the original, as the package has it.
        year: as the package has it, such as ``1876`` or ``1823-1829``; empty for none.
        image: RGB; the whole work, without a frame.
    """

    name: str
    painter: str
    title: str
    year: str
    image: UInt8[Tensor, "3 H W"]


def paintings() -> tuple[Painting, ...]:
    """The 22 works of the package, in the order of their names.

    Each is put together from 6 to 25 tiles, and has 292 to 713 pixels along each side. 21 are
    paintings or prints; Michelangelo's Pieta is a photograph of a sculpture.

    Raises:
        MissingPicturesError: the package is not installed.
        PictureError: its file is malformed or has other works.
    """
    path = resource_path("paintings")
    if not path.is_file():
        raise MissingPicturesError(
            f"{path} is missing; it comes with Debian's package gcompris-qt-data: "
            "apt-get install gcompris-qt-data"
        )
    return _paintings(path)


@cache
def _paintings(path: Path) -> tuple[Painting, ...]:
    found = read_paintings(path)
    if len(found) != COUNT:
        raise PictureError(f"{path}: {COUNT} works must be there, not {len(found)}")
    return found


def read_paintings(path: Path | str) -> tuple[Painting, ...]:
    """The works of a Qt resource file of puzzles, in the order of their names.

    Args:
        path: of a file like ``paintings.rcc`` of the package.

    Raises:
        PictureError: it is malformed; the message begins with the path and the puzzle.
    """
    entries = read_resources(path)
    found = []
    for board, content in entries.items():
        if re.search(r"/board/[^/]+\.qml$", board):
            with wrap_errors(f"{path}: {board}", PictureError, PictureError):
                folder = PurePosixPath(board).parents[1]
                found.append(_painting(content.decode(), str(folder), entries))
    return tuple(sorted(found, key=lambda each: each.name))


def _painting(board: str, folder: str, entries: Mapping[str, bytes]) -> Painting:
    """The work of a puzzle, whose images are in a folder of the entries."""
    instruction = _INSTRUCTION.search(board)
    titled = _TITLED.fullmatch(instruction[1]) if instruction else None
    if not titled:
        raise PictureError("the painter and the title of the work are not there")
    painter = _SPELT.get(titled["painter"], titled["painter"])
    known = _KNOWN_AS.get(painter, painter.split()[-1])
    image = _composed(list(_tiles(board, folder, entries)))
    name = _slug(f"{known} {titled['title']}")
    return Painting(name, painter, titled["title"], titled["year"] or "", as_tensor(image))


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "_".join(re.findall("[a-z0-9]+", plain))


class _Tile(NamedTuple):
    """A tile, and where its left upper corner is, in pixels."""

    image: Image.Image
    left: int
    top: int


def _tiles(board: str, folder: str, entries: Mapping[str, bytes]) -> Iterator[_Tile]:
    """The tiles of a puzzle, with the places that it states."""
    size = _SIZE.search(board)
    width, height = (int(size[1]), int(size[2])) if size else (0, 0)
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
        raise PictureError(f"a puzzle has 1 to {_LARGEST} pixels a side, not {width} x {height}")
    places, stated = _TILE.findall(board), board.count(".webp")
    if not 0 < len(places) == stated <= _MOST_TILES:
        raise PictureError(
            f"a puzzle has 1 to {_MOST_TILES} tiles, each with its place; found {len(places)} "
            f"places of {stated} tiles"
        )
    for file, x, y in places:
        name = f"{folder}/{file}"
        if name not in entries:
            raise PictureError(f"the tile {name} is missing")
        image = decode_image(entries[name], name, formats=("WEBP",)).convert("RGBA")
        if max(image.size) > _LARGEST:
            raise PictureError(f"the tile {name} is larger than {_LARGEST} pixels")
        left = round(float(x) * width - image.width / 2)
        yield _Tile(image, left, round(float(y) * height - image.height / 2))


def _composed(tiles: Sequence[_Tile]) -> Image.Image:
    """The tiles put together, without the margin."""
    left, top = (min(place) - 1 for place in ([t.left for t in tiles], [t.top for t in tiles]))
    right = max(t.left + t.image.width for t in tiles) + 1
    bottom = max(t.top + t.image.height for t in tiles) + 1
    canvas = Image.new("RGBA", (right - left, bottom - top))
    # Places are rounded, so that some tiles are a pixel apart. Each is first pasted a pixel
    # further in all directions, then all are pasted at their places.
    for across, down in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        for tile in tiles:
            canvas.alpha_composite(tile.image, (tile.left - left + across, tile.top - top + down))
    cut = 1 + MARGIN
    if min(canvas.size) <= 2 * cut:
        raise PictureError(f"the work has {right - left - 2} x {bottom - top - 2} pixels, too few")
    work = canvas.crop((cut, cut, canvas.width - cut, canvas.height - cut))
    if work.getchannel("A").tobytes().strip(b"\xff"):
        raise PictureError("the tiles leave gaps")
    return work.convert("RGB")
