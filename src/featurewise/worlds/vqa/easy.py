"""Reads easy-VQA: images of one coloured shape, and questions about it.

The data are those of the Python package ``easy-vqa``: in ``data/``, a file ``answers.txt`` with an
answer in each line, and for each of the splits ``train`` and ``test`` a folder ``images`` of PNG
files named after their number, and ``questions.json``, a list of ``[question, answer, number of
the image]``. The package is found by its metadata, and is not imported.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from featurewise.common.images import read_image, to_rgb
from featurewise.common.json import Node, failing, read
from featurewise.common.opening import read_bytes
from featurewise.worlds.tensors import tensor_cache
from featurewise.worlds.vqa.errors import FormatError, MissingDataError, VqaError
from featurewise.worlds.vqa.questions import ImageQuestion, QuestionSet

PACKAGE: Final = "easy-vqa"
INSTALL: Final = "pip install --no-deps easy-vqa==1.0"
"""The line that installs the package."""

Split = Literal["train", "test"]
"""The official splits: 4,000 and 1,000 images."""

_LONGEST: Final = 1 << 26  # maximum size of a file in bytes; the published ones have 2.3 MB
_MOST_IMAGES: Final = 1 << 20


def easy_vqa(split: Split) -> QuestionSet:
    """A split of the data of the installed package. Images are decoded once, then cached.

    Raises:
        MissingDataError: the package is not installed; the message says how to do it.
        FormatError: a file of it is missing or malformed.
        ImageFileError: an image is damaged.
        VqaError: there is no such split.
    """
    return _installed(_folder(), split)


def easy_vqa_versions() -> dict[str, str]:
    """Name and version of the package; empty where it is not installed."""
    try:
        return {PACKAGE: distribution(PACKAGE).version}
    except PackageNotFoundError:
        return {}


def _folder() -> Path:
    try:
        return Path(str(distribution(PACKAGE).locate_file("easy_vqa/data")))
    except PackageNotFoundError:
        raise MissingDataError(f"the package {PACKAGE} is not installed: {INSTALL}") from None


@lru_cache(maxsize=2)
def _installed(folder: Path, split: Split) -> QuestionSet:
    return read_easy_vqa(folder, split)


def read_easy_vqa(folder: Path | str, split: Split) -> QuestionSet:
    """A split of a folder in the format of the package.

    Args:
        folder: ``data`` of the package.
        split: "train" or "test".

    Raises:
        FormatError: a file is missing or malformed; an image has another size than the first; or
            a question is about an image without a file.
        ImageFileError: an image is damaged.
        VqaError: there is no such split.
    """
    if split not in ("train", "test"):
        raise VqaError(f"split must be 'train' or 'test', got {split!r}")
    folder = Path(folder)
    answers = _answers(folder / "answers.txt")
    path = folder / split / "questions.json"
    rows = read(path, failing(FormatError, path), max_bytes=_LONGEST).items()
    if not rows:
        raise FormatError.at(path, "has no question")
    questions = tuple(_question(row, answers) for row in rows)
    images = _images(folder / split / "images", max(each.image for each in questions) + 1)
    return QuestionSet(images, questions, answers)


def _answers(path: Path) -> tuple[str, ...]:
    try:
        content = read_bytes(path, limit=_LONGEST)
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise FormatError.at(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FormatError.at(
            path, f"not UTF-8: {error.reason}; expected an answer in each line", f"line {line}"
        ) from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found or len(set(found)) < len(found):
        raise FormatError.at(path, "must have an answer in each line, each once")
    return found


def _question(row: Node, answers: tuple[str, ...]) -> ImageQuestion:
    text, answer, image = row.items(3)
    return ImageQuestion(
        text.name(1000), answer.one_of(answers), image.integer(0, _MOST_IMAGES - 1)
    )


def _images(folder: Path, count: int) -> UInt8[Tensor, "I 3 H W"]:
    """The images 0 to ``count - 1`` of a folder."""
    files = [folder / f"{number}.png" for number in range(count)]
    digest = sha256()
    for number, path in enumerate(files):
        try:
            digest.update(read_bytes(path, limit=_LONGEST))
        except OSError as error:
            reason = error.strerror or error
            raise FormatError.at(path, f"image {number} cannot be read: {reason}") from error

    def decode() -> dict[str, Tensor]:
        first = _decoded(files[0])
        images = first.new_empty((count, *first.shape))
        for number, path in enumerate(files):
            image = _decoded(path)
            if image.shape != first.shape:
                raise FormatError.at(
                    path,
                    f"has {image.shape[2]} x {image.shape[1]} pixels, image 0 has "
                    f"{first.shape[2]} x {first.shape[1]}",
                )
            images[number] = image
        return {"images": images}

    identity = {"format": 1, "count": count, "sha256": digest.hexdigest()}
    return tensor_cache("easy_vqa", identity, decode)["images"]


def _decoded(path: Path) -> UInt8[Tensor, "3 H W"]:
    image = to_rgb(read_image(path))
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
