"""Letters with noise: the noise tells nothing, and dealing anew is all that the control does."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import GlyphError, Glyphs, GlyphSource
from featurewise.worlds.glyphs.gan import GanSource


def some() -> Glyphs:
    images = torch.randint(0, 256, (6, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    return Glyphs(images.to(torch.uint8), (), "ABCD", {})


def test_pictures_and_letters_are_those_of_the_plain_source() -> None:
    for i in range(3):
        plain, drawn = GlyphSource(some(), 9, 5).batch(i), GanSource(some(), 9, 7, 5).batch(i)
        assert torch.equal(plain.images, drawn.images)
        assert torch.equal(plain.letters, drawn.letters)
        assert drawn.noise.shape == (9, 7)


def test_noise_is_normal_new_in_each_batch_and_does_not_tell_the_letter() -> None:
    source = GanSource(some(), 200, 8)
    batches = [source.batch(i) for i in range(20)]
    noise = torch.cat([each.noise for each in batches])
    letters = torch.cat([each.letters for each in batches])
    means = torch.stack([noise[letters == k].mean(0) for k in range(4)])
    assert float(means.abs().max()) < 5 / 1000**0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(batches[0].noise, batches[1].noise)
    assert torch.equal(batches[3].noise, GanSource(some(), 200, 8).batch(3).noise)


def test_shuffled_deals_the_letters_anew_and_nothing_else() -> None:
    plain, shuffled = (GanSource(some(), 40, 3, shuffled=s) for s in (False, True))
    moved = 0
    for i in range(50):
        one, other = plain.batch(i), shuffled.batch(i)
        assert torch.equal(one.images, other.images) and torch.equal(one.noise, other.noise)
        assert torch.equal(one.letters.sort().values, other.letters.sort().values)
        moved += int((one.letters != other.letters).sum())
    # Of 4 equally frequent letters a quarter stays by chance.
    assert moved / 2000 == pytest.approx(0.75, abs=0.05)


def test_noise_of_no_width_is_refused() -> None:
    with pytest.raises(GlyphError, match="at least 1 wide, got 0"):
        GanSource(some(), 4, 0)
