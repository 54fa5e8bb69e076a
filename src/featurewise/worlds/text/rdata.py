"""Reads character vectors from a lazy-load database of R (``NAME.rdx`` and ``NAME.rdb``).

The index, ``.rdx``, is a gzip file of one serialised object: a list whose element ``variables``
has, by name, the offset and the length of each object in the database, ``.rdb``. There an object
is its size, four bytes in big-endian order, and a zlib stream of that size. Objects are in R's
XDR format, version 2 or 3; of its types those are read that a data set of texts has: vectors of
strings, integers, logical values and numbers, lists, symbols, and pairlists of attributes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from featurewise.common.opening import read_bytes
from featurewise.worlds.text.errors import TextFileError

#: Largest file that is read, and most bytes of an object after decompression.
MAX_FILE: Final = 1 << 26
MAX_OBJECT: Final = 1 << 26
#: Deepest nesting of an object.
MAX_DEPTH: Final = 64

_NIL, _REFERENCE = 254, 255
_SYMBOL, _PAIRLIST, _CHARACTERS, _LOGICAL, _INTEGER, _REAL, _STRINGS, _LIST = (
    1,
    2,
    9,
    10,
    13,
    14,
    16,
    19,
)
_HAS_ATTRIBUTES, _HAS_TAG = 0x200, 0x400


def read_character_vectors(stem: Path | str) -> dict[str, list[str]]:
    """Name -> strings, of all objects of a database that are character vectors.

    Args:
        stem: path of the two files without their endings, such as ``.../data/Rdata``.

    Raises:
        TextFileError: a file cannot be read, is malformed, exceeds one of the limits of this
            module, or has objects of other types; the message begins with its path.
    """
    index, database = Path(f"{stem}.rdx"), Path(f"{stem}.rdb")
    raw = _read(database)
    found = {}
    for name, place in _places(index).items():
        value = _Reader(_stored(raw, place, f"{database}: {name}"), f"{database}: {name}").object()
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            found[name] = value
    return found


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, limit=MAX_FILE)
    except OSError as error:
        raise TextFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _places(index: Path) -> dict[str, tuple[int, int]]:
    """Name -> offset and length in the database."""
    value = _Reader(_inflated(_read(index), str(index), zlib.MAX_WBITS | 16), str(index)).object()
    variables = value.get("variables") if isinstance(value, Mapping) else None
    if not isinstance(variables, Mapping):
        raise TextFileError(f"{index}: no index of R: it has no list called variables")
    for name, place in variables.items():
        whole = isinstance(place, list) and all(isinstance(each, int) for each in place)
        if not whole or len(place) != 2 or min(place) < 0:
            raise TextFileError(f"{index}: {name} must have an offset and a length, got {place!r}")
    return {name: (place[0], place[1]) for name, place in variables.items()}


def _stored(database: bytes, place: tuple[int, int], where: str) -> bytes:
    """An object, decompressed."""
    offset, length = place
    stored = database[offset : offset + length]
    if len(stored) < length or length < 4:
        raise TextFileError(
            f"{where}: truncated: {length} bytes at offset {offset}, of {len(database)} bytes"
        )
    (size,) = struct.unpack(">I", stored[:4])
    content = _inflated(stored[4:], where, zlib.MAX_WBITS)
    if len(content) != size:
        raise TextFileError(f"{where}: damaged: {len(content)} bytes, where {size} are stated")
    return content


def _inflated(stream: bytes, where: str, form: int) -> bytes:
    decompressor = zlib.decompressobj(form)
    try:
        content = decompressor.decompress(stream, MAX_OBJECT)
    except zlib.error as error:
        raise TextFileError(f"{where}: damaged: {error}") from error
    if not decompressor.eof:
        raise TextFileError(f"{where}: damaged or longer than {MAX_OBJECT:,} bytes")
    return content


class _Reader:
    """One serialised object, with every length checked."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where, self.at = content, where, 0
        self.references: list[str] = []
        if self.take(2, "the beginning") != b"X\n":
            raise self.error(f"no object in R's XDR format: it begins with {content[:2]!r}")
        version, _, _ = (self.integer() for _ in range(3))
        if version not in (2, 3):
            raise self.error(f"its format is version {version}; 2 and 3 can be read")
        if version == 3:
            self.take(self.length(1), "the encoding")

    def error(self, message: str) -> TextFileError:
        return TextFileError(f"{self.where}: {message}")

    def take(self, count: int, what: str) -> bytes:
        """So many bytes."""
        if self.at + count > len(self.content):
            raise self.error(
                f"truncated: {what} is {count} bytes at offset {self.at}, "
                f"but there are {len(self.content)} bytes"
            )
        self.at += count
        return self.content[self.at - count : self.at]

    def integer(self) -> int:
        """A signed number of four bytes."""
        number: int = struct.unpack(">i", self.take(4, "a number"))[0]
        return number

    def length(self, width: int) -> int:
        """A number of elements of so many bytes each, all of which must be there."""
        count = self.integer()
        if not 0 <= count * width <= len(self.content) - self.at:
            raise self.error(f"a vector of {count} elements at offset {self.at} is too long")
        return count

    def object(self, depth: int = 0) -> Any:
        """Vectors as lists, those of numbers and strings; lists with names as dictionaries."""
        if depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels")
        flags = self.integer()
        kind = flags & 0xFF
        if kind == _NIL:
            return None
        if kind == _REFERENCE:
            return self.reference(flags >> 8)
        if kind == _SYMBOL:
            self.references.append(str(self.object(depth + 1)))
            return self.references[-1]
        if kind == _PAIRLIST:
            return self.pairlist(flags, depth)
        if kind == _CHARACTERS:
            return self.characters()
        value = self.vector(kind, depth)
        names = None
        if flags & _HAS_ATTRIBUTES:
            names = (self.object(depth + 1) or {}).get("names")
        if kind != _LIST or names is None:
            return value
        if not isinstance(names, list) or len(names) != len(value):
            raise self.error(f"a list of {len(value)} elements has other names: {names!r:.60}")
        return dict(zip(names, value, strict=True))

    def reference(self, number: int) -> str:
        """A symbol that was read before."""
        number = number or self.integer()
        if not 1 <= number <= len(self.references):
            raise self.error(f"reference {number} of {len(self.references)} at offset {self.at}")
        return self.references[number - 1]

    def pairlist(self, flags: int, depth: int) -> dict[str, Any]:
        """Tag -> value."""
        found = {}
        while flags & 0xFF == _PAIRLIST:
            if flags & _HAS_ATTRIBUTES:
                self.object(depth + 1)
            tag = self.object(depth + 1) if flags & _HAS_TAG else ""
            found[str(tag)] = self.object(depth + 1)
            flags = self.integer()
        if flags & 0xFF != _NIL:
            raise self.error(f"a pairlist ends with type {flags & 0xFF} at offset {self.at}")
        return found

    def characters(self) -> str:
        """A string; a missing one is empty."""
        at = self.at
        if self.integer() == -1:
            return ""
        self.at = at
        raw = self.take(self.length(1), "a string")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    def vector(self, kind: int, depth: int) -> list[Any]:
        """Its elements."""
        if kind in (_LOGICAL, _INTEGER):
            count = self.length(4)
            return list(struct.unpack(f">{count}i", self.take(4 * count, "a vector")))
        if kind == _REAL:
            count = self.length(8)
            return list(struct.unpack(f">{count}d", self.take(8 * count, "a vector")))
        if kind in (_STRINGS, _LIST):
            return [self.object(depth + 1) for _ in range(self.length(4))]
        raise self.error(f"an object of type {kind} at offset {self.at} cannot be read")
