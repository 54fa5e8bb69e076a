"""Noisy images: what noise does at a level, the levels of a batch, and what a seed fixes."""

from __future__ import annotations

import pytest
import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small import DigitSource, SmallWorldError, digits
from featurewise.worlds.small.noisy import NoisySource, at_level, salt_and_pepper

LEVELS = (0.0, 0.25, 0.5)


def test_a_level_is_the_share_of_pixels_that_are_replaced_half_by_each_value() -> None:
    grey, levels = torch.full((3, 1, 100, 100), 0.4), torch.tensor([0.0, 0.25, 1.0])
    found = salt_and_pepper(grey, levels, seeded_rng(3))
    for image, level in zip(found, levels.tolist(), strict=True):
        for value in (0, 1):
            assert float((image == value).float().mean()) == pytest.approx(level / 2, abs=0.02)
        assert float((image == 0.4).float().mean()) == pytest.approx(1 - level, abs=0.02)
    assert not torch.equal(found[2], salt_and_pepper(grey, levels, seeded_rng(4))[2])


def test_batches_are_those_of_the_source_with_noise_of_the_level_in_the_condition() -> None:
    plain = DigitSource(5, 400)
    found = NoisySource(plain, LEVELS).batch(2)
    images = plain.batch(2).images
    assert torch.equal(found.labels, plain.batch(2).labels)
    assert found.condition.shape == (400, 1)
    counts = [int((found.condition == level).sum()) for level in LEVELS]
    assert sum(counts) == 400 and min(counts) > 100
    for level in LEVELS:
        rows = (found.condition == level)[:, 0]
        changed = found.images[rows] != images[rows]
        # A replaced pixel may get the value it has.
        same = (images[rows] == 0).float() / 2 + (images[rows] == 1).float() / 2
        expected = level * float((1 - same).mean())
        assert float(changed.float().mean()) == pytest.approx(expected, abs=0.02)


def test_a_batch_depends_on_seed_and_index_alone_and_its_noise_is_new() -> None:
    source = NoisySource(DigitSource(5, 16), LEVELS)
    first, again = source.batch(0), NoisySource(DigitSource(5, 16), LEVELS).batch(0)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.condition, again.condition)
    others = source.batch(1), NoisySource(DigitSource(6, 16), LEVELS).batch(0)
    for other in others:
        assert not torch.equal(first.condition, other.condition)


def test_noise_of_one_level_is_fixed_and_grows_with_the_level() -> None:
    known = digits("test")
    low, high = (at_level(known, level, repeats=3) for level in (0.2, 0.6))
    assert torch.equal(low.images, at_level(known, 0.2, repeats=3).images)
    assert torch.equal(low.labels, known.labels.repeat_interleave(3))
    assert torch.equal(low.condition, torch.full((3 * len(known.labels), 1), 0.2))
    images = known.images.repeat_interleave(3, 0)
    replaced = low.images != images
    assert torch.equal(low.images[replaced], high.images[replaced])
    assert int((high.images != images).sum()) > 2 * int(replaced.sum())
    assert not torch.equal(low.images[0], low.images[1])  # repeats differ in their noise
    assert torch.equal(at_level(known, 0.0).images, known.images)


@pytest.mark.parametrize("levels", [(), (1.2,), (0.5, -0.1), (float("nan"),)])
def test_levels_that_are_none(levels: tuple[float, ...]) -> None:
    with pytest.raises(SmallWorldError, match="levels of noise are from 0 to 1"):
        NoisySource(DigitSource(0, 4), levels)
    for level in levels:
        if level != 0.5:
            with pytest.raises(SmallWorldError, match="levels of noise"):
                at_level(digits("test"), level)
    with pytest.raises(SmallWorldError, match="repeats must be 1 or more"):
        at_level(digits("test"), 0.5, repeats=0)
