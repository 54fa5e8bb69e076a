"""CIFAR in its binary version: rows, names, FC100, and refused files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from featurewise.worlds.glyphs.formats import FormatError, cifar10, cifar100, fc100
from featurewise.worlds.glyphs.formats.cifar import FC100

COARSE = [
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
]


def plane(*values: int) -> bytes:
    """3 x 32 x 32 bytes: red, green, blue; the first pixel identifies the image."""
    red, green, blue, first = values
    return bytes([first, *[red] * 1023, *[green] * 1024, *[blue] * 1024])


def ten(folder: Path) -> Path:
    (folder / "batches.meta.txt").write_text("\n".join(f"kind{i}" for i in range(10)) + "\n\n")
    for part in range(1, 6):
        rows = bytes([part]) + plane(10, 20, 30, part) + bytes([9]) + plane(1, 2, 3, 100 + part)
        (folder / f"data_batch_{part}.bin").write_bytes(rows)
    (folder / "test_batch.bin").write_bytes(bytes([4]) + plane(5, 6, 7, 8))
    return folder


def hundred(folder: Path) -> Path:
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    rows = [(1, 7, 11), (1, 8, 12), (14, 9, 13), (1, 7, 14)]
    content = b"".join(bytes([c, f]) + plane(1, 2, 3, first) for c, f, first in rows)
    (folder / "train.bin").write_bytes(content)
    (folder / "test.bin").write_bytes(bytes([1, 7]) + plane(1, 2, 3, 15))
    return folder


def test_ten(tmp_path: Path) -> None:
    data_set = cifar10(ten(tmp_path))
    assert data_set.images.shape == (10, 3, 32, 32) and data_set.names[9] == "kind9"
    assert data_set.labels.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert data_set.images[:, 0, 0, 0].tolist() == [1, 101, 2, 102, 3, 103, 4, 104, 5, 105]
    assert data_set.images[0, :, 31, 31].tolist() == [10, 20, 30]
    one = cifar10(tmp_path, train=False)
    assert one.labels.tolist() == [4] and one.images[0, 0, 0, :2].tolist() == [8, 5]
    images, labels = one.take([0])
    assert labels.dtype == torch.int64 and images.amax().item() == pytest.approx(8 / 255)


def test_hundred(tmp_path: Path) -> None:
    fine, coarse = cifar100(hundred(tmp_path)), cifar100(tmp_path, labels="coarse")
    assert fine.labels.tolist() == [7, 8, 9, 7] and fine.names[9] == "fine9"
    assert coarse.labels.tolist() == [1, 1, 14, 1] and coarse.names[14] == "people"
    assert fine.images[:, 0, 0, 0].tolist() == [11, 12, 13, 14]
    assert cifar100(tmp_path, train=False).images[0, 0, 0, 0] == 15


def test_fc100_joins_both_files_and_splits_by_superclass(tmp_path: Path) -> None:
    pool = fc100(hundred(tmp_path), "train")
    assert pool.names == ("fine7", "fine8") and pool.groups == ("fish", "fish")
    assert [pool.count(0), pool.count(1)] == [3, 1]
    assert [pool.image(0, i)[0, 0, 0].item() for i in range(3)] == [11, 14, 15]
    assert fc100(tmp_path, "test").names == ("fine9",)
    with pytest.raises(FormatError, match="no images of the val classes"):
        fc100(tmp_path, "val")


def test_fc100_refuses_a_class_of_two_superclasses(tmp_path: Path) -> None:
    hundred(tmp_path)
    (tmp_path / "test.bin").write_bytes(bytes([2, 7]) + plane(1, 2, 3, 15))
    with pytest.raises(FormatError, match=r"test\.bin: row 0: class 7 is of superclass 2 here"):
        fc100(tmp_path)


def test_the_splits_of_fc100_are_the_paper_s() -> None:
    numbers = {split: [COARSE.index(name) for name in names] for split, names in FC100.items()}
    assert numbers == {
        "train": [1, 2, 3, 4, 5, 6, 9, 10, 15, 17, 18, 19],
        "val": [8, 11, 13, 16],
        "test": [0, 7, 12, 14],
    }


@pytest.mark.parametrize("file", ["data_batch_3.bin", "batches.meta.txt"])
def test_missing(tmp_path: Path, file: str) -> None:
    (ten(tmp_path) / file).unlink()
    with pytest.raises(FormatError, match=f"{file}: cannot be read"):
        cifar10(tmp_path)


@pytest.mark.parametrize("content", [b"", bytes(3073 + 5), bytes(3072)])
def test_truncated_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (ten(tmp_path) / "test_batch.bin").write_bytes(content)
    with pytest.raises(FormatError, match=r"test_batch\.bin: holds \d+ bytes, no multiple"):
        cifar10(tmp_path, train=False)


def test_impossible_labels(tmp_path: Path) -> None:
    content = bytes([3]) + bytes(3072) + bytes([10]) + bytes(3072)
    (ten(tmp_path) / "test_batch.bin").write_bytes(content)
    with pytest.raises(FormatError, match="row 1: label 0 must be below 10, not 10"):
        cifar10(tmp_path, train=False)
    hundred(tmp_path)
    (tmp_path / "test.bin").write_bytes(bytes([3, 100]) + bytes(3072))
    with pytest.raises(FormatError, match="row 0: label 1 must be below 100, not 100"):
        cifar100(tmp_path, train=False)


def test_wrong_names(tmp_path: Path) -> None:
    (ten(tmp_path) / "batches.meta.txt").write_text("cat\ncat\n")
    with pytest.raises(FormatError, match="must name 10 different classes, not 1"):
        cifar10(tmp_path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.mkdir()
    (python / "batches.meta").write_bytes(b"\x80\x04.")
    with pytest.raises(FormatError, match=r"batches\.meta: is pickled.*cifar-10-binary\.tar\.gz"):
        cifar10(python)
    (python / "batches.meta").rename(python / "meta")
    with pytest.raises(FormatError, match="use the binary version"):
        cifar100(python)
    # A pickle under the file name of the binary version.
    (ten(tmp_path) / "data_batch_1.bin").write_bytes(b"\x80\x02}q\x01" + bytes(3068))
    with pytest.raises(FormatError, match=r"data_batch_1\.bin: is pickled"):
        cifar10(tmp_path)
