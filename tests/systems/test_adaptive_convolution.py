"""Adaptive convolution against loops, what each arm reads, and each metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featurewise as fw
from featurewise.study.results import Proportion
from featurewise.systems.recognition.adaptive_convolution import SYSTEM, Config
from featurewise.systems.recognition.adaptive_convolution.experiment import (
    BETWEEN,
    BEYOND,
    BY_LEVEL,
    LEVELS,
    REPEATS,
    TRAINED,
    at,
    data,
    evaluate,
)
from featurewise.systems.recognition.adaptive_convolution.method import (
    AdaptiveConv,
    Recogniser,
    objective,
    stepper,
)
from featurewise.worlds.small import DigitSource, digits
from featurewise.worlds.small.noisy import NoisyImages, NoisySource, at_level

TINY: Config = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]
READING = ["adaptive", "concat", "film", "shuffled"]


def built(arm: str, preset: str = "tiny") -> Recogniser:
    torch.manual_seed(0)
    return Recogniser(SYSTEM.config(preset, arm))


def away_from_start(network: Recogniser) -> Recogniser:
    """The same network, whose features depend strongly on the side information."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.4)
    return network


def perceptron(module: Any, z: Tensor) -> Tensor:
    """Linear layers with a ReLU after each, row by row."""
    for layer in module.layers:
        if isinstance(layer, nn.Linear):
            z = torch.stack([row @ z + b for row, b in zip(layer.weight, layer.bias, strict=True)])
        else:
            z = z.clamp(min=0)
    return z


def convolved(x: Tensor, filters: Tensor, biases: Tensor) -> Tensor:
    """One image with filters, position by position; zero outside of the image."""
    side, reach = x.shape[-1], filters.shape[-1] // 2
    padded = F.pad(x, (reach,) * 4)
    y = torch.empty(len(filters), side, side, dtype=x.dtype)
    for d in range(len(filters)):
        for i in range(side):
            for j in range(side):
                patch = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
                y[d, i, j] = (filters[d] * patch).sum() + biases[d]
    return y


@torch.no_grad()
def test_each_sample_is_convolved_with_the_filters_of_its_side_information() -> None:
    torch.manual_seed(0)
    layer = AdaptiveConv(2, 3, 3, (5, 4)).double()
    for parameter in layer.parameters():
        parameter.normal_(std=0.5)
    x, z = torch.randn(4, 2, 6, 6).double(), torch.tensor([[0.0], [0.3], [0.6], [0.6]]).double()
    found = layer(x, z)
    count = 3 * 2 * 3 * 3
    for row in range(4):
        numbers = layer.filters_of.weight @ perceptron(layer.manifold, z[row])
        filters = layer.start.weight + numbers[:count].view(3, 2, 3, 3)
        start = cast(Tensor, layer.start.bias)
        biases = start + numbers[count:]
        torch.testing.assert_close(found[row], convolved(x[row], filters, biases))
    filters, biases = layer.filters(z)
    torch.testing.assert_close(filters[2], filters[3])
    torch.testing.assert_close(biases[2], biases[3])
    assert not torch.allclose(filters[0], filters[1])
    assert not torch.allclose(biases[0], biases[1])


@torch.no_grad()
def test_the_network_is_its_figure() -> None:
    """Two convolutions, each with ReLU and a maximum over 2 x 2, then logits."""
    batch = data(TINY, 0).batch(0)
    for arm in ARMS:
        network = away_from_start(built(arm))
        conditioned: Any = network.trunk
        trunk = conditioned.backbone if arm == "film" else conditioned
        row, z = 3, batch.condition[3]
        x = batch.images[row]
        task = conditioned.represent(z) if arm == "film" else None
        for number, layer in enumerate(trunk.convolutions):
            if isinstance(layer, AdaptiveConv):
                filters, biases = (each[0] for each in layer.filters(z[None]))
                filters = filters.view(layer.start.weight.shape)
            else:
                plain = layer.convolve if arm == "concat" else layer
                filters, biases = plain.weight, plain.bias
            if arm == "concat":
                x = torch.cat((x, z.view(1, 1, 1).expand(1, *x.shape[1:])))
            y = convolved(x, filters, biases)
            if task is not None:
                values = task[f"convolutions.{number}"]
                y = (1 + values["gamma"])[:, None, None] * y + values["beta"][:, None, None]
            half = y.shape[-1] // 2
            x = y.clamp(min=0).view(len(y), half, 2, half, 2).amax((2, 4))
        logits = trunk.classify.weight @ x.flatten() + trunk.classify.bias
        torch.testing.assert_close(network(batch)[row], logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_arms_read_the_level_or_do_not(arm: str) -> None:
    network, batch = away_from_start(built(arm)), data(TINY, 0).batch(0)
    other = replace(batch, condition=batch.condition + 0.4)
    assert torch.equal(network(batch), network(other)) is (arm not in READING)


@torch.no_grad()
def test_filters_start_the_same_for_all_side_information() -> None:
    batch = data(TINY, 0).batch(0)
    for arm in ("adaptive", "film"):
        other = replace(batch, condition=batch.condition + 0.4)
        assert torch.equal(built(arm)(batch), built(arm)(other))


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_wide_network_has_as_many_parameters_as_the_adaptive_one(preset: str) -> None:
    wide, adaptive = (
        sum(p.numel() for p in built(arm, preset).parameters())
        for arm in ("plain_wide", "adaptive")
    )
    assert wide == pytest.approx(adaptive, rel=0.01)


def test_all_arms_but_the_wide_one_have_the_same_channels() -> None:
    for arm in set(ARMS) - {"plain_wide"}:
        assert not SYSTEM.config("small", arm).is_wide
    film = built("film").trunk
    assert isinstance(film, fw.Conditioned)
    assert [site.width for site in film.layout] == list(TINY.widths)


def test_training_digits_are_at_the_levels_of_training() -> None:
    assert data(TINY, 5) == NoisySource(DigitSource(5, TINY.batch_size), (0.0, 0.3, 0.6))
    assert set(TRAINED).isdisjoint((*BETWEEN, *BEYOND))
    assert min(TRAINED) < min(BETWEEN) and max(BETWEEN) < max(TRAINED) < min(BEYOND)


def test_the_control_has_the_level_of_another_digit() -> None:
    plain, control = (data(SYSTEM.config("small", a), 5).batch(0) for a in ("adaptive", "shuffled"))
    assert torch.equal(plain.images, control.images)
    assert torch.equal(plain.labels, control.labels)
    assert torch.equal(plain.condition.roll(1, 0), control.condition)
    assert not torch.equal(plain.condition, control.condition)
    tested = at(SYSTEM.config("small", "shuffled"), 45)
    expected = at_level(digits("test"), 0.45, REPEATS)
    assert torch.equal(tested.images, expected.images)
    for level in TRAINED:  # each is as frequent as the others, whatever the noise is
        share = (tested.condition == torch.tensor(level / 100)).float().mean()
        assert float(share) == pytest.approx(1 / 3, abs=0.05)


def test_the_loss_is_the_cross_entropy() -> None:
    network, batch = built("adaptive"), data(TINY, 0).batch(0)
    expected = F.cross_entropy(network(batch), batch.labels)
    torch.testing.assert_close(objective(network, batch)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("arm", ["adaptive", "plain", "shuffled"])
def test_what_is_measured(arm: str) -> None:
    config, network = SYSTEM.config("tiny", arm), away_from_start(built(arm))
    measured = evaluate(stepper(network, config), config)
    known = digits("test")

    def rights(level: int, given: int) -> Tensor:
        batch = at_level(known, level / 100, REPEATS)
        z = torch.full((len(batch.labels), 1), given / 100)
        found = network(NoisyImages(batch.images, z, batch.labels))
        return found.argmax(1) == batch.labels  # type: ignore[no-any-return]

    def right(level: int, given: int) -> int:
        return int(rights(level, given).sum())

    total = len(known.labels) * REPEATS
    by_level = {level: measured.by_type[BY_LEVEL[level].name] for level in LEVELS}
    if arm != "shuffled":
        assert {level: each.correct for level, each in by_level.items()} == {
            level: right(level, level) for level in LEVELS
        }
    accuracy = measured.accuracy
    assert accuracy is not None
    over = {
        TRAINED: accuracy,
        BETWEEN: measured.by_type["accuracy between"],
        BEYOND: measured.by_type["accuracy beyond"],
    }
    for levels, share in over.items():
        assert share.correct == sum(by_level[level].correct for level in levels)
        assert share.total == len(levels) * total
        assert share.effective is not None
        if arm != "shuffled":  # a digit counts once, however often it is tested
            digit = torch.arange(len(known.labels)).repeat_interleave(REPEATS)
            stacked = torch.cat([rights(level, level) for level in levels])
            assert share == Proportion.of(stacked, digit.repeat(len(levels)))
    misled = {"accuracy, other level", "accuracy between, next level"}
    if arm != "adaptive":
        assert misled.isdisjoint(measured.by_type)
        return
    other = measured.by_type["accuracy, other level"]
    assert other.correct == right(0, 30) + right(30, 60) + right(60, 0)
    neighbours = measured.by_type["accuracy between, next level"]
    assert neighbours.correct == right(15, 0) + right(15, 30) + right(45, 30) + right(45, 60)
    assert neighbours.total == 4 * total


@torch.no_grad()
def test_the_control_is_tested_with_levels_at_random() -> None:
    config, network = SYSTEM.config("tiny", "shuffled"), away_from_start(built("shuffled"))
    measured = evaluate(stepper(network, config), config)
    for level in LEVELS:
        batch = at(config, level)
        right = int((network(batch).argmax(1) == batch.labels).sum())
        assert measured.by_type[BY_LEVEL[level].name].correct == right


def test_validation_digits_are_others() -> None:
    found = at(replace(TINY, split="validation"), 0)
    assert torch.equal(found.labels, digits("validation").labels.repeat_interleave(REPEATS))


def test_the_learning_rate_falls_to_nothing_by_the_last_step() -> None:
    schedule = stepper(built("plain"), TINY).learner.schedule
    steps = (0, TINY.steps // 2, TINY.steps)
    assert [schedule(step) for step in steps] == pytest.approx([1, 0.5, 0])


def test_filters_learn_to_depend_on_the_level() -> None:
    network = built("adaptive")
    trained, source = stepper(network, TINY), data(TINY, 0)
    for index in range(TINY.steps):
        trained.step(source.batch(index))
    for layer in cast(Any, network.trunk).convolutions:
        with torch.no_grad():
            filters, _ = layer.filters(torch.tensor([[0.0], [0.6]]))
        assert float((filters[0] - filters[1]).abs().max()) > 1e-3


def test_every_arm_has_a_figure() -> None:
    assert SYSTEM.draw is not None
    assert SYSTEM.draw(stepper(built("plain"), SYSTEM.config("tiny", "plain")), TINY).size == (
        800,
        360,
    )
