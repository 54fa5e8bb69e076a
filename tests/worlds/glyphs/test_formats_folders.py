"""Omniglot, miniImageNet and class folders: names, order, pixels, and refused files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from featurewise.worlds.glyphs.formats import (
    FormatError,
    ImageFiles,
    class_folders,
    mini_imagenet,
    omniglot,
)
from featurewise.worlds.glyphs.formats.folders import OmniglotPart


def save_stroke(path: Path, column: int, size: tuple[int, int] = (105, 105)) -> None:
    """Black on white, one bit for each pixel, as in Omniglot."""
    image = Image.new("1", size, 1)
    image.paste(0, (column, 0, column + 30, size[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def omni(tmp_path: Path) -> Path:
    number = 0
    for alphabet, characters in (("Greek", 2), ("Korean", 1)):
        for character in range(1, characters + 1):
            number += 1
            for writer in (1, 2):
                folder = tmp_path / "images_background" / alphabet / f"character{character:02}"
                save_stroke(folder / f"{number:04}_{writer:02}.png", column=70 * (writer - 1))
    return tmp_path


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    rows = [("n01_1.jpg", "n01", (200, 10, 10)), ("n02_1.jpg", "n02", (10, 200, 10))]
    rows += [("n01_2.jpg", "n01", (10, 10, 200))]
    for name, _, colour in rows:
        Image.new("RGB", (84, 84), colour).save(tmp_path / "images" / name)
    lines = ["filename,label", *(f"{name},{label}" for name, label, _ in rows)]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_omniglot(omni: Path) -> None:
    (omni / "images_background" / ".DS_Store").write_bytes(b"x")  # unpackers leave such files
    pool = omniglot(omni, size=21)
    assert pool.names == ("Greek/character01", "Greek/character02", "Korean/character01")
    assert pool.groups == ("Greek", "Greek", "Korean")
    assert [pool.count(i) for i in range(3)] == [2, 2, 2]
    left, right = pool.image(2, 0), pool.image(2, 1)
    assert left.shape == (1, 21, 21)
    # The stroke is bright and the background dark, at the right position.
    assert left[0, :, 1].tolist() == [255] * 21 and left[0, :, 10].tolist() == [0] * 21
    assert right[0, :, 1].tolist() == [0] * 21 and right[0, :, 16].tolist() == [255] * 21


@pytest.mark.parametrize("part", get_args(OmniglotPart))
def test_omniglot_as_its_archives_unpack(omni: Path, tmp_path: Path, part: OmniglotPart) -> None:
    (omni / "images_background").rename(omni / part)
    names = ("Greek/character01", "Greek/character02", "Korean/character01")
    assert omniglot(omni, part).names == omniglot(omni / part, part).names == names
    other: OmniglotPart = (
        "images_evaluation" if part == "images_background" else "images_background"
    )
    with pytest.raises(
        FormatError, match=f"{other}: cannot be read: no such folder; there is {part}"
    ):
        omniglot(omni, other)


def test_the_small_sets_of_the_release(shared_data: Callable[..., Path], tmp_path: Path) -> None:
    for part, characters in (("images_background_small1", 136), ("images_background_small2", 156)):
        with zipfile.ZipFile(shared_data("real", "omniglot", f"{part}.zip")) as archive:
            archive.extractall(tmp_path)
        pool = omniglot(tmp_path, part)
        assert len(pool.names) == characters and len(set(pool.groups)) == 5
        assert {pool.count(label) for label in range(characters)} == {20}


def test_omniglot_is_decoded_when_an_image_is_requested(omni: Path) -> None:
    path = omni / "images_background/Greek/character01/0001_02.png"
    path.write_bytes(path.read_bytes()[:60])
    pool = omniglot(omni)
    with pytest.raises(FormatError, match=r"0001_02\.png: is no readable image"):
        pool.image(0, 1)


def test_omniglot_refuses_wrong_names_and_missing_files(omni: Path) -> None:
    root = omni / "images_background"
    greek = root / "Greek/character01"
    with pytest.raises(FormatError, match="images_evaluation: cannot be read"):
        omniglot(omni, "images_evaluation")
    save_stroke(greek / "0001_04.png", 0)
    with pytest.raises(FormatError, match=r"character01: lacks the image 0001_03\.png"):
        omniglot(omni)
    save_stroke(greek / "0001_03.png", 0)
    with pytest.raises(FormatError, match="character02: has 2 images, character01 has 4"):
        omniglot(omni)
    (greek / "0001_03.png").unlink()
    (greek / "0001_04.png").rename(greek / "0002_02.png")
    with pytest.raises(FormatError, match=r"0002_02\.png: belongs to another character"):
        omniglot(omni)
    (greek / "0002_02.png").rename(greek / "notes.txt")
    with pytest.raises(FormatError, match=r"notes\.txt: is not named like 0001_01\.png"):
        omniglot(omni)
    (greek / "notes.txt").unlink()
    save_stroke(greek / "0001_02.png", 0, size=(100, 105))
    with pytest.raises(FormatError, match=r"must be \(105, 105\) pixels, not \(100, 105\)"):
        omniglot(omni).image(0, 1)
    (root / "Greek/letter01").mkdir()
    with pytest.raises(FormatError, match="letter01: is not a folder characterNN"):
        omniglot(omni)
    (root / "Greek/letter01").rmdir()
    (root / "Greek/character03").mkdir()
    with pytest.raises(FormatError, match="character03: has no images"):
        omniglot(omni)


def colours(pool: ImageFiles) -> list[list[int]]:
    """Index of the brightest channel, for each image of each class."""
    return [
        [int(np.argmax(pool.image(c, i).numpy()[:, 3, 3])) for i in range(pool.count(c))]
        for c in range(len(pool.names))
    ]


def test_mini_imagenet(mini: Path) -> None:
    pool = mini_imagenet(mini, size=12)
    assert pool.names == ("n01", "n02") and pool.image(0, 0).shape == (3, 12, 12)
    assert colours(pool) == [[0, 2], [1]]


def test_mini_imagenet_with_a_folder_for_each_class(mini: Path) -> None:
    for label in ("n01", "n02"):
        (mini / "images" / label).mkdir()
        for path in list((mini / "images").glob(f"{label}_*")):
            path.rename(mini / "images" / label / path.name)
    assert colours(mini_imagenet(mini)) == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "line 1: must begin with the line filename,label"),
        ("label,filename\n", "line 1"),
        ("filename,label\n", "lists no images"),
        ("filename,label\nn01_1.jpg\n", r"line 2: must be .* not 'n01_1\.jpg'"),
        ("filename,label\nn01_1.jpg,n01,x\n", "line 2"),
        ("filename,label\nn01_1.jpg,n01\n,n01\n", "line 3"),
        ("filename,label\nn01_1.jpg,\n", "line 2"),
        ("filename,label\n../train.csv,n01\n", "line 2"),
        ("filename,label\nn01_1.jpg,../images\n", "line 2"),
        ("filename,label\nn01_1.jpg,..\n", "line 2"),
        ("filename,label\nn01_1.jpg,n01\nn01_1.jpg,n02\n", "line 3: n01_1.jpg is listed twice"),
        ("filename,label\nn01_9.jpg,n01\n", r"n01_9\.jpg: is missing; train\.csv line 2"),
        ('filename,label\n"n01_1.jpg"x,n01\n', "cannot be read"),
    ],
)
def test_wrong_tables(mini: Path, text: str, word: str) -> None:
    (mini / "train.csv").write_text(text)
    with pytest.raises(FormatError, match=word) as caught:
        mini_imagenet(mini)
    assert str(caught.value).startswith(str(mini))


def test_missing_table_and_broken_image(mini: Path) -> None:
    with pytest.raises(FormatError, match=r"val\.csv: cannot be read"):
        mini_imagenet(mini, "val")
    (mini / "images" / "n02_1.jpg").write_bytes(b"GIF89a")
    with pytest.raises(FormatError, match=r"n02_1\.jpg: is no readable image"):
        mini_imagenet(mini).image(1, 0)


def test_class_folders(tmp_path: Path) -> None:
    for name, colour in (("bed", (200, 0, 0)), ("apple", (0, 200, 0))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), colour).save(tmp_path / name / "0.png")
    pool = class_folders(tmp_path, size=8)
    assert pool.names == ("apple", "bed") and colours(pool) == [[1], [0]]
    assert class_folders(tmp_path, size=8, colour=False).image(0, 0).shape == (1, 8, 8)
    (tmp_path / "bed" / "0.txt").write_text("no")
    with pytest.raises(FormatError, match=r"0\.txt: is no image"):
        class_folders(tmp_path, size=8)
    (tmp_path / "bed" / "0.txt").unlink()
    (tmp_path / "chair").mkdir()
    with pytest.raises(FormatError, match="chair: has no images"):
        class_folders(tmp_path, size=8)
    (tmp_path / "chair").rmdir()
    (tmp_path / "list.csv").write_text("")
    with pytest.raises(FormatError, match=r"list\.csv: is not a folder"):
        class_folders(tmp_path, size=8)
    (tmp_path / "none").mkdir()
    with pytest.raises(FormatError, match="none: is empty"):
        class_folders(tmp_path / "none", size=8)
