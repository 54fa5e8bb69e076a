"""Labelled images: parts that share nothing, random batches, and Fashion-MNIST in its files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs import GlyphError
from featurewise.worlds.glyphs.labelled import (
    FASHION_FOLDER,
    ImageSource,
    LabelledImages,
    class_frequencies,
    fashion_images,
    fashion_versions,
    letter_images,
)
from featurewise.worlds.glyphs.source import as_ink


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "labelled"))


def some(counts: tuple[int, ...] = (5, 40, 2)) -> LabelledImages:
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pixels = torch.arange(len(labels))[:, None, None].expand(-1, 8, 8).to(torch.uint8)
    return LabelledImages(pixels, labels[order], torch.arange(len(labels)))


def test_an_image_of_a_batch_has_the_label_that_it_has_in_the_data() -> None:
    images = some()
    for i in range(5):
        batch = ImageSource(images, 30, seed=1).batch(i)
        rows = (255 * batch.images[:, 0, 0, 0]).round().long()
        assert torch.equal(batch.images, as_ink(images.images[rows]))
        assert torch.equal(batch.labels, images.labels[rows])


def test_classes_are_equally_frequent_however_many_images_they_have() -> None:
    source = ImageSource(some(), 300)
    labels = torch.cat([source.batch(i).labels for i in range(20)])
    shares = torch.bincount(labels) / len(labels)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_skewed_classes_follow_zipfs_law() -> None:
    expected = torch.tensor([6.0, 3.0, 2.0]) / 11
    torch.testing.assert_close(class_frequencies(3, 1.0), expected)
    source = ImageSource(some(), 300, skew=1.0)
    labels = torch.cat([source.batch(i).labels for i in range(20)])
    torch.testing.assert_close(torch.bincount(labels) / len(labels), expected, atol=0.03, rtol=0)


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    first = ImageSource(some(), 30, 4, jitter=1.0).batch(2)
    torch.manual_seed(9)
    again = ImageSource(some(), 30, 4, jitter=1.0).batch(2)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    plain = ImageSource(some(), 30, 4).batch(2)
    assert torch.equal(plain.labels, first.labels)
    assert not torch.equal(plain.images, first.images)
    assert not torch.equal(ImageSource(some(), 30, 5).batch(2).images, plain.images)


def test_a_batch_does_not_depend_on_the_precision_that_it_is_made_under() -> None:
    plain = ImageSource(some(), 30, jitter=1.0).batch(0)
    with torch.autocast("cpu", torch.bfloat16):
        rough = ImageSource(some(), 30, jitter=1.0).batch(0)
    assert torch.equal(plain.images, rough.images)


def test_wrong_sources_say_what_is_wrong() -> None:
    with pytest.raises(GlyphError, match="batch of 0"):
        ImageSource(some(), 0)
    with pytest.raises(GlyphError, match=r"\[3, 0, 2\] images"):
        ImageSource(some((3, 0, 2)), 4)


def test_the_first_images_of_each_class_are_taken_in_order() -> None:
    found = some().first(3)
    assert torch.bincount(found.labels).tolist() == [3, 3, 2]
    assert found.groups.tolist() == sorted(found.groups.tolist())


def test_parts_of_letters_share_no_typeface_and_the_classifier_no_family() -> None:
    found = letter_images("bundled", "AHLO", 16)
    assert found.names == ("A", "H", "L", "O")
    assert found is letter_images("bundled", "AHLO", 16)
    assert len(found.train) == 48 and len(found.test) == 16
    assert torch.equal(found.train.labels[:5], torch.tensor([0, 1, 2, 3, 0]))
    # Bundled typefaces are of three families: one for each of training, test and classifier.
    assert found.validation is found.test
    assert found.classifier(3).alphabet == "AHLO"


def write_idx(path: Path, array: Tensor) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.to(torch.uint8).numpy().tobytes()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files in the official format: image n of a class is the constant n, modulo 200."""
    for part, each in (("train", 6000), ("t10k", 20)):
        labels = torch.arange(10).repeat(each)
        values = torch.arange(each).repeat_interleave(10) % 200
        images = values[:, None, None].expand(-1, 28, 28)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_fashion_mnist_is_split_by_the_order_of_its_files(folder: Path) -> None:
    found = fashion_images(folder)
    assert (len(found.train), len(found.validation), len(found.test)) == (40_000, 5_000, 200)
    assert found.names[0] == "T-shirt" and len(found.names) == 10
    assert torch.equal(found.train.labels[:12], torch.arange(12) % 10)
    # The middle of an image is its constant; the border of 2 pixels mixes in paper.
    for part, start in ((found.train, 0), (found.validation, 4000)):
        middle = part.images[::10, 8, 8].long()
        assert torch.equal(middle, (start + torch.arange(len(middle))) % 200)
        assert not part.images[:, 0].any()


def test_a_classifier_of_fashion_mnist_learns_from_its_own_part(folder: Path) -> None:
    one, other = fashion_images(folder).classifier(2), fashion_images(folder).classifier(2)
    assert one is other
    assert one.letters(fashion_images(folder).test.ink[:7]).shape == (7, 10)
    assert 0 <= float(one.real_accuracy) <= 1
    assert not any(weight.requires_grad for weight in one.parameters())


def test_files_are_recorded_with_their_digest(folder: Path, tmp_path: Path) -> None:
    found = fashion_versions(folder)
    assert len(found) == 4
    assert all(len(digest) == len("SHA-256 ") + 64 for digest in found.values())
    assert fashion_versions(tmp_path / "missing") == {}


def test_missing_files_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(GlyphError, match="apt-get install dataset-fashion-mnist"):
        fashion_images(tmp_path)
    with pytest.raises(GlyphError, match="8, 16 or 32 pixels here, not 20"):
        fashion_images(tmp_path, 20)


@pytest.mark.skipif(not Path(FASHION_FOLDER).is_dir(), reason="dataset-fashion-mnist is missing")
def test_the_official_files_have_the_official_numbers() -> None:
    found = fashion_images()
    assert torch.bincount(found.train.labels).tolist() == [4000] * 10
    assert torch.bincount(found.validation.labels).tolist() == [500] * 10
    assert torch.bincount(found.test.labels).tolist() == [1000] * 10
