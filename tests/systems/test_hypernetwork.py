"""The spectrum: what each arm predicts, that it is an update of the kernel, and the controls."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.core import LowRank
from featurewise.systems.mechanisms.hypernetwork import SYSTEM, Config
from featurewise.systems.mechanisms.hypernetwork.experiment import data, evaluate
from featurewise.systems.mechanisms.hypernetwork.method import Perceptron, objective, stepper
from featurewise.worlds.small.rotated import RotatedSource, rotated_digits

TINY: Config = SYSTEM.preset("tiny")
SMALL: Config = SYSTEM.preset("small")


def perceptron(arm: str, preset: str = "tiny") -> Perceptron:
    torch.manual_seed(0)
    return Perceptron(SYSTEM.config(preset, arm))


def away_from_identity(network: Perceptron) -> Perceptron:
    """The same network, with a generator whose predictions depend on the condition."""
    with torch.no_grad():
        for parameter in network.net.generator.parameters():
            parameter.normal_(std=0.3)
    return network


def test_so_many_numbers_are_predicted_as_the_arms_say() -> None:
    c = SMALL.width
    of_a_site = {"bias": c, "film": 2 * c, "whole": c * c, "film_wide": 2 * SMALL.wide_width}
    of_a_site |= {f"rank{r}": 2 * r * c for r in (2, 8)}
    for arm, numbers in of_a_site.items():
        assert perceptron(arm, "small").net.layout.size == 2 * numbers


def test_the_wide_perceptron_has_as_many_parameters_as_the_arm_whole() -> None:
    wide, whole = (
        sum(p.numel() for p in perceptron(arm, "small").parameters())
        for arm in ("film_wide", "whole")
    )
    assert wide == pytest.approx(whole, rel=0.01)


def kernel(arm: str, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What an arm makes of a linear map: a matrix on its left, and a bias."""
    one, zero = torch.eye(TINY.width), torch.zeros(TINY.width)
    if arm == "bias":
        return one, values["beta"]
    if arm == "film":
        return torch.diag(1 + values["gamma"]), values["beta"]
    if arm == "whole":
        return one + values["delta"], zero
    effective = LowRank(int(arm.removeprefix("rank"))).effective(values)
    update = effective["left"] @ effective["right"]
    assert torch.linalg.matrix_rank(update) == int(arm.removeprefix("rank"))
    return one + update, zero


@pytest.mark.parametrize("arm", ["bias", "film", "rank2", "rank8", "whole"])
def test_what_is_predicted_is_a_kernel(arm: str) -> None:
    made, batch = away_from_identity(perceptron(arm)), data(TINY, 0).batch(0)
    first, second, last = (made.net.backbone[i] for i in (0, 2, 4))
    logits = made(batch)
    for row in range(6):
        task, y = made.net.represent(batch.condition[row]), batch.pixels[row]
        for layer, site in ((first, "0"), (second, "2")):
            left, bias = kernel(arm, task[site])
            y = torch.relu((left @ layer.weight) @ y + left @ layer.bias + bias)
        torch.testing.assert_close(logits[row], last(y), rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_cross_entropy() -> None:
    network, batch = perceptron("film"), data(TINY, 0).batch(0)
    torch.testing.assert_close(
        objective(network, batch)[0], F.cross_entropy(network(batch), batch.labels)
    )


def test_the_data_are_at_the_seen_angles() -> None:
    assert data(TINY, 5) == RotatedSource(TINY.batch_size, TINY.angles, 5)


def test_the_control_has_the_angle_of_another_digit() -> None:
    plain, control = (data(SYSTEM.config("small", arm), 5).batch(0) for arm in ("film", "shuffled"))
    assert torch.equal(plain.pixels, control.pixels)
    assert torch.equal(plain.labels, control.labels)
    assert torch.equal(plain.condition.roll(1, 0), control.condition)
    assert not torch.equal(plain.condition, control.condition)


def test_the_learning_rate_falls_to_nothing_by_the_last_step() -> None:
    schedule = stepper(perceptron("none"), TINY).learner.schedule
    steps = (0, TINY.steps // 2, TINY.steps)
    assert [schedule(step) for step in steps] == pytest.approx([1, 0.5, 0])


@torch.no_grad()
@pytest.mark.parametrize("arm", ["whole", "none"])
def test_what_is_measured_at_seen_and_unseen_angles(arm: str) -> None:
    """Four angles of training: 0, 90, 180 and 270 degrees."""
    config, network = SYSTEM.config("tiny", arm), perceptron(arm)
    if arm == "whole":
        away_from_identity(network)
    measured = evaluate(stepper(network, config), config)

    def right(degrees: list[int], condition: list[int]) -> int:
        batch = rotated_digits("test", torch.tensor([math.radians(each) for each in degrees]))
        angles = [math.radians(each) for each in condition] * 277
        z = torch.tensor([[math.cos(angle), math.sin(angle)] for angle in angles])
        return int((network(replace(batch, condition=z)).argmax(1) == batch.labels).sum())

    seen, unseen = [0, 90, 180, 270], [45, 135, 225, 315]
    assert measured.accuracy is not None
    assert measured.accuracy.correct == right(seen, seen)
    assert measured.accuracy.total == 4 * 277
    assert measured.accuracy.effective is not None  # angles of one digit are not independent
    at_unseen = right(unseen, unseen)
    assert measured.by_type["accuracy at unseen angles"].correct == at_unseen
    neighbours = right(unseen, seen) + right(unseen, [90, 180, 270, 360])
    gain = 100 * (at_unseen - neighbours / 2) / (4 * 277)
    assert measured.number("gain of the angle") == pytest.approx(gain)
    assert (gain == 0) is (arm == "none")
    assert measured.number("predicted numbers") == (0 if arm == "none" else 2 * config.width**2)


@torch.no_grad()
def test_the_control_is_evaluated_with_the_angle_of_another_digit() -> None:
    network = away_from_identity(perceptron("film"))
    found = [
        evaluate(stepper(network, config), config)
        for config in (SYSTEM.config("tiny", arm) for arm in ("film", "shuffled"))
    ]
    batch = rotated_digits("test", torch.arange(4) * (math.pi / 2))
    shuffled = replace(batch, condition=batch.condition.roll(1, 0))
    right = int((network(shuffled).argmax(1) == batch.labels).sum())
    assert found[1].accuracy is not None
    assert found[1].accuracy.correct == right
    assert found[0].accuracy != found[1].accuracy


def test_every_arm_but_one_is_conditioned_and_starts_as_the_plain_perceptron() -> None:
    batch = data(TINY, 0).batch(0)
    plain = perceptron("none")(batch)
    for arm in {each.name for each in SYSTEM.arms} - {"none", "film_wide"}:
        assert perceptron(arm).conditioned
        assert torch.equal(perceptron(arm)(batch), plain)


def test_the_angle_helps_and_that_of_another_does_not() -> None:
    found = {}
    for arm in ("film", "none", "shuffled"):
        config = replace(SYSTEM.config("small", arm), steps=300, learning_rate=0.01)
        torch.manual_seed(0)
        trained = stepper(Perceptron(config), config)
        source = data(config, 0)
        for index in range(config.steps):
            trained.step(source.batch(index))
        found[arm] = evaluate(trained, config).number("accuracy at unseen angles")
    assert found["film"] > found["none"] + 0.05
    assert found["shuffled"] < found["none"] + 0.05
