"""Letters with noise: the noise is independent of the letter, and so is the permutation."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import GlyphError, Glyphs, GlyphSource
from featurewise.worlds.glyphs.drawn import DrawnSource


def some() -> Glyphs:
    images = torch.randint(0, 256, (6, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    return Glyphs(images.to(torch.uint8), (), "ABCD", {})


def test_pictures_and_letters_are_those_of_the_plain_source() -> None:
    for i in range(3):
        plain, drawn = GlyphSource(some(), 9, 5).batch(i), DrawnSource(some(), 9, 7, 5).batch(i)
        assert torch.equal(plain.images, drawn.images)
        assert torch.equal(plain.letters, drawn.letters)
        assert drawn.noise.shape == (9, 7)


def test_noise_is_normal_new_in_each_batch_and_does_not_tell_the_letter() -> None:
    source = DrawnSource(some(), 200, 8)
    batches = [source.batch(i) for i in range(20)]
    noise = torch.cat([each.noise for each in batches])
    letters = torch.cat([each.letters for each in batches])
    means = torch.stack([noise[letters == k].mean(0) for k in range(4)])
    assert float(means.abs().max()) < 5 / 1000**0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(batches[0].noise, batches[1].noise)
    assert torch.equal(batches[3].noise, DrawnSource(some(), 200, 8).batch(3).noise)


def test_a_permutation_depends_on_the_index_alone_and_leaves_the_noise_as_it_is() -> None:
    source = DrawnSource(some(), 40, 3)
    batch = source.batch(5)
    order = source.permutation(5, batch)
    assert order.sort().values.tolist() == list(range(40))
    assert torch.equal(order, DrawnSource(some(), 40, 3).permutation(5, batch))
    assert not torch.equal(order, source.permutation(6, batch))
    assert torch.equal(source.batch(5).noise, batch.noise)


def test_noise_of_no_width_is_refused() -> None:
    with pytest.raises(GlyphError, match="at least 1 wide, got 0"):
        DrawnSource(some(), 4, 0)
