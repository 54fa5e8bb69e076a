"""Reads Qt resource files (``.rcc``), formats 1 to 3, as Qt's ``rcc --binary`` writes them.

All numbers are big-endian. The header is ``qres``, the version, and the offsets of the tree, the
data and the names; since version 3 it ends with flags. The tree is an array of nodes of 14 bytes
(22 since version 2, with a time at the end): the offset of the name, flags, then for a folder the
number of children and the index of the first, for a file the country, the language and the offset
of its data. Data are a length and bytes; with flag 1 the bytes are a length and a zlib stream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from featurewise.common.opening import read_bytes
from featurewise.worlds.pictures.errors import ResourceError

#: Largest file that is read, and most bytes of one entry and of all of them, after decompression.
MAX_FILE: Final = 1 << 26
MAX_ENTRY: Final = 1 << 25
MAX_TOTAL: Final = 1 << 27
#: Most nodes of the tree, and characters of a path.
MAX_NODES: Final = 1 << 16
MAX_PATH: Final = 1024

_ZLIB, _FOLDER, _ZSTD = 1, 2, 4  # flags of a node


def read_resources(path: Path | str) -> dict[str, bytes]:
    """Path inside of the file -> content, decompressed, of all entries of a Qt resource file.

    Args:
        path: of the file.

    Raises:
        ResourceError: the file cannot be read, is no Qt resource file, is malformed, exceeds one of
            the limits of this module, or has an entry that is compressed by zstd.
    """
    try:
        content = read_bytes(path, limit=MAX_FILE)
    except OSError as error:
        raise ResourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return _Reader(content).entries()
    except ResourceError as error:
        raise ResourceError(f"{path}: {error}") from error


class _Reader:
    """The parts of a resource file, with every offset checked."""

    def __init__(self, content: bytes) -> None:
        if content[:4] != b"qres":
            raise ResourceError(f"no Qt resource file: it begins with {content[:4]!r}, not b'qres'")
        self.content = content
        version, self.tree, self.data, self.names = self.unpack(">IIII", 4, "the header")
        if not 1 <= version <= 3:
            raise ResourceError(f"its format is version {version}; 1 to 3 can be read")
        self.node = 14 if version == 1 else 22

    def unpack(self, layout: str, at: int, what: str) -> tuple[int, ...]:
        """Numbers at an offset."""
        return struct.unpack(layout, self.slice(at, struct.calcsize(layout), what))

    def slice(self, at: int, length: int, what: str) -> bytes:
        """Bytes at an offset."""
        if at + length > len(self.content):
            raise ResourceError(
                f"truncated: {what} is {length} bytes at offset {at}, "
                f"but the file has {len(self.content)} bytes"
            )
        return self.content[at : at + length]

    def entries(self) -> dict[str, bytes]:
        """All files of the tree by their path."""
        if not self.fields(0)[0] & _FOLDER:
            raise ResourceError("its tree does not begin with a folder")
        found: dict[str, bytes] = {}
        seen = {0}
        total = 0
        stack = [(0, "")]
        while stack:
            index, path = stack.pop()
            flags, first, second = self.fields(index)
            if flags & _FOLDER:
                stack.extend(self.children(path, range(second, second + first), seen))
                continue
            if path in found:
                raise ResourceError(f"{path} occurs twice")
            found[path] = self.file(path, flags, second)
            total += len(found[path])
            if total > MAX_TOTAL:
                raise ResourceError(f"its entries have more than {MAX_TOTAL:,} bytes in all")
        return found

    def children(self, folder: str, nodes: range, seen: set[int]) -> Iterator[tuple[int, str]]:
        """Index and path of each node of a folder; they are added to those seen."""
        for index in nodes:
            if index in seen:
                raise ResourceError(f"node {index} of its tree is in two folders, or in itself")
            if len(seen) == MAX_NODES:
                raise ResourceError(f"its tree has more than {MAX_NODES:,} nodes")
            seen.add(index)
            path = f"{folder}/{self.name(index)}"
            if len(path) > MAX_PATH:
                raise ResourceError(f"a path in it has more than {MAX_PATH:,} characters")
            yield index, path

    def fields(self, index: int) -> tuple[int, int, int]:
        """Flags of a node, and two numbers.

        They are the number of children and the index of the first for a folder; for a file its
        country and language, and the offset of its data.
        """
        at = self.tree + index * self.node
        _, flags, first, second = self.unpack(">IHII", at, f"node {index} of the tree")
        return flags, first, second

    def name(self, index: int) -> str:
        """Name of a node."""
        at = self.tree + index * self.node
        (offset,) = self.unpack(">I", at, f"node {index} of the tree")
        place = self.names + offset
        (length,) = self.unpack(">H", place, f"the length of the name of node {index}")
        raw = self.slice(place + 6, 2 * length, f"the name of node {index}")
        try:
            return raw.decode("utf-16-be")
        except UnicodeDecodeError as error:
            raise ResourceError(f"the name of node {index} is not UTF-16") from error

    def file(self, path: str, flags: int, offset: int) -> bytes:
        """Content of a file."""
        (length,) = self.unpack(">I", self.data + offset, f"the length of {path}")
        raw = self.slice(self.data + offset + 4, length, path)
        if flags & _ZSTD:
            raise ResourceError(
                f"{path} is compressed by zstd, which cannot be read; only zlib can"
            )
        if not flags & _ZLIB:
            size = length
        elif length < 4:
            raise ResourceError(f"{path} is compressed, but has only {length} bytes")
        else:
            (size,) = struct.unpack(">I", raw[:4])
        if size > MAX_ENTRY:
            raise ResourceError(f"{path} has {size:,} bytes; {MAX_ENTRY:,} are allowed")
        return _decompressed(path, raw[4:], size) if flags & _ZLIB else raw


def _decompressed(path: str, stream: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(stream, size + 1)
    except zlib.error as error:
        raise ResourceError(f"{path}: damaged: {error}") from error
    if len(content) != size or not decompressor.eof:
        raise ResourceError(f"{path}: damaged: it does not decompress to the {size:,} bytes stated")
    return content
