"""Letters with noise: noise is independent of the letter; the control only permutes labels."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import GlyphError, Glyphs, GlyphSource
from featurewise.worlds.glyphs.gan import GanSource


def some() -> Glyphs:
    images = torch.randint(0, 256, (6, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    return Glyphs(images.to(torch.uint8), (), "ABCD", {})


def test_images_and_letters_are_those_of_the_plain_source() -> None:
    for i in range(3):
        plain, batch = GlyphSource(some(), 9, 5).batch(i), GanSource(some(), 9, 7, 5).batch(i)
        assert torch.equal(plain.images, batch.images)
        assert torch.equal(plain.letters, batch.letters)
        assert batch.noise.shape == (9, 7)


def test_noise_is_normal_and_independent_of_batch_and_letter() -> None:
    source = GanSource(some(), 200, 8)
    batches = [source.batch(i) for i in range(20)]
    noise = torch.cat([each.noise for each in batches])
    letters = torch.cat([each.letters for each in batches])
    means = torch.stack([noise[letters == k].mean(0) for k in range(4)])
    assert float(means.abs().max()) < 5 / 1000**0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(batches[0].noise, batches[1].noise)
    assert torch.equal(batches[3].noise, GanSource(some(), 200, 8).batch(3).noise)


def test_shuffled_permutes_the_labels_and_nothing_else() -> None:
    plain, shuffled = (GanSource(some(), 40, 3, shuffled=s) for s in (False, True))
    moved = 0
    for i in range(50):
        one, other = plain.batch(i), shuffled.batch(i)
        assert torch.equal(one.images, other.images) and torch.equal(one.noise, other.noise)
        assert torch.equal(one.letters.sort().values, other.letters.sort().values)
        moved += int((one.letters != other.letters).sum())
    # A random permutation of 4 equally frequent letters keeps a quarter of the labels.
    assert moved / 2000 == pytest.approx(0.75, abs=0.05)


def test_noise_of_size_0_is_refused() -> None:
    with pytest.raises(GlyphError, match="noise_size must be 1 or more, got 0"):
        GanSource(some(), 4, 0)
