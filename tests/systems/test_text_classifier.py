"""Classifiers from text: scores as loops, what each arm predicts, and what is measured."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import cast

import pytest
import torch
import torch.nn.functional as F

from featurewise.core import ShapeError
from featurewise.study.results import Proportion
from featurewise.systems.name_metrics import AUC, Branches
from featurewise.systems.recognition.text_classifier import SYSTEM, Config
from featurewise.systems.recognition.text_classifier.experiment import (
    AUC_SEEN,
    CLASSIFIER,
    both_parts,
)
from featurewise.systems.recognition.text_classifier.method import TextClassifier, objective
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised

TINY = cast(Config, SYSTEM.preset("tiny"))


@cache
def trained(arm: str) -> Supervised:
    seed_everything(0)
    config = SYSTEM.config("tiny", arm)
    with torch.enable_grad():
        stepper = cast(Supervised, SYSTEM.stepper(SYSTEM.build(config), config))
        source = SYSTEM.data(config, 0)
        for index in range(config.steps):
            stepper.step(source.batch(index))
    return stepper


def network_of(arm: str) -> TextClassifier:
    network = trained(arm).network.eval()
    assert isinstance(network, TextClassifier)
    return network


@torch.no_grad()
def test_scores_are_those_of_the_paper() -> None:
    """Class by class and position by position, in float64."""
    network = cast(TextClassifier, SYSTEM.build(TINY)).double().eval()
    batch = SYSTEM.data(TINY, 1).batch(0)
    images = batch.images[:3].double()
    first, second, third = network.trunk.blocks
    maps = second(first(images))
    reduced = network.reduce(maps).clamp_min(0)
    features = network.embed(third(maps).flatten(1))
    found = network(type(batch)(images, batch.labels[:3]))
    assert found.shape == (3, len(TINY.classes))
    for label in (0, len(TINY.classes) - 1):
        layer = network.hidden[0]
        hidden = (layer.weight @ network.text[label].double() + layer.bias).clamp_min(0)
        weights = network.weights.weight @ hidden + network.weights.bias
        filters = (network.filters.weight @ hidden + network.filters.bias).reshape(-1, 3, 3)
        for row in range(3):
            padded = F.pad(reduced[row], (1, 1, 1, 1))
            side = maps.shape[-1]
            responses = [
                (padded[:, i : i + 3, j : j + 3] * filters).sum()
                for i in range(side)
                for j in range(side)
            ]
            mean = torch.stack(responses).mean()
            expected = weights @ features[row] + mean + network.bias
            torch.testing.assert_close(found[row, label], expected)


def test_arms_have_what_they_predict() -> None:
    names = {
        arm.name: {name.split(".")[0] for name, _ in network_of(arm.name).named_parameters()}
        for arm in SYSTEM.arms
    }
    common = {"trunk", "bias"}
    assert names["weights"] == {*common, "hidden", "embed", "weights"}
    assert names["filters"] == {*common, "hidden", "reduce", "filters"}
    assert names["both"] == names["shuffled"] == names["weights"] | names["filters"]
    assert names["embedding"] == {*common, "embed", "scale"}
    own, other = network_of("both").text, network_of("shuffled").text
    assert not any(torch.allclose(a, b) for a, b in zip(own, other, strict=True))


@torch.no_grad()
def test_the_loss_is_over_seen_classes() -> None:
    network, batch = network_of("weights"), SYSTEM.data(TINY, 2).batch(0)
    seen, scores, expected = TINY.classes.seen, network(batch).double(), 0.0
    for row, label in enumerate(batch.labels.tolist()):
        for other in range(seen):
            p = scores[row, other].sigmoid()
            expected -= float((p if other == label else 1 - p).log())
    loss, _ = objective(seen, network, batch)
    assert float(loss) == pytest.approx(expected / len(batch.labels), rel=1e-4)


def test_numbers_are_what_they_say() -> None:
    network, classes = network_of("both"), TINY.classes
    measured = SYSTEM.evaluate(trained("both"), TINY)
    images = TINY.images.test
    with torch.no_grad():
        batch = type(SYSTEM.data(TINY, 0).batch(0))(images.ink, images.labels)
        scores = network(batch)
    _, test = both_parts(network, TINY)
    torch.testing.assert_close(test.scores, scores, rtol=1e-4, atol=1e-4)
    assert isinstance(test, Branches)
    areas = []
    for label in range(len(classes)):
        if label < classes.seen or label in classes.unseen("test"):
            line = test.scores[:, label]
            own, others = line[images.labels == label], line[images.labels != label]
            wins = (own[:, None] > others).double() + 0.5 * (own[:, None] == others).double()
            areas.append((label, float(wins.mean())))
    for metric, known in ((AUC, False), (AUC_SEEN, True)):
        some = [each for label, each in areas if (label < classes.seen) is known]
        assert measured.values[metric.name] == pytest.approx(sum(some) / len(some))
    right = total = 0
    for row, label in enumerate(images.labels.tolist()):
        if label < classes.seen:
            total += 1
            right += int(test.scores[row, : classes.seen].argmax()) == label
    found = measured.by_type[CLASSIFIER.name]
    assert isinstance(found, Proportion)
    assert (found.correct, found.total) == (right, total)


def test_it_has_a_figure() -> None:
    assert SYSTEM.draw is not None
    assert SYSTEM.draw(trained("both"), TINY).size == (800, 340)


@pytest.mark.traced
def test_shapes_that_do_not_fit_are_refused() -> None:
    batch = SYSTEM.data(TINY, 0).batch(0)
    for arm in [each.name for each in SYSTEM.arms]:
        network = network_of(arm)
        with pytest.raises(ShapeError, match=r"images must be \(B, 1, 16, 16\), got"):
            network(replace(batch, images=batch.images[..., 1:]))
        wanted = "filters" if network.predicts in ("weights", "embedding") else "maps must be"
        with pytest.raises(ShapeError, match=wanted):
            network.by_filters(torch.randn(2, 3, 4, 4))
