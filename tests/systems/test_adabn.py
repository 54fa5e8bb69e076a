"""AdaBN against a norm-by-norm computation; arms; what is tested on and what is adapted to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.study.results import Proportion
from featurewise.systems.recognition.adabn import SYSTEM, experiment
from featurewise.systems.recognition.adabn.experiment import (
    BY_SHIFT,
    COUNTS,
    SOURCE,
    adapted,
    correct,
    evaluated_images,
    shifted_test,
    target_images,
)
from featurewise.systems.recognition.adabn.method import Recogniser, adapt
from featurewise.training.randomness import seed_everything
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.labelled import FASHION_FOLDER
from featurewise.worlds.glyphs.shifts import SHIFTS
from featurewise.worlds.small import DigitSource, digits

TINY = SYSTEM.preset("tiny")


@torch.enable_grad()
def trained(arm: str = "adabn") -> Supervised:
    seed_everything(0)
    config = SYSTEM.config("tiny", arm)
    stepper = cast(Supervised, SYSTEM.stepper(SYSTEM.build(config), config))
    source = SYSTEM.data(config, 0)
    for index in range(config.steps):
        stepper.step(source.batch(index))
    return stepper


@pytest.fixture(scope="module")
def network() -> Recogniser:
    return cast(Recogniser, trained().network.eval())


def normed(norm: nn.Module, x: Tensor, statistics: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
    """A norm by the mean and variance of its inputs, channel by channel; both are recorded."""
    rows = x.transpose(0, 1).flatten(1)
    means = torch.stack([row.sum() / len(row) for row in rows])
    variances = torch.stack(
        [((row - mean) ** 2).sum() / len(row) for row, mean in zip(rows, means, strict=True)]
    )
    statistics[id(norm)] = means, variances * rows.shape[1] / (rows.shape[1] - 1)
    lift = (1, -1, 1, 1)
    scale = (variances + norm.eps).rsqrt() * norm.weight
    return (x - means.view(lift)) * scale.view(lift) + norm.bias.view(lift)


def expected_statistics(network: Any, x: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """Mean and variance of the inputs of each norm, after those before it were adapted."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    trunk = network.trunk
    x = normed(trunk.stem[1], trunk.stem[0](x), found).relu()
    for block in trunk.blocks:
        inner = normed(block.branch[1], block.branch[0](x), found).relu()
        end = normed(block.branch[4], block.branch[3](inner), found)
        shortcut = x
        if isinstance(block.shortcut, nn.Sequential):
            shortcut = normed(block.shortcut[1], block.shortcut[0](x), found)
        x = F.relu(end + shortcut)
    return found


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def test_each_norm_gets_the_statistics_of_its_inputs(network: Recogniser) -> None:
    network = copy.deepcopy(network).double()
    images = 0.35 + 0.3 * digits("validation").images[:40].double()
    expected = expected_statistics(network, images)
    before = {name: each.clone() for name, each in network.named_parameters()}
    momenta = [norm.momentum for norm in norms(network)]
    adapt(network, images)
    assert len(norms(network)) == len(expected) == 6
    for norm in norms(network):
        mean, variance = expected[id(norm)]
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)
    assert all(torch.equal(each, before[name]) for name, each in network.named_parameters())
    assert not any(module.training for module in network.modules())
    assert [norm.momentum for norm in norms(network)] == momenta


@torch.no_grad()
def test_the_first_norm_alone(network: Recogniser) -> None:
    one, images = copy.deepcopy(network), 0.3 * digits("validation").images[:40]
    adapt(one, images, first_only=True)
    whole = copy.deepcopy(network)
    adapt(whole, images)
    for number, (a, b, c) in enumerate(zip(norms(one), norms(network), norms(whole), strict=True)):
        assert torch.equal(a.running_mean, (c if number == 0 else b).running_mean)
        assert not torch.equal(b.running_mean, c.running_mean)


@torch.no_grad()
def test_arms_read_the_statistics_that_they_say(network: Recogniser) -> None:
    """Each arm in each domain, adapted by hand."""
    for arm in SYSTEM.arms:
        config = SYSTEM.config("tiny", arm.name)
        measured = SYSTEM.evaluate(trained(arm.name), config)
        for number, shift in enumerate(SHIFTS):
            found = copy.deepcopy(network)
            read = SHIFTS[(number - 1) % len(SHIFTS)] if arm.name == "shuffled" else shift
            if arm.name != "source":
                images = target_images(config, read, 256)
                adapt(found, images, first_only=arm.name == "first")
            batch = shifted_test(config, shift)
            right = int((found(batch).argmax(1) == batch.labels).sum())
            assert measured.by_type[BY_SHIFT[shift.name].name] == Proportion(right, 277)
        by_kind = {
            kind: [measured.by_type[BY_SHIFT[s.name].name] for s in SHIFTS if s.kind == kind]
            for kind in ("statistics", "geometry")
        }
        accuracy, geometry = measured.accuracy, measured.by_type["accuracy, geometry"]
        assert accuracy is not None
        for found_share, parts in ((accuracy, "statistics"), (geometry, "geometry")):
            assert found_share.correct == sum(each.correct for each in by_kind[parts])
            assert found_share.total == sum(each.total for each in by_kind[parts])
            assert found_share.effective is not None and found_share.effective <= 277 * 4
        counts = [key for key in measured.values if "target image" in key]
        assert len(counts) == (len(COUNTS) if arm.name == "adabn" else 0)


def test_the_control_keeps_the_statistics_of_no_domain() -> None:
    read = [SHIFTS[SHIFTS.index(shift) - 1] for shift in SHIFTS]
    assert sorted(each.name for each in read) == sorted(each.name for each in SHIFTS)
    assert not [one for one, other in zip(read, SHIFTS, strict=True) if one is other]


@torch.no_grad()
def test_accuracy_by_count_is_a_mean_over_sets(
    network: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "REPEATS", 2)
    right, total = 0, 0
    for shift in SHIFTS[:4]:
        for repeat in range(2):
            found = adapted(network, TINY, shift, 4, repeat)
            batch = shifted_test(TINY, shift)
            right += int(correct(found, batch).sum())
            total += len(batch.labels)
    assert experiment.by_count(network, TINY, 4) == pytest.approx(right / total)


def test_sets_of_target_images_differ_and_are_not_tested_on() -> None:
    test = evaluated_images(TINY, "test").images.flatten(1)
    sets = [target_images(TINY, SOURCE, 64, repeat) for repeat in (0, 1)]
    assert not torch.equal(*sets)
    assert torch.equal(sets[0], target_images(TINY, SOURCE, 64))
    assert len(target_images(TINY, SOURCE, 10**6)) == len(digits("validation").labels)
    assert not (sets[0].flatten(1)[:, None] == test).all(2).any()


def test_training_images_are_not_shifted() -> None:
    for arm in SYSTEM.arms:
        found = SYSTEM.data(SYSTEM.config("tiny", arm.name), 3).batch(2)
        assert torch.equal(found.images, DigitSource(3, 32, "train").batch(2).images)


def test_every_arm_has_a_figure() -> None:
    assert SYSTEM.draw is not None
    config = SYSTEM.config("tiny", "first")
    assert SYSTEM.draw(trained("first"), config).size == (800, 360)


def test_fashion_is_adapted_to_and_tested_on_other_images() -> None:
    if not Path(FASHION_FOLDER).is_dir():
        pytest.skip("Fashion-MNIST is not installed: apt-get install dataset-fashion-mnist")
    config = SYSTEM.preset("small")
    test = evaluated_images(config, "test")
    assert test.images.shape == (2000, 1, 16, 16)
    assert torch.equal(test.labels.bincount(), torch.full((10,), 200))
    images = target_images(config, SOURCE, 256).flatten(1)
    assert len(images) == 256
    assert not (images[:20, None] == test.images.flatten(1)).all(2).any()
