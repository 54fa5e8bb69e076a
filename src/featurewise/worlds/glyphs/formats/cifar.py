"""CIFAR-10 and CIFAR-100 in their *binary* version, and FC100, which consists of CIFAR-100 images.

A row is one label (CIFAR-100: the coarse one, then the fine one) and 3 x 32 x 32 bytes: red, green,
blue, each row by row. The "python version" of the same images is pickled. Reading a pickle can run
any code, so it is refused. Sources: Krizhevsky 2009, *Learning Multiple Layers of
Features from Tiny Images*; Oreshkin et al. 2018, *TADAM* (FC100).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from featurewise.common.opening import open_regular, read_bytes
from featurewise.worlds.glyphs.formats.errors import FormatError
from featurewise.worlds.glyphs.formats.images import LabelledImages

_PIXELS: Final = 3 * 32 * 32
_LONGEST: Final = 1 << 20
"""Maximum size of a file of names, in bytes."""
_PICKLED: Final = (
    "is pickled, from the python version, and reading a pickle can run any code; use the binary "
    "version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)"
)

FC100: Final[Mapping[str, tuple[str, ...]]] = {
    "train": (
        *("fish", "flowers", "food_containers", "fruit_and_vegetables"),
        *("household_electrical_devices", "household_furniture", "large_man-made_outdoor_things"),
        *("large_natural_outdoor_scenes", "reptiles", "trees", "vehicles_1", "vehicles_2"),
    ),
    "val": (
        *("large_carnivores", "large_omnivores_and_herbivores", "non-insect_invertebrates"),
        "small_mammals",
    ),
    "test": ("aquatic_mammals", "insects", "medium_mammals", "people"),
}
"""Split -> its superclasses: 12, 4 and 4, of five classes each."""


def cifar10(folder: Path | str, train: bool = True) -> LabelledImages:
    """CIFAR-10.

    Args:
        folder: ``cifar-10-batches-bin``, with ``data_batch_1.bin`` to ``_5``, ``test_batch.bin``
            and ``batches.meta.txt``.
        train: the five training batches (read into memory, 154 MB) instead of the test batch.

    Raises:
        FormatError: a file is missing, cut off, or wrong; or it is the pickled version.
    """
    folder = Path(folder)
    names = _names(folder / "batches.meta.txt", 10)
    parts = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    rows = [_rows(folder / part, (10,)) for part in parts]
    joined = np.concatenate(rows) if len(rows) > 1 else rows[0]
    return LabelledImages(_images(joined), joined[:, 0], names)


def cifar100(
    folder: Path | str, train: bool = True, labels: Literal["fine", "coarse"] = "fine"
) -> LabelledImages:
    """CIFAR-100, mapped into memory.

    Args:
        folder: ``cifar-100-binary``, with ``train.bin``, ``test.bin`` and the two files of names.
        train: the training file instead of the test file.
        labels: the 100 classes, or the 20 superclasses.

    Raises:
        FormatError: a file is missing, cut off, or wrong; or it is the pickled version.
    """
    folder = Path(folder)
    names = _names(folder / f"{labels}_label_names.txt", 100 if labels == "fine" else 20)
    rows = _rows(folder / ("train.bin" if train else "test.bin"), (20, 100))
    return LabelledImages(_images(rows), rows[:, 1 if labels == "fine" else 0], names)


@dataclass(frozen=True)
class ImagesByClass:
    """Images by class, for episodes; memory-mapped images are read only when indexed.

    Attributes:
        names: names of the classes.
        groups: superclass of each class.
        parts: images of each file, uint8 ``(N, C, H, W)``.
        rows: for each class, the positions of its images: (part, row).
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    parts: tuple[NDArray[np.uint8], ...]
    rows: tuple[tuple[tuple[int, int], ...], ...]

    def count(self, label: int) -> int:
        """Number of images of a class."""
        return len(self.rows[label])

    def image(self, label: int, index: int) -> UInt8[Tensor, "C H W"]:
        """One image of a class."""
        part, row = self.rows[label][index]
        return torch.from_numpy(np.array(self.parts[part][row]))


def fc100(folder: Path | str, split: Literal["train", "val", "test"] = "train") -> ImagesByClass:
    """FC100: CIFAR-100 split by superclass, 60, 20 and 20 classes of 600 images.

    Args:
        folder: ``cifar-100-binary``; both of its files are used, as the paper does.
        split: which of the superclasses in `FC100`.

    Raises:
        FormatError: as for `cifar100`; or a class belongs to two superclasses, or a split has no
            images.
    """
    folder = Path(folder)
    fine = _names(folder / "fine_label_names.txt", 100)
    coarse = _names(folder / "coarse_label_names.txt", 20)
    files = [folder / "train.bin", folder / "test.bin"]
    parts = [_rows(path, (20, 100)) for path in files]
    if missing := set(FC100[split]) - set(coarse):
        raise FormatError.at(folder / "coarse_label_names.txt", f"lacks {sorted(missing)}")
    owner = _owners(files, parts)
    found = [label for label in sorted(owner) if coarse[owner[label]] in FC100[split]]
    if not found:
        raise FormatError.at(folder, f"has no images of the {split} classes")
    return ImagesByClass(
        tuple(fine[label] for label in found),
        tuple(coarse[owner[label]] for label in found),
        tuple(_images(part) for part in parts),
        tuple(_positions(parts, label) for label in found),
    )


def _owners(files: Sequence[Path], parts: Sequence[NDArray[np.uint8]]) -> dict[int, int]:
    """Class -> its superclass."""
    owner: dict[int, int] = {}
    for path, rows in zip(files, parts, strict=True):
        pairs, first = np.unique(rows[:, :2], axis=0, return_index=True)
        for (coarse, fine), row in zip(pairs.tolist(), first.tolist(), strict=True):
            if owner.setdefault(fine, coarse) != coarse:
                problem = f"class {fine} is of superclass {coarse} here, of {owner[fine]} elsewhere"
                raise FormatError.at(path, problem, f"row {row}")
    return owner


def _positions(parts: Sequence[NDArray[np.uint8]], label: int) -> tuple[tuple[int, int], ...]:
    return tuple(
        (part, int(row))
        for part, rows in enumerate(parts)
        for row in np.flatnonzero(rows[:, 1] == label)
    )


def _images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return rows[:, -_PIXELS:].reshape(-1, 3, 32, 32)


def _rows(path: Path, classes: tuple[int, ...]) -> NDArray[np.uint8]:
    """The memory-mapped rows of a file, (N, labels + pixels).

    Args:
        path: of the file.
        classes: for each label of a row, the number of its classes.
    """
    length, size = len(classes) + _PIXELS, _size(path)
    if size == 0 or size % length:
        problem = f"holds {size} bytes, no multiple of the {length} of a row: cut off?"
        raise FormatError.at(path, problem)
    rows = np.memmap(path, np.uint8, "r", shape=(size // length, length))
    for column, count in enumerate(classes):
        wrong = np.flatnonzero(rows[:, column] >= count)
        if len(wrong):
            problem = f"label {column} must be below {count}, not {rows[wrong[0], column]}"
            raise FormatError.at(path, problem, f"row {wrong[0]}")
    return rows


def _names(path: Path, count: int) -> tuple[str, ...]:
    """The names of the classes, one a line; the published files end in an empty line."""
    pickled = [path.parent / name for name in ("batches.meta", "meta")]
    for twin in pickled:
        if twin.is_file():
            raise FormatError.at(twin, _PICKLED)
    try:
        names = read_bytes(path, limit=_LONGEST).decode("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError.at(path, f"cannot be read: {error}") from error
    if len(names) != count or len(set(names)) != count:
        raise FormatError.at(path, f"must name {count} different classes, not {len(set(names))}")
    return tuple(names)


def _size(path: Path) -> int:
    """The size of a file in bytes, after checking that it is no pickle (which begins with 0x80)."""
    try:
        with open_regular(path) as file:
            first = file.read(1)
        size = path.stat().st_size
    except OSError as error:
        raise FormatError.at(path, f"cannot be read: {error}") from error
    # No label is as high: the first of a row is below 10 (CIFAR-10) or 20 (CIFAR-100, coarse).
    if first == b"\x80":
        raise FormatError.at(path, _PICKLED)
    return size
