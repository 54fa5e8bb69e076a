"""Letters with stripes: against drawing them place by place, and what is kept from training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs import GlyphError, Glyphs
from featurewise.worlds.glyphs.textures import TEXTURES, Textured, TexturedSource, textures

TYPEFACES, LETTERS, SIZE = 12, "ABCDE", 8


def some() -> Glyphs:
    chance = torch.Generator().manual_seed(0)
    shape = (TYPEFACES, len(LETTERS), SIZE, SIZE)
    images = torch.randint(1, 256, shape, generator=chance, dtype=torch.uint8)
    return Glyphs(images, (), LETTERS, {})


class Reads:
    """A judge that knows the letter of each row beforehand."""

    def __init__(self, letters: Tensor) -> None:
        self.told = letters

    def letters(self, images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(self.told, len(LETTERS)).float()


def test_stripes_are_two_pixels_wide_in_four_phases_across_and_down() -> None:
    masks = textures(SIZE, faint=0.25)
    assert masks.shape == (TEXTURES, SIZE, SIZE)
    for texture in range(TEXTURES):
        for y in range(SIZE):
            for x in range(SIZE):
                place = (y if texture < 4 else x) + texture % 4
                assert masks[texture, y, x] == (1.0 if place % 4 in (0, 1) else 0.25)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == TEXTURES


def test_a_picture_is_its_letter_under_its_texture() -> None:
    given = some()
    batch = TexturedSource(given, 32).batch(0)
    for row in range(32):
        letter = given.images[batch.typefaces[row], batch.letters[row]] / 255
        expected = letter * textures(SIZE)[batch.textures[row]]
        torch.testing.assert_close(batch.images[row, 0], expected)
    assert set(TexturedSource(given, 400).batch(0).textures.tolist()) == set(range(TEXTURES))


def test_pairs_that_are_held_out_are_never_trained_on_whatever_the_seed() -> None:
    kept = [TexturedSource(some(), 64, seed).held_out() for seed in (0, 1)]
    assert all(torch.equal(getattr(kept[0], n), getattr(kept[1], n)) for n in vars(kept[0]))
    held_out = set(zip(kept[0].typefaces.tolist(), kept[0].letters.tolist(), strict=True))
    assert len(held_out) == len(kept[0].typefaces)
    seen = set()
    for seed in (0, 1):
        for i in range(30):
            batch = TexturedSource(some(), 64, seed).batch(i)
            seen |= set(zip(batch.typefaces.tolist(), batch.letters.tolist(), strict=True))
    everything = {
        (typeface, letter) for typeface in range(TYPEFACES) for letter in range(len(LETTERS))
    }
    assert seen == everything - held_out and held_out
    assert 0 < len(held_out) < len(everything) / 2


def test_batches_depend_on_seed_and_index_alone() -> None:
    one, again = TexturedSource(some(), 16, 3), TexturedSource(some(), 16, 3)
    assert torch.equal(one.batch(2).images, again.batch(2).images)
    assert not torch.equal(one.batch(2).images, one.batch(3).images)
    assert not torch.equal(one.batch(2).images, TexturedSource(some(), 16, 4).batch(2).images)


def test_the_texture_read_is_that_of_the_nearest_true_picture() -> None:
    source = TexturedSource(some(), 40)
    batch = source.batch(0)
    noise = 0.1 * torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0))
    for images in (batch.images, batch.images + noise, torch.rand(batch.images.shape)):
        read = source.read(images, batch)
        for row in range(40):
            plain = some().images[batch.typefaces[row], batch.letters[row]] / 255
            errors = [((images[row, 0] - plain * m) ** 2).sum() for m in textures(SIZE)]
            assert read[row] == min(range(TEXTURES), key=lambda k, e=errors: e[k])
    assert torch.equal(source.read(batch.images, batch), batch.textures)


def test_grades_ask_for_the_letter_the_texture_and_both() -> None:
    source = TexturedSource(some(), 40)
    batch = source.batch(0)
    told = batch.letters.clone()
    told[::2] = (told[::2] + 1) % len(LETTERS)
    images = batch.images.clone()
    other = (batch.textures + 1) % TEXTURES
    images[::4] = source.plain(batch)[::4] * textures(SIZE)[other[::4], None]
    right = source.sample_metrics(images, batch, Reads(told))
    rows = torch.arange(40)
    assert torch.equal(right["letter"], rows % 2 == 1)
    assert torch.equal(right["texture"], rows % 4 != 0)
    assert torch.equal(right["both"], rows % 2 == 1)


def test_labels_are_one_hot() -> None:
    batch: Textured = TexturedSource(some(), 5).batch(0)
    letter, texture = batch.one_hot(len(LETTERS))
    assert torch.equal(letter, torch.eye(5)[batch.letters])
    assert torch.equal(texture, torch.eye(TEXTURES)[batch.textures])


@pytest.mark.parametrize(("rows", "share"), [(0, 0.2), (4, 0.0), (4, 1.0)])
def test_an_empty_batch_or_a_share_out_of_range_is_refused(rows: int, share: float) -> None:
    with pytest.raises(GlyphError, match="at least one picture"):
        TexturedSource(some(), rows, held_out=share)


def test_shuffled_tells_each_row_what_another_has() -> None:
    plain, other = (TexturedSource(some(), 9, shuffled=s).batch(2) for s in (False, True))
    assert torch.equal(plain.images, other.images) and torch.equal(plain.typefaces, other.typefaces)
    for row in range(9):
        assert other.letters[row] == plain.letters[row - 1]
        assert other.textures[row] == plain.textures[row - 1]
