"""Rotated digits: against a rotation by quarter turns, the angles, and what a seed fixes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from featurewise.worlds.small import SmallWorldError, digits
from featurewise.worlds.small.rotated import (
    RotatedSource,
    cosine_and_sine,
    rotate,
    rotated_digits,
    seen_angles,
    unseen_angles,
)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_are_exact_and_counter_clockwise(quarters: int) -> None:
    known = digits("test")
    angle = torch.full((20,), quarters * math.pi / 2)
    found = rotate(known.images[:20], known.labels[:20], angle)
    expected = known.images[:20].rot90(quarters, (2, 3)).flatten(1)
    torch.testing.assert_close(found.pixels, expected, rtol=0, atol=1e-5)


def test_a_rotation_and_the_one_back_give_a_smooth_image_again() -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    blob = torch.exp(-((rows - 3) ** 2 + (columns - 4) ** 2) / 8)[None, None]
    label, angle = torch.zeros(1, dtype=torch.long), torch.tensor([0.5])
    there = rotate(blob, label, angle).pixels.view(1, 1, 8, 8)
    back = rotate(there, label, -angle).pixels.view(8, 8)
    assert (there - blob).abs().max() > 0.1
    assert (back - blob[0, 0])[2:6, 2:6].abs().max() < 0.1


def test_the_condition_is_the_angle() -> None:
    angle = torch.tensor([0.0, math.pi / 2, math.pi, 4.0])
    expected = [[math.cos(each), math.sin(each)] for each in angle.tolist()]
    torch.testing.assert_close(cosine_and_sine(angle), torch.tensor(expected))
    known = digits("test")
    found = rotate(known.images[:4], known.labels[:4], angle)
    assert torch.equal(found.condition, cosine_and_sine(angle))


def test_unseen_angles_are_in_the_middle_between_seen_ones() -> None:
    seen, unseen = seen_angles(6), unseen_angles(6)
    assert seen.tolist() == pytest.approx([math.radians(60 * i) for i in range(6)])
    assert unseen.tolist() == pytest.approx([math.radians(60 * i + 30) for i in range(6)])


def test_every_digit_at_every_angle() -> None:
    known, angles = digits("test"), torch.tensor([0.0, 1.0, 2.0])
    batch = rotated_digits("test", angles)
    assert len(batch.labels) == 3 * len(known.labels)
    for row in (0, 1, 2, 301, 700):
        digit, angle = divmod(row, 3)
        alone = rotate(known.images[[digit]], known.labels[[digit]], angles[[angle]])
        torch.testing.assert_close(batch.pixels[row], alone.pixels[0])
        assert torch.equal(batch.condition[row], alone.condition[0])
        assert batch.labels[row] == known.labels[digit]


def test_batches_are_of_training_digits_at_all_seen_angles() -> None:
    batch = RotatedSource(3000, 6, seed=1).batch(0)
    conditions, counts = batch.condition.unique(dim=0, return_counts=True)
    assert len(conditions) == 6
    assert counts.min() > 400
    upright = batch.pixels[(batch.condition - torch.tensor([1.0, 0.0])).abs().sum(1) < 1e-6]
    train = {each.numpy().tobytes() for each in digits("train").images.flatten(1)}
    found = {each.numpy().tobytes() for each in (16 * upright).round() / 16}
    assert found <= train
    assert len(found) > 300


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    source = RotatedSource(9, 6, seed=1)
    first = source.batch(4)
    source.batch(0)
    again = RotatedSource(9, 6, seed=1).batch(4)
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.condition, again.condition)
    assert not torch.equal(first.pixels, source.batch(5).pixels)
    assert not torch.equal(first.pixels, RotatedSource(9, 6, seed=2).batch(4).pixels)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"angles": 0}, {"seed": -1}])
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SmallWorldError):
        RotatedSource(**{"batch_size": 4, "angles": 6, "seed": 0} | wrong)
