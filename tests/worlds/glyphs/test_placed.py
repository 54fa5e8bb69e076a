"""Letters conditioned on their class or place; letter data with their evaluation classifier."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from featurewise.worlds.glyphs import GlyphError, GlyphSource, find_typefaces, glyphs
from featurewise.worlds.glyphs.letter_data import letter_splits
from featurewise.worlds.glyphs.placed import PLACES, PlacedSource, shrunk_to_place


def source(seed: int = 0, batch_size: int = 24) -> GlyphSource:
    return GlyphSource(glyphs(find_typefaces("bundled", "AHLO"), "AHLO", 16), batch_size, seed)


def test_a_shrunk_image_has_the_means_of_four_pixels_at_its_place() -> None:
    images = torch.rand(PLACES, 1, 8, 8)
    found = shrunk_to_place(images, torch.arange(PLACES))
    for place in range(PLACES):
        top, left = 2 * (place // 3), 2 * (place % 3)
        for row in range(8):
            for column in range(8):
                y, x = row - top, column - left
                inside = 0 <= y < 4 and 0 <= x < 4
                four = images[place, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                expected = four.mean().item() if inside else 0.0
                assert found[place, 0, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_the_first_half_is_conditioned_on_the_letter_and_the_second_on_the_place() -> None:
    plain, found = source().batch(5), PlacedSource(source()).batch(5)
    assert found.by_letter.tolist() == [True] * 12 + [False] * 12
    assert set(found.images.unique().tolist()) == {0.0, 1.0}
    assert (found.condition.sum(1) == 1).all()
    known = found.condition.argmax(1)
    assert torch.equal(known[:12], plain.letters[:12])
    assert torch.equal(found.images[:12], (plain.images[:12] > 0.5).float())
    place = known[12:] - 4
    assert place.min() >= 0
    assert torch.equal(found.images[12:], (shrunk_to_place(plain.images[12:], place) > 0.5).float())


def test_places_are_uniform_and_independent_of_the_letter() -> None:
    counts = torch.zeros(4, PLACES)
    for i in range(80):
        found, letters = PlacedSource(source()).batch(i), source().batch(i).letters[12:]
        place = found.condition[12:].argmax(1) - 4
        counts += F.one_hot(letters * PLACES + place, 4 * PLACES).sum(0).view(4, PLACES)
    expected = counts.sum() / counts.numel()
    assert ((counts - expected) ** 2 / expected).sum() < 70  # chi-squared of 35, p = 0.0004


@pytest.mark.parametrize("mode", ["shuffled", "unconditional"])
def test_controls_have_the_same_images(mode: str) -> None:
    matched, found = PlacedSource(source()).batch(0), PlacedSource(source(), mode).batch(0)
    assert torch.equal(found.images, matched.images)
    if mode == "unconditional":
        torch.testing.assert_close(found.condition.sum(1), torch.ones(len(found.condition)))
        assert (found.condition == found.condition[0, 0]).all()
    else:
        assert torch.equal(found.condition.sum(0), matched.condition.sum(0))
        assert not torch.equal(found.condition, matched.condition)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(GlyphError, match="condition_mode must be one of"):
        PlacedSource(source(), "lies")
    odd = glyphs(find_typefaces("bundled", "AH"), "AH", 10)
    with pytest.raises(GlyphError, match="multiple of 4, got 10"):
        PlacedSource(GlyphSource(odd, 4))


def test_letter_data_share_no_family_and_have_a_classifier() -> None:
    found = letter_splits("bundled", "AH", 8)
    assert found is letter_splits("bundled", "AH", 8)
    families = [{f.superfamily for f in some.typefaces} for some in (found.train, found.test)]
    families.append({typeface.superfamily for typeface in found.split.classifier})
    assert not (families[0] & families[1] or families[0] & families[2] or families[1] & families[2])
    classifier = found.classifier(steps=3)
    assert (classifier.alphabet, classifier.size) == ("AH", 8)
    assert torch.equal(classifier.real_accuracy, found.classifier(steps=3).real_accuracy)
