"""The idx files of MNIST and its relatives (Fashion-MNIST, KMNIST), with or without gzip.

An idx file is two zero bytes, a byte for the type of its numbers, one for the number of axes, the
lengths of the axes as big-endian 32-bit integers, and the numbers, big-endian. Source: LeCun,
Cortes, Burges, *The MNIST database of handwritten digits*.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurewise.common.opening import open_regular
from featurewise.worlds.glyphs.formats.errors import FormatError
from featurewise.worlds.glyphs.formats.images import LabelledImages

_TYPES: Final = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP: Final = b"\x1f\x8b"


def read_idx(path: Path | str) -> NDArray[Any]:
    """The array in an idx file; memory-mapped if the file is not compressed.

    Args:
        path: of the file; gzip is detected from its content.

    Raises:
        FormatError: it cannot be read, has a wrong header, or a size that contradicts its header.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            packed = file.read(2) == _GZIP
        return _unpacked(path) if packed else _mapped(path)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError.at(path, f"cannot be read: {error}") from error


def mnist(folder: Path | str, train: bool = True) -> LabelledImages:
    """The images of MNIST or of a data set of ten classes in the same files.

    Args:
        folder: with ``train-images-idx3-ubyte`` and so on, compressed (``.gz``) or not.
        train: the training files instead of the test files (``t10k-...``).

    Raises:
        FormatError: a file is missing or wrong, or images and labels differ in number.
    """
    part = "train" if train else "t10k"
    images_path = _find(Path(folder), f"{part}-images", "idx3-ubyte")
    labels_path = _find(Path(folder), f"{part}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, axes in ((images_path, images, 3), (labels_path, labels, 1)):
        if array.ndim != axes or array.dtype != np.uint8:
            problem = f"must hold bytes along {axes} axes, not {array.dtype} along {array.ndim}"
            raise FormatError.at(path, problem)
    if len(images) != len(labels):
        raise FormatError.at(labels_path, f"has {len(labels)} labels for {len(images)} images")
    if len(labels) and labels.max() > 9:
        row = int(np.argmax(labels > 9))
        raise FormatError.at(labels_path, f"labels are 0 to 9, not {labels[row]}", f"label {row}")
    return LabelledImages(images[:, None], labels, tuple("0123456789"))


def _find(folder: Path, stem: str, kind: str) -> Path:
    """The file, named with ``-idx3`` as published, or with ``.idx3`` as some tools unpack it."""
    names = [f"{stem}{mark}{kind}{end}" for mark in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FormatError.at(folder, f"has none of {', '.join(names)}")


def _header(path: Path, content: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type and shape of the array, and length of the header in bytes."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or not content[3]:
        raise FormatError.at(
            path,
            f"is no idx file: it begins with {content[:4].hex(' ') or 'nothing'}, "
            "not with 00 00, a type of 08, 09, 0b to 0e, and a number of axes",
        )
    axes, start = content[3], 4 + 4 * content[3]
    if len(content) < start:
        raise FormatError.at(path, f"ends within the lengths of its {axes} axes")
    return np.dtype(_TYPES[content[2]]), struct.unpack(f">{axes}I", content[4:start]), start


def _check_length(path: Path, shape: tuple[int, ...], expected: int, found: str | int) -> None:
    if found != expected:
        shape_text = " x ".join(map(str, shape))
        raise FormatError.at(path, f"{shape_text} numbers take {expected} bytes, not {found}")


def _mapped(path: Path) -> NDArray[Any]:
    with open_regular(path) as file:
        kind, shape, start = _header(path, file.read(4 + 4 * 255))
    expected = math.prod(shape) * kind.itemsize
    _check_length(path, shape, expected, path.stat().st_size - start)
    if not expected:
        return np.empty(shape, kind)
    return np.memmap(path, kind, "r", start, shape)


def _unpacked(path: Path) -> NDArray[Any]:
    with open_regular(path) as packed, gzip.open(packed, "rb") as file:
        content = file.read(4)
        if len(content) == 4:
            content += file.read(4 * content[3])
        kind, shape, _ = _header(path, content)
        expected = math.prod(shape) * kind.itemsize
        # In chunks: a header that claims too much must not exhaust the memory.
        data = bytearray()
        while chunk := file.read(min(1 << 24, expected + 1 - len(data))):
            data += chunk
    found = len(data) if len(data) <= expected else "more"
    _check_length(path, shape, expected, found)
    return np.frombuffer(bytes(data), kind).reshape(shape)
