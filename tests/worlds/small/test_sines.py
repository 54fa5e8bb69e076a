"""Sine waves: against the formula; ranges; reproducibility; the control."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from featurewise.worlds.small import SmallWorldError
from featurewise.worlds.small.sines import SineSource


def test_points_lie_on_the_wave_of_their_task() -> None:
    tasks = SineSource(tasks=7, shots=4, queries=6, seed=1).batch(2)
    assert tasks.support_x.shape == tasks.support_y.shape == (7, 4, 1)
    assert tasks.query_x.shape == tasks.query_y.shape == (7, 6, 1)
    for x, y in ((tasks.support_x, tasks.support_y), (tasks.query_x, tasks.query_y)):
        for row in range(7):
            a, p = tasks.amplitude[row].item(), tasks.phase[row].item()
            expected = [a * math.sin(each - p) for each in x[row, :, 0].tolist()]
            assert y[row, :, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_amplitudes_phases_and_x_are_uniform_in_their_ranges() -> None:
    tasks = SineSource(tasks=2000, shots=5, queries=5).batch(0)
    for values, low, high in (
        (tasks.amplitude, 0.1, 5.0),
        (tasks.phase, 0.0, math.pi),
        (torch.cat((tasks.support_x, tasks.query_x)), -5.0, 5.0),
    ):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))


def test_waves_are_linear_in_the_plane() -> None:
    tasks = SineSource(tasks=9).batch(0)
    basis = torch.cat((tasks.query_x.sin(), -tasks.query_x.cos()), dim=2)
    torch.testing.assert_close((basis @ tasks.plane[:, :, None]), tasks.query_y)


def test_a_batch_depends_on_seed_index_and_split_only() -> None:
    source = SineSource(tasks=3, seed=4)
    torch.manual_seed(1)
    first = source.batch(8)
    source.batch(0)
    torch.manual_seed(2)
    again = SineSource(tasks=3, seed=4).batch(8)
    assert torch.equal(first.query_y, again.query_y)
    assert torch.equal(first.support_y, again.support_y)
    for other in (
        source.batch(9),
        SineSource(tasks=3, seed=5).batch(8),
        SineSource(tasks=3, seed=4, split="test").batch(8),
    ):
        assert not torch.isin(other.amplitude, first.amplitude).any()


def test_swapped_tasks_have_the_support_points_of_another() -> None:
    tasks = SineSource(tasks=4).batch(0)
    swapped = tasks.swapped()
    assert torch.equal(swapped.query_y, tasks.query_y)
    assert torch.equal(swapped.amplitude, tasks.amplitude)
    for row in range(4):
        assert torch.equal(swapped.support_x[row], tasks.support_x[row - 1])
        assert torch.equal(swapped.support_y[row], tasks.support_y[row - 1])
        assert not torch.equal(swapped.support_y[row], tasks.support_y[row])


@pytest.mark.parametrize(
    "wrong", [{"tasks": 0}, {"shots": 0}, {"queries": 0}, {"seed": -1}, {"split": "dev"}], ids=str
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((SmallWorldError, TypeCheckError)):
        SineSource(**{"tasks": 1, **wrong})
