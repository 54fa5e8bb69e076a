"""idx files: values as written, and an error for every malformed file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from featurewise.worlds.glyphs.formats import FormatError, mnist, read_idx

ROWS = 3


def idx(kind: int, shape: tuple[int, ...], data: bytes) -> bytes:
    """A file in the idx format, byte by byte."""
    return bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">I", n) for n in shape) + data


def pixels() -> bytes:
    return bytes(i % 251 for i in range(ROWS * 28 * 28))


def write(folder: Path, compressed: bool, part: str = "train") -> Path:
    for name, content in (
        ("images-idx3", idx(8, (ROWS, 28, 28), pixels())),
        ("labels-idx1", idx(8, (ROWS,), bytes([7, 0, 9]))),
    ):
        path = folder / f"{part}-{name}-ubyte{'.gz' if compressed else ''}"
        path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_images_as_written(tmp_path: Path, compressed: bool, train: bool) -> None:
    data_set = mnist(write(tmp_path, compressed, "train" if train else "t10k"), train)
    assert len(data_set) == ROWS and data_set.images.shape == (ROWS, 1, 28, 28)
    data = pixels()
    for n in range(ROWS):
        for y in (0, 3, 27):
            for x in (0, 11, 27):
                assert data_set.images[n, 0, y, x] == data[n * 784 + y * 28 + x]
    images, labels = data_set.take([2, 0])
    assert labels.tolist() == [9, 7] and images.shape == (2, 1, 28, 28)
    assert images[1, 0, 0, 5].item() == pytest.approx(5 / 255)


def test_uncompressed_files_are_memory_mapped(tmp_path: Path) -> None:
    assert isinstance(mnist(write(tmp_path, compressed=False)).images.base, np.memmap)


@pytest.mark.parametrize(
    ("kind", "form", "numbers"),
    [
        (9, ">2b", (-3, 4)),
        (11, ">2h", (-300, 4)),
        (12, ">2i", (-70000, 4)),
        (13, ">2f", (0.5, -2.0)),
        (14, ">2d", (0.1, 3.0)),
    ],
)
def test_other_number_types(
    tmp_path: Path, kind: int, form: str, numbers: tuple[float, ...]
) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(idx(kind, (2, 1), struct.pack(form, *numbers)))
    assert read_idx(path).shape == (2, 1)
    assert tuple(read_idx(path)[:, 0].tolist()) == numbers


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "nothing"),
        (b"\x00\x00\x08", "no idx file"),
        (b"\x01\x00\x08\x01\x00\x00\x00\x00", "no idx file"),
        (idx(10, (1,), b"a"), "no idx file"),
        (b"\x00\x00\x08\x00", "no idx file"),
        (b"\x00\x00\x08\x03\x00\x00", "within the lengths"),
        (idx(8, (2, 2), b"abc"), "take 4 bytes, not 3"),
        (idx(8, (2, 2), b"abcde"), "take 4 bytes, not"),
        (idx(8, (0xFFFFFFFF, 0xFFFF), b"abc"), "not 3"),
    ],
)
def test_wrong_files(tmp_path: Path, content: bytes, word: str, compressed: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(FormatError, match=word) as caught:
        read_idx(path)
    assert str(caught.value).startswith(str(path))


def test_cut_and_broken_gzip(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    whole = gzip.compress(idx(8, (ROWS, 28, 28), pixels()))
    for content in (whole[: len(whole) // 2], whole[:40] + b"\xff" * 40 + whole[80:]):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="cannot be read"):
            read_idx(path)


def test_missing_files_and_wrong_labels(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="has none of train-images-idx3-ubyte"):
        mnist(tmp_path)
    labels = write(tmp_path, compressed=False) / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(8, (2,), bytes([1, 2])))
    with pytest.raises(FormatError, match="2 labels for 3 images"):
        mnist(tmp_path)
    labels.write_bytes(idx(8, (3,), bytes([1, 10, 2])))
    with pytest.raises(FormatError, match="label 1: labels are 0 to 9, not 10"):
        mnist(tmp_path)
    labels.write_bytes(idx(8, (3, 1), bytes([1, 1, 2])))
    with pytest.raises(FormatError, match="along 1 axes"):
        mnist(tmp_path)
    labels.write_bytes(idx(9, (3,), bytes([1, 1, 2])))
    with pytest.raises(FormatError, match="must hold bytes"):
        mnist(tmp_path)


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(idx(8, (0, 28, 28), b""))
    assert read_idx(path).shape == (0, 28, 28)
