"""Data sets as domains: their parts, and that no part shares images or writers with another."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.formats.folders import omniglot
from featurewise.worlds.glyphs.handwriting import TRAIN
from featurewise.worlds.glyphs.image_domains import CLASSES, domain_versions, image_domain
from featurewise.worlds.small import digits


def same_images(one: Tensor, other: Tensor) -> int:
    a, b = one.flatten(1), other.flatten(1)
    return int((a[:, None] == b).all(2).sum())


@pytest.mark.parametrize("name", [name for name in CLASSES if "bundled" in name])
def test_bundled_characters(name: str) -> None:
    found = image_domain(name, 8)
    for part in (found.train, found.validation, found.test):
        assert part.images.shape[1:] == (8, 8)
        assert sorted(set(part.labels.tolist())) == list(range(CLASSES[name]))
    assert same_images(found.train.images, found.test.images) == 0


def test_digits_are_enlarged() -> None:
    found, own = image_domain("digits", 16), digits("test")
    assert torch.equal(found.test.labels, own.labels)
    assert len(found.train) + len(found.validation) + len(found.test) == 1797
    means = found.test.ink.mean((1, 2, 3))
    torch.testing.assert_close(means, own.images.mean((1, 2, 3)), rtol=0, atol=0.02)
    small = image_domain("digits", 8).test.ink
    torch.testing.assert_close(small, own.images, rtol=0, atol=1 / 255)
    assert domain_versions("digits") == {}


def test_omniglot_is_split_by_writers(
    shared_data: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with zipfile.ZipFile(shared_data("real", "omniglot", f"{TRAIN}.zip")) as archive:
        archive.extractall(tmp_path / "omniglot")
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    image_domain.cache_clear()
    found = image_domain("omniglot", 16)
    files = omniglot(tmp_path / "omniglot", TRAIN, 16)
    parts = ((found.train, range(13)), (found.validation, (13, 14)), (found.test, range(15, 20)))
    for part, writers in parts:
        assert torch.equal(part.labels.bincount(), torch.full((136,), len(writers)))
        own = part.images[part.labels == 70]
        expected = torch.cat([files.image(70, writer) for writer in writers])
        assert torch.equal(own, expected)
    assert list(domain_versions("omniglot")) == [f"Omniglot {TRAIN}"]


def test_each_writer_is_in_one_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two characters, whose ink begins in the row of their writer."""
    for character in (1, 2):
        own = tmp_path / "omniglot" / TRAIN / "Greek" / f"character{character:02}"
        own.mkdir(parents=True)
        for writer in range(1, 21):
            pixels = np.full((105, 105), 255, dtype=np.uint8)
            pixels[4 * writer :, : 50 * character] = 0
            Image.fromarray(pixels).save(own / f"{character:04}_{writer:02}.png")
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    image_domain.cache_clear()
    found = image_domain("omniglot", 32)
    parts = (found.train, found.validation, found.test)
    ink = [part.ink.sum((1, 2, 3))[part.labels == 0] for part in parts]
    assert [len(each) for each in ink] == [13, 2, 5]
    assert (torch.cat(ink).diff() < 0).all()  # later writers have less ink: none is there twice
    for part in parts:
        assert torch.equal(part.labels, torch.arange(2).repeat_interleave(len(part) // 2))
        assert (part.ink[part.labels == 1].mean() > 1.5 * part.ink[part.labels == 0].mean()).all()


def test_omniglot_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    image_domain.cache_clear()
    with pytest.raises(GlyphError, match=r"images_background_small1\.zip"):
        image_domain("omniglot", 16)


@pytest.mark.parametrize(("name", "size"), [("words", 16), ("digits", 12)])
def test_other_names_and_sizes_are_refused(name: str, size: int) -> None:
    with pytest.raises(GlyphError, match=rf"not {name} in {size}"):
        image_domain(name, size)
