"""Letters told by what and by where, and the letters of a place with their judge."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from featurewise.worlds.glyphs import GlyphError, GlyphSource, find_typefaces, glyphs
from featurewise.worlds.glyphs.material import material
from featurewise.worlds.glyphs.placed import PLACES, Pixels, PlacedSource, placed


def source(seed: int = 0, rows: int = 24) -> GlyphSource:
    return GlyphSource(glyphs(find_typefaces("bundled", "AHLO"), "AHLO", 16), rows, seed)


def test_a_placed_picture_is_the_mean_of_four_pixels_each_at_its_place() -> None:
    images = torch.rand(PLACES, 1, 8, 8)
    found = placed(images, torch.arange(PLACES))
    for place in range(PLACES):
        top, left = 2 * (place // 3), 2 * (place % 3)
        for row in range(8):
            for column in range(8):
                y, x = row - top, column - left
                inside = 0 <= y < 4 and 0 <= x < 4
                four = images[place, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                expected = four.mean().item() if inside else 0.0
                assert found[place, 0, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_first_half_is_told_what_and_second_half_where() -> None:
    plain, found = source().batch(5), PlacedSource(source()).batch(5)
    assert found.what.tolist() == [True] * 12 + [False] * 12
    assert set(found.images.unique().tolist()) == {0.0, 1.0}
    assert (found.told.sum(1) == 1).all()
    known = found.told.argmax(1)
    assert torch.equal(known[:12], plain.letters[:12])
    assert torch.equal(found.images[:12], (plain.images[:12] > 0.5).float())
    place = known[12:] - 4
    assert place.min() >= 0
    assert torch.equal(found.images[12:], (placed(plain.images[12:], place) > 0.5).float())


def test_every_place_occurs_and_tells_nothing_of_the_letter() -> None:
    counts = torch.zeros(4, PLACES)
    for i in range(80):
        found, letters = PlacedSource(source()).batch(i), source().batch(i).letters[12:]
        place = found.told[12:].argmax(1) - 4
        counts += F.one_hot(letters * PLACES + place, 4 * PLACES).sum(0).view(4, PLACES)
    expected = counts.sum() / counts.numel()
    assert ((counts - expected) ** 2 / expected).sum() < 70  # chi-squared of 35, p = 0.0004


def test_an_unconditional_batch_has_the_same_images_and_one_condition() -> None:
    truth, found = PlacedSource(source()).batch(0), PlacedSource(source(), False).batch(0)
    assert torch.equal(found.images, truth.images)
    torch.testing.assert_close(found.told.sum(1), torch.ones(len(found.told)))
    assert (found.told == found.told[0, 0]).all()


def test_a_permutation_depends_on_the_index_alone() -> None:
    batch, order = PlacedSource(source()).batch(3), PlacedSource(source()).permutation(3, _batch())
    assert order.sort().values.tolist() == list(range(len(batch.images)))
    assert torch.equal(order, PlacedSource(source()).permutation(3, batch))
    assert not torch.equal(order, PlacedSource(source()).permutation(4, batch))


def _batch() -> Pixels:
    return PlacedSource(source()).batch(0)


def test_wrong_requests_say_what_is_wrong() -> None:
    odd = glyphs(find_typefaces("bundled", "AH"), "AH", 10)
    with pytest.raises(GlyphError, match="multiple of 4, got 10"):
        PlacedSource(GlyphSource(odd, 4))


def test_material_keeps_families_apart_and_knows_its_judge() -> None:
    found = material("bundled", "AH", 8)
    assert found is material("bundled", "AH", 8)
    families = [{f.superfamily for f in some.faces} for some in (found.train, found.held_out)]
    families.append({face.superfamily for face in found.split.judge})
    assert not (families[0] & families[1] or families[0] & families[2] or families[1] & families[2])
    judge = found.judge(steps=3)
    assert (judge.alphabet, judge.size) == ("AH", 8)
    assert torch.equal(judge.held_out, found.judge(steps=3).held_out)
