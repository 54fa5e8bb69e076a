"""Tasks on signs: answers against a loop, and what makes them the tests they are."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch

from featurewise.worlds.small import TASKS, SmallWorldError, TaskSource


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_are_those_of_a_loop(task: str) -> None:
    asked = getattr(TaskSource(seed=1, batch_size=300, features=5).batch(0), task)
    for x, z, answers in zip(
        asked.x.tolist(), asked.z.tolist(), asked.answers.tolist(), strict=True
    ):
        if task == "match":
            expected = [a * b > 0 for a, b in zip(x, z, strict=True)]
        elif task == "detect":
            expected = [max(a, b) > 0 for a, b in zip(x, z, strict=True)]
        else:
            assert sorted(z) == [0, 0, 0, 1, 1]
            one, other = (a for a, pointed in zip(x, z, strict=True) if pointed)
            expected = [one * other > 0]
        assert answers == expected


@pytest.mark.parametrize(("task", "share"), [("match", 0.5), ("detect", 0.75), ("parity", 0.5)])
def test_how_many_answers_are_yes(task: str, share: float) -> None:
    asked = getattr(TaskSource(seed=0, batch_size=8000).batch(0), task)
    assert abs(asked.answers.float().mean().item() - share) < 0.02
    # Neither side alone tells more than that: of match and parity it tells nothing.
    if task != "detect":
        for sign in (asked.x > 0, asked.z > 0):
            assert abs((asked.answers ^ sign).float().mean().item() - 0.5) < 0.03


def test_features_keep_away_from_zero_and_every_pair_is_pointed_at() -> None:
    batch = TaskSource(seed=0, batch_size=4000, features=4).batch(0)
    for values in (batch.match.x, batch.match.z, batch.detect.x, batch.detect.z, batch.parity.x):
        assert 0.5 <= values.abs().min() < 0.51
        assert 1.49 < values.abs().max() <= 1.5
        assert abs((values > 0).float().mean().item() - 0.5) < 0.02
    pairs = batch.parity.z.unique(dim=0, return_counts=True)[1]
    assert len(pairs) == 6
    assert pairs.min() > 0.8 * 4000 / 6


def least_squares(features: np.ndarray, answers: np.ndarray) -> float:
    """Accuracy of the best linear readout."""
    signs = np.where(answers, 1.0, -1.0)
    design = np.concatenate([features, np.ones((len(features), 1))], 1)
    fitted = design @ np.linalg.lstsq(design, signs, rcond=None)[0]
    return float(((fitted > 0) == answers).mean())


def test_sums_solve_detect_products_solve_match_and_neither_solves_parity() -> None:
    batch = TaskSource(seed=0, batch_size=6000, features=3).batch(0)
    for task, alone, summed, multiplied in (
        ("match", 0.5, 0.5, 1.0),
        ("detect", 0.75, 0.97, 0.75),
        ("parity", 0.5, 0.5, 0.5),
    ):
        asked = getattr(batch, task)
        x, z = asked.x.double().numpy(), asked.z.double().numpy()
        answers = asked.answers[:, 0].numpy()
        outer = (x[:, :, None] * z[:, None, :]).reshape(len(x), -1)
        found = [least_squares(f, answers) for f in (x, np.concatenate([x, z], 1), outer)]
        for got, expected in zip(found, (alone, summed, multiplied), strict=True):
            assert got < expected + 0.03, (task, found)
            assert got > expected - 0.03 or expected == 0.5, (task, found)


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    batches = {
        (seed, index): TaskSource(seed=seed, batch_size=4).batch(index)
        for seed, index in product((0, 1), (0, 1, 7))
    }
    torch.manual_seed(5)
    torch.rand(3)
    again = TaskSource(seed=1, batch_size=4)
    again.batch(3)
    for task in TASKS:
        old, new = getattr(batches[1, 7], task), getattr(again.batch(7), task)
        for field in dataclasses.fields(old):
            assert torch.equal(getattr(old, field.name), getattr(new, field.name))
    firsts = [getattr(batch, task).x for batch in batches.values() for task in TASKS]
    assert len({tuple(x.flatten().tolist()) for x in firsts}) == len(firsts)


@pytest.mark.parametrize("task", TASKS)
def test_shuffled_questions_have_the_condition_of_another_and_nothing_else_changed(
    task: str,
) -> None:
    asked, dealt = (
        getattr(TaskSource(seed=0, batch_size=4000, shuffled=s).batch(3), task)
        for s in (False, True)
    )
    assert torch.equal(dealt.x, asked.x)
    assert torch.equal(dealt.answers, asked.answers)
    assert not (dealt.z == asked.z).all(1).float().mean() > 0.1  # pointers are often alike
    assert sorted(map(tuple, dealt.z.tolist())) == sorted(map(tuple, asked.z.tolist()))
    if task == "match":
        assert abs(((dealt.x * dealt.z > 0) == dealt.answers).float().mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"seed": -1, "batch_size": 2}, "start at 0, got -1"),
        ({"seed": 0, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": 0, "batch_size": 2, "features": 1}, "features must be at least 2, got 1"),
        ({"seed": 0, "batch_size": 1, "shuffled": True}, "a batch of 1 row cannot be shuffled"),
    ],
)
def test_impossible_sources_are_refused(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(SmallWorldError, match=message):
        TaskSource(**numbers)
