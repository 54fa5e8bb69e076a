"""Letters at a contrast: against a loop over images; the split of pairs."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs import GlyphError, Glyphs
from featurewise.worlds.glyphs.contrast import (
    CONTRASTS,
    Contrasted,
    ContrastSource,
    with_contrast,
)

TYPEFACES, LETTERS, SIZE = 12, "ABCDE", 8
LEVELS = len(CONTRASTS)


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


def test_an_image_is_its_letter_at_its_contrast() -> None:
    given = some()
    batch = ContrastSource(given, 32).batch(0)
    for row in range(32):
        letter = given.images[batch.typefaces[row], batch.letters[row]] / 255
        contrast = CONTRASTS[int(batch.contrasts[row])]
        torch.testing.assert_close(batch.images[row, 0], 0.5 + contrast * (letter - 0.5))
    assert set(ContrastSource(given, 400).batch(0).contrasts.tolist()) == set(range(LEVELS))
    assert batch.images.min() >= 0 and batch.images.max() <= 1
    assert sorted(CONTRASTS) == [-c for c in sorted(CONTRASTS, reverse=True)]


def test_no_seed_trains_on_pairs_of_test_and_validation() -> None:
    sources = [ContrastSource(some(), 64, seed) for seed in (0, 1)]
    parts = {}
    for part in ("test", "validation"):
        one, other = (source.whole(part) for source in sources)
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in vars(one))
        parts[part] = set(zip(one.typefaces.tolist(), one.letters.tolist(), strict=True))
        assert len(parts[part]) == len(one.typefaces) > 0
    assert not parts["test"] & parts["validation"]
    seen = set()
    for source in sources:
        for i in range(30):
            batch = source.batch(i)
            seen |= set(zip(batch.typefaces.tolist(), batch.letters.tolist(), strict=True))
    everything = set(product(range(TYPEFACES), range(len(LETTERS))))
    assert seen == everything - parts["test"] - parts["validation"]
    assert len(seen) > len(everything) / 2


def test_batches_depend_on_seed_and_index_only() -> None:
    one, again = ContrastSource(some(), 16, 3), ContrastSource(some(), 16, 3)
    assert torch.equal(one.batch(2).images, again.batch(2).images)
    assert not torch.equal(one.batch(2).images, one.batch(3).images)
    assert not torch.equal(one.batch(2).images, ContrastSource(some(), 16, 4).batch(2).images)


def test_the_nearest_contrast_against_a_loop() -> None:
    source = ContrastSource(some(), 40)
    batch = source.batch(0)
    noise = 0.1 * torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0))
    for images in (batch.images, batch.images + noise, torch.rand(batch.images.shape)):
        nearest = source.nearest_contrast(images, batch)
        for row in range(40):
            plain = some().images[batch.typefaces[row], batch.letters[row]] / 255
            errors = [((images[row, 0] - 0.5 - c * (plain - 0.5)) ** 2).sum() for c in CONTRASTS]
            assert nearest[row] == min(range(LEVELS), key=lambda k, e=errors: e[k])
    assert torch.equal(source.nearest_contrast(batch.images, batch), batch.contrasts)


def test_which_letters_and_contrasts_are_correct() -> None:
    source = ContrastSource(some(), 40)
    batch = source.batch(0)
    predictions = batch.letters.clone()
    predictions[::2] = (predictions[::2] + 1) % len(LETTERS)
    images = batch.images.clone()
    other = (batch.contrasts + 1) % LEVELS
    images[::4] = with_contrast(source.plain(batch), other)[::4]
    right = source.correct(images, batch, Fixed(predictions))
    rows = torch.arange(40)
    assert torch.equal(right["letter"], rows % 2 == 1)
    assert torch.equal(right["contrast"], rows % 4 != 0)
    assert torch.equal(right["both"], rows % 2 == 1)


def test_the_classifier_is_given_images_at_full_contrast() -> None:
    source, given = ContrastSource(some(), 40), []
    batch = source.batch(0)

    class Recording(Fixed):
        def letters(self, images: Tensor) -> Tensor:
            given.append(images)
            return super().letters(images)

    source.correct(batch.images, batch, Recording(batch.letters))
    torch.testing.assert_close(given[0], source.plain(batch), rtol=0, atol=1e-5)


def test_labels_are_one_hot() -> None:
    batch: Contrasted = ContrastSource(some(), 5).batch(0)
    letter, contrast = batch.one_hot(len(LETTERS))
    assert torch.equal(letter, torch.eye(5)[batch.letters])
    assert torch.equal(contrast, torch.eye(LEVELS)[batch.contrasts])


@pytest.mark.parametrize(("batch_size", "share"), [(0, 0.2), (4, 0.0), (4, 0.5)])
def test_an_empty_batch_or_a_share_out_of_range_is_refused(batch_size: int, share: float) -> None:
    with pytest.raises(GlyphError, match="batch_size must be 1 or more and test_share between"):
        ContrastSource(some(), batch_size, test_share=share)
