"""easy-VQA: a fixture in its format, what is refused, and the installed package if it is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featurewise.common.images import ImageFileError
from featurewise.worlds.vqa import (
    INSTALL,
    FormatError,
    MissingDataError,
    VqaError,
    easy,
    easy_vqa,
    easy_vqa_versions,
    read_easy_vqa,
)

QUESTIONS = [
    ["what color is the shape?", "red", 0],
    ["is there a circle?", "no", 0],
    ["is there a circle?", "yes", 1],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the format of the package, and an empty cache."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    images = root / "train" / "images"
    images.mkdir(parents=True)
    (root / "answers.txt").write_text("red\nyes\nno")
    (root / "train" / "questions.json").write_text(json.dumps(QUESTIONS))
    for number in (0, 1):
        pixels = np.full((6, 8, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    return root


def test_answers_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    (folder / "answers.txt").write_bytes(b"\xef\xbb\xbfred\r\nyes\r\nno\r\n")
    assert read_easy_vqa(folder, "train").answers == ("red", "yes", "no")


def test_a_missing_file_is_named_once(folder: Path) -> None:
    for path in (folder / "train" / "images" / "1.png", folder / "answers.txt"):
        path.unlink()
        with pytest.raises(FormatError) as error:
            read_easy_vqa(folder, "train")
        assert str(error.value).count(str(path)) == 1 and "No such file" in str(error.value)


def test_a_split_is_read(folder: Path) -> None:
    found = read_easy_vqa(folder, "train")
    assert found.answers == ("red", "yes", "no")
    assert [(each.text, each.answer, each.image) for each in found.questions] == [
        tuple(row) for row in QUESTIONS
    ]
    assert found.images.shape == (2, 3, 6, 8)
    assert found.images[1].unique().tolist() == [40]
    assert found.labels.tolist() == [0, 2, 1]
    assert torch.equal(read_easy_vqa(folder, "train").images, found.images)  # from the cache


def test_other_images_are_not_taken_from_the_cache(folder: Path) -> None:
    read_easy_vqa(folder, "train")
    Image.fromarray(np.full((6, 8, 3), 9, np.uint8)).save(folder / "train" / "images" / "1.png")
    assert read_easy_vqa(folder, "train").images[1].unique().tolist() == [9]


def _write(value: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "train" / "questions.json").write_text(json.dumps(value))

    return write


def _large(folder: Path) -> None:
    pixels = np.zeros((9, 8, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "train" / "images" / "1.png")


@pytest.mark.parametrize(
    ("spoil", "file", "message"),
    [
        (_write([]), "train/questions.json", "has no question"),
        (_write({}), "train/questions.json", "expected a list"),
        (_write([["a", "yes"]]), "train/questions.json", r"\[0\]: expected 3 elements, found 2"),
        (_write([[1, "yes", 0]]), "train/questions.json", "expected a text"),
        (_write([["a", "maybe", 0]]), "train/questions.json", "'?maybe'? is none of red, yes, no"),
        (_write([["a", "yes", -1]]), "train/questions.json", "lies outside"),
        (_write([["a", "yes", 5]]), "train/images/2.png", "image 2 cannot be read"),
        (_large, "train/images/1.png", "8 x 9 pixels, image 0 has 8 x 6"),
        (lambda f: (f / "answers.txt").unlink(), "answers.txt", "cannot be read"),
        (lambda f: (f / "answers.txt").write_text("a\na"), "answers.txt", "each once"),
        (lambda f: (f / "answers.txt").write_bytes(b"a\n\xff"), "answers.txt", "line 2: not UTF-8"),
        (lambda f: (f / "train/questions.json").unlink(), "train/questions.json", "read"),
    ],
)
def test_malformed_files_are_refused(
    folder: Path, spoil: Callable[[Path], Any], file: str, message: str
) -> None:
    spoil(folder)
    with pytest.raises(FormatError, match=message) as error:
        read_easy_vqa(folder, "train")
    assert str(error.value).startswith(str(folder / file))


def test_a_damaged_image_is_refused(folder: Path) -> None:
    path = folder / "train" / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageFileError, match="1.png"):
        read_easy_vqa(folder, "train")


def test_there_are_two_splits(folder: Path) -> None:
    with pytest.raises((VqaError, TypeError), match="'?train'?.*'?test'?"):  # checked at run time
        read_easy_vqa(folder, "val")  # type: ignore[arg-type]


def test_without_the_package_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingDataError, match=INSTALL):
        easy_vqa("train")
    assert easy_vqa_versions() == {}


@pytest.mark.skipif(not easy_vqa_versions(), reason=f"not installed: {INSTALL}")
def test_the_installed_package() -> None:
    train, test = easy_vqa("train"), easy_vqa("test")
    assert (len(train.images), len(test.images)) == (4000, 1000)
    assert (len(train.questions), len(test.questions)) == (38_575, 9_673)
    assert len(train.answers) == 13
    assert train.images.shape[1:] == (3, 64, 64)
    assert easy.easy_vqa_versions() == {"easy-vqa": "1.0"}
    assert not set(sys.modules) & {"easy_vqa"}  # it is read, not imported
