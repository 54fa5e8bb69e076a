"""Permuted digits: against the digits; shares; reproducibility; the control."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from featurewise.worlds.small import SmallWorldError, digits
from featurewise.worlds.small.permuted import PermutedSource, permutations, permuted_digits


def test_a_task_is_one_permutation_of_the_pixels() -> None:
    orders = permutations(8)
    assert all(torch.equal(order.sort().values, torch.arange(64)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 8
    assert torch.equal(permutations(3), orders[:3])


def test_every_digit_under_every_permutation() -> None:
    known, batch = digits("test"), permuted_digits("test", columns=2, tasks=3)
    assert batch.pixels.shape == (3 * len(known.labels), 2, 64)
    for row in (0, 1, 2, 301, 700):
        digit, task = divmod(row, 3)
        flat = known.images[digit].flatten()
        for column in range(2):
            assert batch.task[row, column] == task
            assert batch.labels[row, column] == known.labels[digit]
            expected = [flat[place].item() for place in permutations(3)[task].tolist()]
            assert batch.pixels[row, column].tolist() == expected


def test_sizes_of_shares_and_that_larger_ones_contain_smaller_ones() -> None:
    source = PermutedSource(batch_size=2000, shares=(0.01, 0.1, 1.0), tasks=1, seed=2)
    seen: list[set[bytes]] = [set(), set(), set()]
    for index in range(5):
        for column, pixels in enumerate(source.batch(index).pixels.unbind(1)):
            seen[column] |= {each.numpy().tobytes() for each in pixels}
    assert len(seen[0]) == 12
    assert len(seen[1]) == 125
    assert len(seen[2]) > 1200
    assert seen[0] < seen[1] < seen[2]


def test_a_batch_depends_on_seed_and_index_only() -> None:
    source = PermutedSource(batch_size=9, shares=(0.5, 1.0), seed=1)
    first = source.batch(4)
    source.batch(0)
    again = PermutedSource(batch_size=9, shares=(0.5, 1.0), seed=1).batch(4)
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.task, again.task)
    assert not torch.equal(first.pixels, source.batch(5).pixels)
    assert not torch.equal(
        first.pixels, PermutedSource(batch_size=9, shares=(0.5, 1.0), seed=2).batch(4).pixels
    )


def test_a_shuffled_condition_is_another_permutation() -> None:
    plain, shuffled = permuted_digits("test"), permuted_digits("test", shuffled=True)
    assert torch.equal(plain.pixels, shuffled.pixels)
    assert torch.equal(plain.labels, shuffled.labels)
    assert (plain.task != shuffled.task).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"tasks": 0},
        {"seed": -1},
        {"shares": ()},
        {"shares": (0.0,)},
        {"shares": (2.0,)},
    ],
    ids=str,
)
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SmallWorldError):
        PermutedSource(**{"batch_size": 1, "shares": (1.0,), **wrong})
