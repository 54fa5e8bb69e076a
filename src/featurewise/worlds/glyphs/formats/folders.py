"""Image files by class: Omniglot, miniImageNet, unpacked FC100, any folder of class folders.

A file is decoded only when its image is requested. Sources: Lake et al. 2015, *Human-level concept
learning through probabilistic program induction* (Omniglot); Vinyals et al. 2016, *Matching
Networks*, with the classes of Ravi and Larochelle 2017 (miniImageNet).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from featurewise.common.images import ImageFileError, read_image, to_rgb
from featurewise.common.opening import open_regular
from featurewise.worlds.glyphs.formats.errors import FormatError

_IMAGES: Final = (".png", ".jpg", ".jpeg", ".JPEG")
_FILE_NAME: Final = re.compile(r"(\d{4})_(\d{2})\.png")
_CHARACTER: Final = re.compile(r"character\d{2}")


OmniglotPart: TypeAlias = Literal[
    "images_background",
    "images_evaluation",
    "images_background_small1",
    "images_background_small2",
]
"""The folders that the archives of Omniglot unpack to."""


@dataclass(frozen=True)
class ImageFiles:
    """Classes of image files, decoded and scaled to one size when requested.

    Attributes:
        names: names of the classes.
        groups: group of each class (an alphabet); classes are split by group.
        files: the image files of each class.
        size: height and width of the images that `image` returns, in pixels.
        colour: three channels instead of one.
        ink: invert dark strokes on white to bright ones on black, as in all glyphs here.
        exact: width and height that each file must have, in pixels; None for any.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    size: int
    colour: bool = False
    ink: bool = False
    exact: tuple[int, int] | None = None

    def count(self, label: int) -> int:
        """Number of images of a class."""
        return len(self.files[label])

    def image(self, label: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One image of a class.

        Raises:
            FormatError: the file is missing, truncated, too large, no PNG or JPEG, or not of its
                exact size (see `featurewise.common.images.read_image`).
        """
        path = self.files[label][index]
        try:
            opened = read_image(path)
        except ImageFileError as error:
            raise FormatError.at(path, f"is no readable image: {error.problem}") from error
        if self.exact is not None and opened.size != self.exact:
            raise FormatError.at(path, f"must be {self.exact} pixels, not {opened.size}")
        image = to_rgb(opened).convert("RGB" if self.colour else "L")
        scaled = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        values = np.array(scaled, dtype=np.uint8).reshape(self.size, self.size, -1)
        return torch.from_numpy(255 - values if self.ink else values).permute(2, 0, 1).contiguous()


def omniglot(
    folder: Path | str,
    part: OmniglotPart = "images_background",
    size: int = 28,
) -> ImageFiles:
    """Omniglot: classes are characters, groups are alphabets.

    Args:
        folder: where ``images_background/Alphabet/characterNN/0001_01.png`` and so on lie, as the
            archives of the release unpack; or the folder of the part itself.
        part: the 30 alphabets for training, the 20 for evaluation, or one of the two smaller
            training sets of 5 alphabets.
        size: height and width to scale the 105 x 105 pixels to.

    Raises:
        FormatError: a folder or file has a wrong name, an image is missing, or characters differ
            in their number of images.
    """
    root = Path(folder)
    if root.name != part or (root / part).is_dir():
        root /= part
    others = [name for name in get_args(OmniglotPart) if (root.parent / name).is_dir()]
    if others and not root.is_dir():
        raise FormatError.at(root, f"cannot be read: no such folder; there is {', '.join(others)}")
    characters = [
        character
        for alphabet in _folders(root)
        for character in _folders(alphabet, _CHARACTER, "characterNN")
    ]
    files = tuple(_character_files(character) for character in characters)
    for character, own in zip(characters, files, strict=True):
        if len(own) != len(files[0]):
            problem = f"has {len(own)} images, {characters[0].name} has {len(files[0])}"
            raise FormatError.at(character, problem)
    return ImageFiles(
        names=tuple(f"{each.parent.name}/{each.name}" for each in characters),
        groups=tuple(each.parent.name for each in characters),
        files=files,
        size=size,
        ink=True,
        exact=(105, 105),
    )


def _character_files(character: Path) -> tuple[Path, ...]:
    """``NNNN_01.png`` to ``NNNN_20.png``, one from each writer, none missing and none twice."""
    found = sorted(path for path in character.iterdir() if not path.name.startswith("."))
    matches = [_FILE_NAME.fullmatch(path.name) for path in found]
    numbers = set()
    for number, (path, match) in enumerate(zip(found, matches, strict=True), start=1):
        if match is None:
            raise FormatError.at(path, "is not named like 0001_01.png")
        numbers.add(match[1])
        if len(numbers) > 1:
            raise FormatError.at(path, f"belongs to another character than {found[0].name}")
        if int(match[2]) != number:
            raise FormatError.at(character, f"lacks the image {match[1]}_{number:02}.png")
    if not found:
        raise FormatError.at(character, "has no images")
    return tuple(found)


def mini_imagenet(
    folder: Path | str,
    split: Literal["train", "val", "test"] = "train",
    images: str = "images",
    size: int = 84,
) -> ImageFiles:
    """MiniImageNet by its split files: ``train.csv`` etc. with the columns filename and label.

    Args:
        folder: with ``train.csv``, ``val.csv``, ``test.csv`` and the folder of images.
        split: which split file to read.
        images: name of the folder of images, flat or with a folder for each label.
        size: height and width to scale to, in pixels.

    Raises:
        FormatError: the file is no such table, a row is wrong, or an image is missing.
    """
    table, source = Path(folder) / f"{split}.csv", Path(folder) / images
    classes: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for line, (name, label) in _rows(table):
        if name in seen:
            raise FormatError.at(table, f"{name} is listed twice", f"line {line}")
        seen.add(name)
        path = next((p for p in (source / name, source / label / name) if p.is_file()), None)
        if path is None:
            raise FormatError.at(source / name, f"is missing; {table.name} line {line} lists it")
        classes.setdefault(label, []).append(path)
    if not classes:
        raise FormatError.at(table, "lists no images")
    return _by_class(classes, size)


def _rows(table: Path) -> list[tuple[int, tuple[str, str]]]:
    """Line number, file name and label of each row."""
    try:
        with TextIOWrapper(open_regular(table), encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError.at(table, f"cannot be read: {error}") from error
    if not rows or rows[0] != ["filename", "label"]:
        raise FormatError.at(table, "must begin with the line filename,label", "line 1")
    found = []
    for line, row in enumerate(rows[1:], start=2):
        # Both become parts of a path, which must stay inside the folder.
        if len(row) != 2 or any(not v or Path(v).name != v or v == ".." for v in row):
            problem = f"must be a file's name and a label, not {','.join(row)!r}"
            raise FormatError.at(table, problem, f"line {line}")
        found.append((line, (row[0], row[1])))
    return found


def class_folders(folder: Path | str, size: int, colour: bool = True) -> ImageFiles:
    """A folder with a folder of images for each class, such as an unpacked split of FC100.

    Args:
        folder: with one folder for each class, as ``train``.
        size: height and width to scale to, in pixels.
        colour: three channels, or one.

    Raises:
        FormatError: there are no classes, a class has no images, or a file is no image.
    """
    classes: dict[str, list[Path]] = {}
    for each in _folders(Path(folder)):
        found = sorted(path for path in each.iterdir() if not path.name.startswith("."))
        for path in found:
            if path.suffix not in _IMAGES:
                raise FormatError.at(path, f"is no image ({', '.join(_IMAGES)})")
        if not found:
            raise FormatError.at(each, "has no images")
        classes[each.name] = found
    return _by_class(classes, size, colour)


def _by_class(classes: dict[str, list[Path]], size: int, colour: bool = True) -> ImageFiles:
    """Each class is its own group, as these data sets are already split."""
    names = tuple(classes)
    return ImageFiles(names, names, tuple(map(tuple, classes.values())), size, colour)


def _folders(root: Path, pattern: re.Pattern[str] | None = None, form: str = "") -> Sequence[Path]:
    """The folders in a folder, sorted; anything else in it, except hidden files, is an error."""
    try:
        found = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise FormatError.at(root, f"cannot be read: {error}") from error
    if not found:
        raise FormatError.at(root, "is empty")
    for path in found:
        if not path.is_dir() or (pattern and not pattern.fullmatch(path.name)):
            raise FormatError.at(path, f"is not a folder {form}".rstrip())
    return found
