"""Images under a class or a window: what is shown, where it is, and what the condition says."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import GlyphError
from featurewise.worlds.glyphs.labelled import ImageSource, LabelledImages
from featurewise.worlds.glyphs.letter_data import letter_splits
from featurewise.worlds.glyphs.placed import Conditions, PlacedSource, placed

LAYOUT = Conditions(4, 16)


def images(size: int = 16) -> LabelledImages:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, size, size), generator=rng).to(torch.uint8)
    return LabelledImages(pixels, torch.arange(40) % 4, torch.arange(40))


def source(seed: int = 0, batch_size: int = 24) -> ImageSource:
    return ImageSource(images(), batch_size, seed)


def test_a_placed_image_is_the_mean_of_four_pixels_within_its_window() -> None:
    some = torch.rand(6, 1, 8, 8)
    rows, columns = torch.tensor([0, 4, 0, 4, 1, 2]), torch.tensor([0, 4, 3, 0, 1, 4])
    found = placed(some, rows, columns)
    for image in range(6):
        for row in range(8):
            for column in range(8):
                y, x = row - int(rows[image]), column - int(columns[image])
                inside = 0 <= y < 4 and 0 <= x < 4
                four = some[image, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                expected = four.mean().item() if inside else 0.0
                assert found[image, 0, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_a_mask_is_one_within_the_window_alone() -> None:
    rows, columns = torch.tensor([0, 8, 3]), torch.tensor([5, 0, 8])
    mask = LAYOUT.mask(LAYOUT.of_window(rows, columns))
    expected = placed(torch.ones(3, 1, 16, 16), rows, columns)
    torch.testing.assert_close(mask, expected)
    assert not LAYOUT.mask(LAYOUT.of_class(torch.tensor([1, 2]))).any()


def test_an_uninformative_condition_keeps_its_kind_and_its_sums() -> None:
    classes = LAYOUT.of_class(torch.tensor([0, 3]))
    windows = LAYOUT.of_window(torch.tensor([0, 8]), torch.tensor([4, 4]))
    for given in (classes, windows):
        found = LAYOUT.uninformative(given)
        assert torch.equal(found[0], found[1])
        torch.testing.assert_close(found.sum(1), given.sum(1))
    assert not torch.equal(LAYOUT.uninformative(classes), LAYOUT.uninformative(windows))


def test_the_first_half_is_conditioned_on_the_class_and_the_second_on_the_window() -> None:
    plain, found = source().batch(5), PlacedSource(source()).batch(5)
    assert found.what.tolist() == [True] * 12 + [False] * 12
    assert set(found.images.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(found.condition[:12], LAYOUT.of_class(plain.labels[:12]))
    assert torch.equal(found.images[:12], (plain.images[:12] > 0.5).float())
    rows, columns = found.condition[12:, 4:].view(12, 2, 9).argmax(2).unbind(1)
    assert torch.equal(found.condition[12:], LAYOUT.of_window(rows, columns))
    assert torch.equal(found.images[12:], (placed(plain.images[12:], rows, columns) > 0.5).float())


def test_every_position_occurs_and_says_nothing_of_the_class() -> None:
    counts = torch.zeros(4, 9)
    for i in range(120):
        found, labels = PlacedSource(source()).batch(i), source().batch(i).labels[12:]
        rows = found.condition[12:, 4:13].argmax(1)
        counts += torch.bincount(labels * 9 + rows, minlength=36).view(4, 9)
    expected = counts.sum() / counts.numel()
    assert ((counts - expected) ** 2 / expected).sum() < 70  # chi-squared of 35, p = 0.0004


def test_an_unconditional_batch_has_the_same_images() -> None:
    truth, found = PlacedSource(source()).batch(0), PlacedSource(source(), False).batch(0)
    assert torch.equal(found.images, truth.images)
    assert torch.equal(found.condition, LAYOUT.uninformative(truth.condition))


def test_images_of_an_odd_size_are_refused() -> None:
    with pytest.raises(GlyphError, match="even number, got 9"):
        PlacedSource(ImageSource(images(9), 4))


def test_letter_data_share_no_family_and_have_a_classifier() -> None:
    found = letter_splits("bundled", "AH", 8)
    assert found is letter_splits("bundled", "AH", 8)
    families = [{f.superfamily for f in some.typefaces} for some in (found.train, found.test)]
    families.append({typeface.superfamily for typeface in found.split.classifier})
    assert not (families[0] & families[1] or families[0] & families[2] or families[1] & families[2])
    classifier = found.classifier(steps=3)
    assert (classifier.alphabet, classifier.size) == ("AH", 8)
    assert torch.equal(classifier.real_accuracy, found.classifier(steps=3).real_accuracy)
