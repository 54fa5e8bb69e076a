"""Pictures in files, by class: Omniglot, miniImageNet, FC100 unpacked, any folder of folders.

Nothing is decoded until asked for. Sources: Lake et al. 2015, *Human-level concept learning through
probabilistic program induction* (Omniglot); Vinyals et al. 2016, *Matching Networks*, with the
classes of Ravi and Larochelle 2017 (miniImageNet).
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

_PICTURES: Final = (".png", ".jpg", ".jpeg", ".JPEG")
_DRAWING: Final = re.compile(r"(\d{4})_(\d{2})\.png")
_CHARACTER: Final = re.compile(r"character\d{2}")


OmniglotPart: TypeAlias = Literal[
    "images_background",
    "images_evaluation",
    "images_background_small1",
    "images_background_small2",
]
"""What the archives of Omniglot unpack to."""


@dataclass(frozen=True)
class PictureFiles:
    """Classes of picture files, decoded and scaled to one size when asked for.

    Attributes:
        names: of the classes.
        groups: what each belongs to (an alphabet), by which classes are split.
        files: the pictures of each class.
        size: height and width of what `picture` gives.
        colour: three channels instead of one.
        ink: dark strokes on white become bright ones on black, as all glyphs here.
        exact: width and height that each file must have; None for any.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    size: int
    colour: bool = False
    ink: bool = False
    exact: tuple[int, int] | None = None

    def count(self, label: int) -> int:
        """How many pictures a class has."""
        return len(self.files[label])

    def picture(self, label: int, index: int) -> UInt8[Tensor, "C S S"]:
        """One picture of a class.

        Raises:
            FormatError: the file is missing, cut off, too large, no PNG or JPEG, or not of its
                exact size (see `featurewise.common.images.read_image`).
        """
        path = self.files[label][index]
        try:
            opened = read_image(path)
        except ImageFileError as error:
            raise FormatError.at(path, f"is no readable picture: {error.problem}") from error
        if self.exact is not None and opened.size != self.exact:
            raise FormatError.at(path, f"must be {self.exact} pixels, not {opened.size}")
        picture = to_rgb(opened).convert("RGB" if self.colour else "L")
        scaled = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
        values = np.array(scaled, dtype=np.uint8).reshape(self.size, self.size, -1)
        return torch.from_numpy(255 - values if self.ink else values).permute(2, 0, 1).contiguous()


def omniglot(
    folder: Path | str,
    part: OmniglotPart = "images_background",
    size: int = 28,
) -> PictureFiles:
    """Omniglot: classes are characters, groups are alphabets.

    Args:
        folder: where ``images_background/Alphabet/characterNN/0001_01.png`` and so on lie, as the
            archives of the release unpack; or the folder of the part itself.
        part: the 30 alphabets for training, the 20 for evaluation, or one of the two smaller
            training sets of 5 alphabets.
        size: height and width to scale the 105 pixels to.

    Raises:
        FormatError: a folder or file is not named as it must be, a drawing is missing, or
            characters differ in how many drawings they have.
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
    files = tuple(_drawings(character) for character in characters)
    for character, own in zip(characters, files, strict=True):
        if len(own) != len(files[0]):
            problem = f"has {len(own)} drawings, {characters[0].name} has {len(files[0])}"
            raise FormatError.at(character, problem)
    return PictureFiles(
        names=tuple(f"{each.parent.name}/{each.name}" for each in characters),
        groups=tuple(each.parent.name for each in characters),
        files=files,
        size=size,
        ink=True,
        exact=(105, 105),
    )


def _drawings(character: Path) -> tuple[Path, ...]:
    """``NNNN_01.png`` to ``NNNN_20.png``, one by each who drew: none is missing, none is twice."""
    found = sorted(path for path in character.iterdir() if not path.name.startswith("."))
    matches = [_DRAWING.fullmatch(path.name) for path in found]
    numbers = set()
    for place, (path, match) in enumerate(zip(found, matches, strict=True), start=1):
        if match is None:
            raise FormatError.at(path, "is not named as a drawing is, 0001_01.png")
        numbers.add(match[1])
        if len(numbers) > 1:
            raise FormatError.at(path, f"is of another character than {found[0].name}")
        if int(match[2]) != place:
            raise FormatError.at(character, f"lacks drawing {match[1]}_{place:02}.png")
    if not found:
        raise FormatError.at(character, "has no drawings")
    return tuple(found)


def mini_imagenet(
    folder: Path | str,
    split: Literal["train", "val", "test"] = "train",
    images: str = "images",
    size: int = 84,
) -> PictureFiles:
    """MiniImageNet as its split files list it: ``train.csv`` with the columns filename and label.

    Args:
        folder: with ``train.csv``, ``val.csv``, ``test.csv`` and the folder of pictures.
        split: which.
        images: the folder of pictures, flat or with a folder for each label.
        size: height and width to scale to.

    Raises:
        FormatError: the file is no such table, a row is wrong, or a picture is missing.
    """
    table, pictures = Path(folder) / f"{split}.csv", Path(folder) / images
    classes: dict[str, list[Path]] = {}
    seen: set[str] = set()
    for line, (name, label) in _rows(table):
        if name in seen:
            raise FormatError.at(table, f"{name} is listed twice", f"line {line}")
        seen.add(name)
        path = next((p for p in (pictures / name, pictures / label / name) if p.is_file()), None)
        if path is None:
            raise FormatError.at(pictures / name, f"is missing; {table.name} line {line} lists it")
        classes.setdefault(label, []).append(path)
    if not classes:
        raise FormatError.at(table, "lists no pictures")
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
        # Both become parts of a path, which must not lead out of the folder.
        if len(row) != 2 or any(not v or Path(v).name != v or v == ".." for v in row):
            problem = f"must be a file's name and a label, not {','.join(row)!r}"
            raise FormatError.at(table, problem, f"line {line}")
        found.append((line, (row[0], row[1])))
    return found


def class_folders(folder: Path | str, size: int, colour: bool = True) -> PictureFiles:
    """A folder for each class, pictures in it; also one split of FC100 or CIFAR-FS unpacked so.

    Args:
        folder: as in ``train``.
        size: height and width to scale to.
        colour: three channels, or one.

    Raises:
        FormatError: there are no classes, a class has no pictures, or something is no picture.
    """
    classes: dict[str, list[Path]] = {}
    for each in _folders(Path(folder)):
        found = sorted(path for path in each.iterdir() if not path.name.startswith("."))
        for path in found:
            if path.suffix not in _PICTURES:
                raise FormatError.at(path, f"is no picture ({', '.join(_PICTURES)})")
        if not found:
            raise FormatError.at(each, "has no pictures")
        classes[each.name] = found
    return _by_class(classes, size, colour)


def _by_class(classes: dict[str, list[Path]], size: int, colour: bool = True) -> PictureFiles:
    """Each class a group of its own: such data sets come split already."""
    names = tuple(classes)
    return PictureFiles(names, names, tuple(map(tuple, classes.values())), size, colour)


def _folders(root: Path, pattern: re.Pattern[str] | None = None, form: str = "") -> Sequence[Path]:
    """The folders in a folder, sorted; nothing else may be in it, hidden files excepted."""
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
