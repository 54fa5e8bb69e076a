"""All functions that read files raise an error for what is not a regular file, and name it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from featurewise.worlds.clevr.formats import read_questions, read_scenes
from featurewise.worlds.glyphs import find_typefaces
from featurewise.worlds.glyphs.fontfiles import code_points, font, typeface_count
from featurewise.worlds.glyphs.formats import cifar10, mini_imagenet, mnist, read_idx
from featurewise.worlds.small.vowels import read_vowels

# Name of the file -> the function that reads it.
READERS: dict[str, Callable[[Path], object]] = {
    "vowel-context.data": read_vowels,
    "a-idx3-ubyte": read_idx,
    "train-images-idx3-ubyte": lambda path: mnist(path.parent),
    "batches.meta.txt": lambda path: cifar10(path.parent),
    "train.csv": lambda path: mini_imagenet(path.parent),
    "questions.json": read_questions,
    "scenes.json": read_scenes,
    "a.ttf": typeface_count,
    "b.ttf": code_points,
    "c.ttf": lambda path: font(path, 0, 16.0),
    "d.ttf": lambda path: find_typefaces(path.parent),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_pipes_devices_and_folders_are_rejected(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    begun = time.monotonic()
    with pytest.raises((ValueError, OSError)) as caught:
        READERS[name](path)
    assert str(tmp_path) in str(caught.value)
    assert time.monotonic() - begun < 5


def test_a_batch_of_cifar_that_is_a_pipe_is_rejected(tmp_path: Path) -> None:
    names = "\n".join(f"class{i}" for i in range(10))
    (tmp_path / "batches.meta.txt").write_text(names)
    os.mkfifo(tmp_path / "test_batch.bin")
    with pytest.raises(ValueError, match=r"test_batch\.bin: cannot be read"):
        cifar10(tmp_path, train=False)
