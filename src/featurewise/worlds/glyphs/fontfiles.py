"""Font files: where they are, and which letters their typefaces have.

Which letters a typeface has is read from the table ``cmap`` of the OpenType file (formats 4 and
12). It cannot be seen from rendered images: FreeType renders a missing letter as a box.
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

#: Debian packages of typefaces, for Latin and other scripts.
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

#: Maximum size of a font file, in bytes; the largest collections of Chinese typefaces have 120 MB.
_LARGEST: Final = 1 << 28
#: Maximum number of typefaces in a collection; the largest known has 45.
_MOST_TYPEFACES: Final = 256
#: Maximum number of tables of a typeface, and of subtables of ``cmap``.
_MOST_TABLES: Final = 256
#: Maximum number of code points in a subtable of format 4; overlapping segments repeat some.
_MOST_POINTS: Final = 1 << 17

#: Subtables of ``cmap`` that are read, the larger last: (platform, encoding).
_UNICODE: Final = ((0, 3), (3, 1), (0, 4), (0, 6), (3, 10))


def font_files(where: str | Path) -> tuple[Path, ...]:
    """The font files of a location, ordered by name.

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
        if where == "" or not folder.is_dir():  # Path("") would be the current folder
            raise TypefaceError(
                f"{str(where)!r} is no folder; where must be 'bundled', 'debian' or a folder of "
                "fonts"
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
            "pip install matplotlib, or pass a folder of fonts"
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _debian() -> Iterator[Path]:
    """Files by the lists of the package manager, so that other installed fonts change nothing."""
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
    """Size, inode and times of a file: the key of caches in memory, as they change with the file.

    Raises:
        TypefaceError: the file does not exist.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise TypefaceError(f"{path}: {error}") from error
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def font(path: Path, index: int, size: float) -> ImageFont.FreeTypeFont:
    """The opened font, with basic layout: no ligatures, no kerning, the same on every machine.

    Raises:
        TypefaceError: FreeType cannot read the file.
    """
    return _opened(path, stamp(path), index, size)


@contextmanager
def freetype_errors(path: Path, index: int) -> Iterator[None]:
    """Turns what FreeType raises into a `TypefaceError` that names the typeface."""
    try:
        yield
    except GlyphError:
        raise
    except (OSError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise TypefaceError(f"{path}, typeface {index}: cannot be rendered: {error}") from error


@lru_cache(maxsize=1024)
def _opened(path: Path, _: tuple[int, ...], index: int, size: float) -> ImageFont.FreeTypeFont:
    try:
        require_regular(path)  # FreeType opens it itself, and would block on a pipe
        return ImageFont.truetype(path, size, index, layout_engine=ImageFont.Layout.BASIC)
    except (OSError, ValueError, MemoryError) as error:
        raise TypefaceError(f"{path}, typeface {index}: not a readable font: {error}") from error


def typeface_count(path: Path) -> int:
    """Number of typefaces in a file: one, or more in a collection.

    Raises:
        TypefaceError: the file cannot be read, is no font, or claims more than 256 typefaces.
    """
    head = _head(path, 12)
    count = int(struct.unpack(">I", head[8:12])[0]) if head[:4] == b"ttcf" else 1
    if count > _MOST_TYPEFACES:
        raise TypefaceError(f"{path}: claims {count} typefaces; at most {_MOST_TYPEFACES} are read")
    return count


def code_points(path: Path, index: int = 0) -> frozenset[int]:
    """The code points that a typeface has glyphs for, by its table ``cmap``.

    Raises:
        TypefaceError: the file is truncated, or has no Unicode subtable.
    """
    return _code_points(path, stamp(path), index)


@lru_cache(maxsize=4096)
def _code_points(path: Path, _: tuple[int, ...], index: int) -> frozenset[int]:
    try:
        content = read_bytes(path, limit=_LARGEST)
        return frozenset(_subtable(content, _cmap(content, index)))
    except (OSError, struct.error, IndexError) as error:
        raise TypefaceError(f"{path}, typeface {index}: broken font file: {error}") from error
    except TypefaceError as error:
        raise TypefaceError(f"{path}, typeface {index}: {error}") from None


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
    """Offset of the largest Unicode subtable, in bytes."""
    start = struct.unpack_from(">I", content, 12 + 4 * index)[0] if content[:4] == b"ttcf" else 0
    tables = _checked(struct.unpack_from(">H", content, start + 4)[0])
    records = (struct.unpack_from(">4sIII", content, start + 12 + 16 * i) for i in range(tables))
    offset = next((record[2] for record in records if record[0] == b"cmap"), None)
    if offset is None:
        raise TypefaceError("it has no table cmap")
    count = _checked(struct.unpack_from(">H", content, offset + 2)[0])
    subtables = {}
    for i in range(count):
        platform, encoding, place = struct.unpack_from(">HHI", content, offset + 4 + 8 * i)
        subtables[platform, encoding] = offset + place
    known = [subtables[key] for key in _UNICODE if key in subtables]
    if not known:
        raise TypefaceError("its table cmap has no Unicode subtable")
    return int(known[-1])


def _checked(tables: int) -> int:
    """The number of tables, if it is not too large."""
    if tables > _MOST_TABLES:
        raise TypefaceError(f"claims {tables} tables; at most {_MOST_TABLES} are read")
    return tables


def _subtable(content: bytes, start: int) -> Iterator[int]:
    """The code points that a subtable maps to a glyph."""
    (kind,) = struct.unpack_from(">H", content, start)
    if kind == 4:
        yield from _format_4(content, start)
    elif kind == 12:
        (groups,) = struct.unpack_from(">I", content, start + 12)
        before = -1
        for i in range(groups):
            first, last, glyph = struct.unpack_from(">III", content, start + 16 + 12 * i)
            if not before < first <= last <= 0x10FFFF:
                raise TypefaceError(f"its table cmap is out of order at {first:#x}")
            before = last
            yield from range(first + (glyph == 0), last + 1)
    else:
        raise TypefaceError(f"its subtable of cmap has format {kind}, not 4 or 12")


def _format_4(content: bytes, start: int) -> Iterator[int]:
    """The code points of a subtable of format 4: segments, each with an offset or a delta."""
    count = struct.unpack_from(">H", content, start + 6)[0] // 2
    arrays = struct.unpack_from(f">{count}HH{3 * count}H", content, start + 14)
    lasts, rest = arrays[:count], arrays[count + 1 :]
    firsts, deltas, offsets = rest[:count], rest[count : 2 * count], rest[2 * count :]
    base = start + 16 + 6 * count
    listed = sum(
        last - first + 1 for first, last in zip(firsts, lasts, strict=True) if first <= last
    )
    if listed > _MOST_POINTS:
        raise TypefaceError(f"its table cmap lists {listed} code points, of 65536 that exist")
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
