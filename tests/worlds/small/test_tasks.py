"""Tasks on signs: labels against a loop, distributions, and which models can solve them."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from featurewise.worlds.small import TASKS, SmallWorldError, TaskSource


@pytest.mark.parametrize("task", TASKS)
def test_labels_against_a_loop(task: str) -> None:
    questions = getattr(TaskSource(seed=1, batch_size=300, features=5).batch(0), task)
    for x, z, labels in zip(
        questions.inputs.tolist(),
        questions.condition.tolist(),
        questions.labels.tolist(),
        strict=True,
    ):
        if task == "match":
            expected = [a * b > 0 for a, b in zip(x, z, strict=True)]
        elif task == "detect":
            expected = [max(a, b) > 0 for a, b in zip(x, z, strict=True)]
        elif task == "fallback":
            expected = [(b if a == 0 else a) > 0 for a, b in zip(x, z, strict=True)]
        else:
            assert sorted(z) == [0, 0, 0, 1, 1]
            one, other = (a for a, selected in zip(x, z, strict=True) if selected)
            expected = [one * other > 0]
        assert labels == expected


@pytest.mark.parametrize(
    ("task", "share"), [("match", 0.5), ("detect", 0.75), ("parity", 0.5), ("fallback", 0.5)]
)
def test_how_many_labels_are_yes(task: str, share: float) -> None:
    questions = getattr(TaskSource(seed=0, batch_size=8000).batch(0), task)
    assert abs(questions.labels.float().mean().item() - share) < 0.02
    # x alone, or z alone, carries no information about match and parity.
    if task in ("match", "parity"):
        for sign in (questions.inputs > 0, questions.condition > 0):
            assert abs((questions.labels ^ sign).float().mean().item() - 0.5) < 0.03


def test_ranges_of_features_and_that_every_pair_is_selected() -> None:
    batch = TaskSource(seed=0, batch_size=4000, features=4).batch(0)
    for values in (
        batch.match.inputs,
        batch.match.condition,
        batch.detect.inputs,
        batch.detect.condition,
        batch.parity.inputs,
    ):
        assert 0.5 <= values.abs().min() < 0.51
        assert 1.49 < values.abs().max() <= 1.5
        assert abs((values > 0).float().mean().item() - 0.5) < 0.02
    pairs = batch.parity.condition.unique(dim=0, return_counts=True)[1]
    assert len(pairs) == 6
    assert pairs.min() > 0.8 * 4000 / 6


def test_x_is_zero_in_half_of_the_fallback_questions_and_nowhere_else() -> None:
    batch = TaskSource(seed=0, batch_size=4000).batch(0)
    zero = batch.fallback.inputs == 0
    assert torch.equal(zero.all(1), zero.any(1))
    assert abs(zero.all(1).float().mean().item() - 0.5) < 0.03
    assert batch.fallback.condition.abs().min() >= 0.5
    assert batch.match.inputs.abs().min() >= 0.5


def least_squares(features: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy of the linear readout with the least squared error."""
    signs = np.where(labels, 1.0, -1.0)
    design = np.concatenate([features, np.ones((len(features), 1))], 1)
    fitted = design @ np.linalg.lstsq(design, signs, rcond=None)[0]
    return float(((fitted > 0) == labels).mean())


def test_sums_solve_detect_and_fallback_products_match_and_neither_parity() -> None:
    batch = TaskSource(seed=0, batch_size=6000, features=3).batch(0)
    for task, alone, summed, multiplied in (
        ("match", 0.5, 0.5, 1.0),
        ("detect", 0.75, 0.97, 0.75),
        ("parity", 0.5, 0.5, 0.5),
        ("fallback", 0.75, 0.98, 0.5),
    ):
        questions = getattr(batch, task)
        x, z = questions.inputs.double().numpy(), questions.condition.double().numpy()
        labels = questions.labels[:, 0].numpy()
        outer = (x[:, :, None] * z[:, None, :]).reshape(len(x), -1)
        found = [least_squares(f, labels) for f in (x, np.concatenate([x, z], 1), outer)]
        for got, expected in zip(found, (alone, summed, multiplied), strict=True):
            # Of the four pairs of signs a line may have three of parity right, by the noise.
            tolerance = 0.15 if task == "parity" else 0.03
            assert got < expected + tolerance, (task, found)
            assert got > expected - 0.03 or expected == 0.5, (task, found)


def test_a_batch_depends_on_seed_and_index_only() -> None:
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
    firsts = [getattr(batch, task).inputs for batch in batches.values() for task in TASKS]
    assert len({tuple(x.flatten().tolist()) for x in firsts}) == len(firsts)


def test_splits_share_no_question() -> None:
    splits = ("train", "validation", "test")
    inputs = torch.cat([TaskSource(0, 50, split=each).batch(0).match.inputs for each in splits])
    assert len(inputs.unique(dim=0)) == 150


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"seed": -1, "batch_size": 2}, "seed must be 0 or more, got -1"),
        ({"seed": 0, "batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"seed": 0, "batch_size": 2, "features": 1}, "features must be 2 or more, got 1"),
        (
            {"seed": 0, "batch_size": 2, "split": "all"},
            "train.*validation.*test.*(?:got )?'all'|'all'",
        ),
    ],
)
def test_impossible_sources_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises((SmallWorldError, TypeCheckError), match=message):
        TaskSource(**numbers)
