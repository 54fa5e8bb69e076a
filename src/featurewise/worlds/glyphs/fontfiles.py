"""Font files: where they are, what they draw, and how they say it.

A face is what FreeType draws from one file. Which letters it has is read from the file itself
(the table ``cmap`` of OpenType, formats 4 and 12), as a letter that a face lacks is drawn as a box
that looks like any other drawing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import Image, ImageFont

from featurewise.common.opening import open_regular, read_bytes, require_regular
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError

#: Debian's packages of typefaces, Latin and those of the other scripts.
DEBIAN_PACKAGES: Final = (
    "fonts-cabin",
    "fonts-cantarell",
    "fonts-comfortaa",
    "fonts-croscore",
    "fonts-crosextra-caladea",
    "fonts-crosextra-carlito",
    "fonts-dejavu-core",
    "fonts-dejavu-extra",
    "fonts-ebgaramond",
    "fonts-fanwood",
    "fonts-firacode",
    "fonts-freefont-ttf",
    "fonts-gfs-didot",
    "fonts-hack",
    "fonts-inconsolata",
    "fonts-junicode",
    "fonts-jura",
    "fonts-lato",
    "fonts-liberation",
    "fonts-linuxlibertine",
    "fonts-lobster",
    "fonts-noto-core",
    "fonts-oflb-asana-math",
    "fonts-open-sans",
    "fonts-quicksand",
    "fonts-roboto-unhinted",
    "fonts-sil-charis",
    "fonts-sil-gentium",
    "fonts-urw-base35",
    "fonts-vollkorn",
)
SUFFIXES: Final = (".otf", ".ttc", ".ttf")
_DPKG: Final = Path("/var/lib/dpkg/info")
_FONTS: Final = Path("/usr/share/fonts")

#: Bytes of a font file, at most; the largest collections of Chinese typefaces have 120 MB.
_LARGEST: Final = 1 << 28
#: Faces of a collection, at most; the largest known has 45.
_MOST_FACES: Final = 256
#: Tables of a face, and of letters in a file, at most.
_MOST_TABLES: Final = 256
#: Code points that a table of letters of 16 bits may list; overlapping segments list some again.
_MOST_POINTS: Final = 1 << 17

#: Tables of letters that are read, the larger last: (platform, encoding).
_UNICODE: Final = ((0, 3), (3, 1), (0, 4), (0, 6), (3, 10))


def font_files(where: str | Path) -> tuple[Path, ...]:
    """The font files of a place, in the order of their names.

    Args:
        where: ``"bundled"`` for those that come with matplotlib, ``"debian"`` for those of
            ``DEBIAN_PACKAGES``, else a folder, which is searched with its subfolders.

    Raises:
        TypefaceError: matplotlib, one of Debian's packages or the folder is missing.
    """
    if where == "bundled":
        files: Iterator[Path] = _bundled().iterdir()
    elif where == "debian":
        files = _debian()
    else:
        folder = Path(where)
        if not folder.is_dir():
            raise TypefaceError(
                f"{folder} is no folder; typefaces are 'bundled', 'debian' or a folder of fonts"
            )
        files = folder.rglob("*")
    found = {file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()}
    return tuple(sorted(found, key=lambda file: (file.name, str(file))))


def _bundled() -> Path:
    try:
        import matplotlib
    except ImportError as error:
        raise TypefaceError(
            "the bundled typefaces come with matplotlib, which is not installed; "
            "try pip install matplotlib, or name a folder of fonts"
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _debian() -> Iterator[Path]:
    """Read from the lists of the package manager, so that other fonts change nothing."""
    missing = [name for name in DEBIAN_PACKAGES if _listing(name) is None]
    if missing:
        raise TypefaceError(
            f"{len(missing)} of {len(DEBIAN_PACKAGES)} packages of typefaces are missing; "
            f"on Debian: apt-get install {' '.join(missing)}"
        )
    for name in DEBIAN_PACKAGES:
        listing = _listing(name)
        if listing is not None:
            paths = (Path(line) for line in listing.read_text().splitlines())
            yield from (path for path in paths if path.is_relative_to(_FONTS))


def _listing(package: str) -> Path | None:
    plain = _DPKG / f"{package}.list"
    return plain if plain.is_file() else next(iter(sorted(_DPKG.glob(f"{package}:*.list"))), None)


def stamp(path: Path) -> tuple[int, ...]:
    """Size, number and times of a file: within a process, what was read holds as long as these do.

    Raises:
        TypefaceError: the file is gone.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise TypefaceError(f"{path}: {error}") from error
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def font(path: Path, index: int, size: float) -> ImageFont.FreeTypeFont:
    """The opened font, letter by letter: no ligatures, no kerning, the same on every machine.

    Raises:
        TypefaceError: FreeType cannot read the file.
    """
    return _opened(path, stamp(path), index, size)


@contextmanager
def drawing(path: Path, index: int) -> Iterator[None]:
    """What FreeType raises while it draws a face becomes a `TypefaceError` that names it."""
    try:
        yield
    except GlyphError:
        raise
    except (OSError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise TypefaceError(f"{path}, face {index}: cannot be drawn: {error}") from error


@lru_cache(maxsize=1024)
def _opened(path: Path, _: tuple[int, ...], index: int, size: float) -> ImageFont.FreeTypeFont:
    try:
        require_regular(path)  # FreeType opens it itself, and waits
        return ImageFont.truetype(path, size, index, layout_engine=ImageFont.Layout.BASIC)
    except (OSError, ValueError, MemoryError) as error:
        raise TypefaceError(f"{path}, face {index}: not a readable font: {error}") from error


def face_count(path: Path) -> int:
    """How many faces a file holds: one, or those of a collection.

    Raises:
        TypefaceError: the file cannot be read, is no font, or claims more than 256 faces.
    """
    head = _head(path, 12)
    count = int(struct.unpack(">I", head[8:12])[0]) if head[:4] == b"ttcf" else 1
    if count > _MOST_FACES:
        raise TypefaceError(f"{path}: claims {count} faces; at most {_MOST_FACES} are read")
    return count


def covered(path: Path, index: int = 0) -> frozenset[int]:
    """The code points that a face draws, as its table ``cmap`` says.

    Raises:
        TypefaceError: the file is cut short, or has no table of Unicode.
    """
    return _covered(path, stamp(path), index)


@lru_cache(maxsize=4096)
def _covered(path: Path, _: tuple[int, ...], index: int) -> frozenset[int]:
    try:
        content = read_bytes(path, limit=_LARGEST)
        return frozenset(_pairs(content, _cmap(content, index)))
    except (OSError, struct.error, IndexError) as error:
        raise TypefaceError(f"{path}, face {index}: broken font file: {error}") from error
    except TypefaceError as error:
        raise TypefaceError(f"{path}, face {index}: {error}") from None


def _head(path: Path, size: int) -> bytes:
    """The first bytes of a file."""
    try:
        with open_regular(path) as file:
            content = file.read(size)
    except OSError as error:
        raise TypefaceError(f"{path}: {error}") from error
    if len(content) < size:
        raise TypefaceError(f"{path}: {size} bytes expected, got {len(content)}")
    return content


def _cmap(content: bytes, index: int) -> int:
    """Where the largest table of Unicode begins."""
    start = struct.unpack_from(">I", content, 12 + 4 * index)[0] if content[:4] == b"ttcf" else 0
    tables = _few(struct.unpack_from(">H", content, start + 4)[0])
    records = (struct.unpack_from(">4sIII", content, start + 12 + 16 * i) for i in range(tables))
    offset = next((record[2] for record in records if record[0] == b"cmap"), None)
    if offset is None:
        raise TypefaceError("no table of letters (cmap)")
    count = _few(struct.unpack_from(">H", content, offset + 2)[0])
    subtables = {}
    for i in range(count):
        platform, encoding, place = struct.unpack_from(">HHI", content, offset + 4 + 8 * i)
        subtables[platform, encoding] = offset + place
    known = [subtables[key] for key in _UNICODE if key in subtables]
    if not known:
        raise TypefaceError("its table of letters is not one of Unicode")
    return int(known[-1])


def _few(tables: int) -> int:
    if tables > _MOST_TABLES:
        raise TypefaceError(f"claims {tables} tables; at most {_MOST_TABLES} are read")
    return tables


def _pairs(content: bytes, start: int) -> Iterator[int]:
    """The code points of a subtable that lead to a glyph."""
    (kind,) = struct.unpack_from(">H", content, start)
    if kind == 4:
        yield from _format_4(content, start)
    elif kind == 12:
        (groups,) = struct.unpack_from(">I", content, start + 12)
        before = -1
        for i in range(groups):
            first, last, glyph = struct.unpack_from(">III", content, start + 16 + 12 * i)
            if not before < first <= last <= 0x10FFFF:
                raise TypefaceError(f"its table of letters is out of order at {first:#x}")
            before = last
            yield from range(first + (glyph == 0), last + 1)
    else:
        raise TypefaceError(f"its table of letters has format {kind}, not 4 or 12")


def _format_4(content: bytes, start: int) -> Iterator[int]:
    count = struct.unpack_from(">H", content, start + 6)[0] // 2
    arrays = struct.unpack_from(f">{count}HH{3 * count}H", content, start + 14)
    lasts, rest = arrays[:count], arrays[count + 1 :]
    firsts, deltas, offsets = rest[:count], rest[count : 2 * count], rest[2 * count :]
    base = start + 16 + 6 * count
    listed = sum(
        last - first + 1 for first, last in zip(firsts, lasts, strict=True) if first <= last
    )
    if listed > _MOST_POINTS:
        raise TypefaceError(f"its table of letters lists {listed} of 65536 code points")
    for i, (first, last, delta, offset) in enumerate(
        zip(firsts, lasts, deltas, offsets, strict=True)
    ):
        for point in range(first, min(last, 0xFFFE) + 1):
            glyph = point
            if offset:
                place = base + 2 * i + offset + 2 * (point - first)
                (glyph,) = struct.unpack_from(">H", content, place)
            if (glyph + delta) % 65536 if glyph or not offset else 0:
                yield point
