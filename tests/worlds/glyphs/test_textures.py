"""Letters with stripes: against a loop over pixels; the split of pairs; the control."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs import GlyphError, Glyphs
from featurewise.worlds.glyphs.textures import TEXTURES, Textured, TexturedSource, textures

TYPEFACES, LETTERS, SIZE = 12, "ABCDE", 8


def some() -> Glyphs:
    rng = torch.Generator().manual_seed(0)
    shape = (TYPEFACES, len(LETTERS), SIZE, SIZE)
    images = torch.randint(1, 256, shape, generator=rng, dtype=torch.uint8)
    return Glyphs(images, (), LETTERS, {})


class Fixed:
    """A classifier that predicts given letters, whatever the images."""

    def __init__(self, letters: Tensor) -> None:
        self.predictions = letters

    def letters(self, images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(self.predictions, len(LETTERS)).float()


def test_stripes_are_two_pixels_wide_in_four_phases_and_two_directions() -> None:
    masks = textures(SIZE, faint=0.25)
    assert masks.shape == (TEXTURES, SIZE, SIZE)
    for texture in range(TEXTURES):
        for y in range(SIZE):
            for x in range(SIZE):
                place = (y if texture < 4 else x) + texture % 4
                assert masks[texture, y, x] == (1.0 if place % 4 in (0, 1) else 0.25)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == TEXTURES


def test_an_image_is_its_letter_times_its_texture() -> None:
    given = some()
    batch = TexturedSource(given, 32).batch(0)
    for row in range(32):
        letter = given.images[batch.typefaces[row], batch.letters[row]] / 255
        expected = letter * textures(SIZE)[batch.textures[row]]
        torch.testing.assert_close(batch.images[row, 0], expected)
    assert set(TexturedSource(given, 400).batch(0).textures.tolist()) == set(range(TEXTURES))


def test_no_seed_trains_on_test_pairs() -> None:
    tests = [TexturedSource(some(), 64, seed).test() for seed in (0, 1)]
    assert all(torch.equal(getattr(tests[0], n), getattr(tests[1], n)) for n in vars(tests[0]))
    test = set(zip(tests[0].typefaces.tolist(), tests[0].letters.tolist(), strict=True))
    assert len(test) == len(tests[0].typefaces)
    seen = set()
    for seed in (0, 1):
        for i in range(30):
            batch = TexturedSource(some(), 64, seed).batch(i)
            seen |= set(zip(batch.typefaces.tolist(), batch.letters.tolist(), strict=True))
    everything = set(product(range(TYPEFACES), range(len(LETTERS))))
    assert seen == everything - test and test
    assert 0 < len(test) < len(everything) / 2


def test_batches_depend_on_seed_and_index_only() -> None:
    one, again = TexturedSource(some(), 16, 3), TexturedSource(some(), 16, 3)
    assert torch.equal(one.batch(2).images, again.batch(2).images)
    assert not torch.equal(one.batch(2).images, one.batch(3).images)
    assert not torch.equal(one.batch(2).images, TexturedSource(some(), 16, 4).batch(2).images)


def test_the_nearest_texture_against_a_loop() -> None:
    source = TexturedSource(some(), 40)
    batch = source.batch(0)
    noise = 0.1 * torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0))
    for images in (batch.images, batch.images + noise, torch.rand(batch.images.shape)):
        nearest = source.nearest_texture(images, batch)
        for row in range(40):
            plain = some().images[batch.typefaces[row], batch.letters[row]] / 255
            errors = [((images[row, 0] - plain * m) ** 2).sum() for m in textures(SIZE)]
            assert nearest[row] == min(range(TEXTURES), key=lambda k, e=errors: e[k])
    assert torch.equal(source.nearest_texture(batch.images, batch), batch.textures)


def test_which_letters_and_textures_are_correct() -> None:
    source = TexturedSource(some(), 40)
    batch = source.batch(0)
    predictions = batch.letters.clone()
    predictions[::2] = (predictions[::2] + 1) % len(LETTERS)
    images = batch.images.clone()
    other = (batch.textures + 1) % TEXTURES
    images[::4] = source.plain(batch)[::4] * textures(SIZE)[other[::4], None]
    right = source.correct(images, batch, Fixed(predictions))
    rows = torch.arange(40)
    assert torch.equal(right["letter"], rows % 2 == 1)
    assert torch.equal(right["texture"], rows % 4 != 0)
    assert torch.equal(right["both"], rows % 2 == 1)


def test_labels_are_one_hot() -> None:
    batch: Textured = TexturedSource(some(), 5).batch(0)
    letter, texture = batch.one_hot(len(LETTERS))
    assert torch.equal(letter, torch.eye(5)[batch.letters])
    assert torch.equal(texture, torch.eye(TEXTURES)[batch.textures])


@pytest.mark.parametrize(("batch_size", "share"), [(0, 0.2), (4, 0.0), (4, 1.0)])
def test_an_empty_batch_or_a_share_out_of_range_is_refused(batch_size: int, share: float) -> None:
    with pytest.raises(GlyphError, match="batch_size must be 1 or more and test_share between"):
        TexturedSource(some(), batch_size, test_share=share)
