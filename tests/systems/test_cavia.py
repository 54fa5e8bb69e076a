"""CAVIA on sine waves: the inner step by its equation, what the arms adapt, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from featurewise.study.inner_loops import (
    ERROR,
    ERROR_BEFORE,
    ERROR_LONGER,
    ERROR_SWAPPED,
    RELATIVE_ERROR,
)
from featurewise.systems.few_shot.cavia import SYSTEM, Config
from featurewise.systems.few_shot.cavia.experiment import PLANE, data, evaluate
from featurewise.systems.few_shot.cavia.experiment import test_tasks as waves_of_test
from featurewise.systems.few_shot.cavia.method import build, stepper
from featurewise.training.inner import Context, Weights
from featurewise.worlds.small.sines import SineSource

S = replace(SYSTEM.preset("tiny"), tasks=6)


def config_of(arm: str, base: Config = S) -> Config:
    return SYSTEM.config(base, arm)


def made(arm: str, base: Config = S) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(config_of(arm, base))


def concatenated(network: Context, x: Tensor, phi: Tensor) -> Tensor:
    """The paper's network: φ beside x, then the perceptron."""
    first, second, last = (network.net.backbone[i] for i in (0, 2, 4))
    side = network.net.generator.weight
    joint = torch.cat((first.weight, side), dim=1)
    beside = torch.cat((x, phi.expand(len(x), -1)), dim=1)
    hidden = torch.relu(beside @ joint.T + first.bias)
    return last(torch.relu(second(hidden)))


def test_the_step_is_that_of_the_paper() -> None:
    network, tasks = made("cavia"), data(config_of("cavia"), 0).batch(0)
    assert isinstance(network, Context)
    for row in range(S.tasks):
        phi = torch.zeros(S.context, requires_grad=True)
        answers = concatenated(network, tasks.support_x[row], phi)
        loss = (answers - tasks.support_y[row]).square().mean()
        (gradient,) = torch.autograd.grad(loss, phi)
        expected = concatenated(network, tasks.query_x[row], -S.context_learning_rate * gradient)
        torch.testing.assert_close(network(tasks)[row], expected)


def test_what_each_arm_adapts() -> None:
    sizes = {"cavia": 5, "embedding": 2, "film": 4 * S.width, "first_order": 5, "cavia_wide": 5}
    tasks = data(config_of("cavia"), 0).batch(0)
    for name, size in sizes.items():
        network = made(name)
        assert isinstance(network, Context)
        assert network.fit(tasks).shape == (S.tasks, size)
        assert network.second_order == (name != "first_order")
    for name, width in (("maml", S.width), ("maml_wide", S.wide), ("unadapted", S.width)):
        network = made(name)
        assert isinstance(network, Weights)
        assert network.fit(tasks).shape == (S.tasks, 1 + width * (width + 4))
    assert torch.equal(made("unadapted").fit(tasks), made("unadapted").initial(tasks))


def test_each_arm_has_the_learning_rate_of_what_it_adapts_and_clips_outer_gradients() -> None:
    rates = {
        "context": S.context_learning_rate,
        "film": S.film_learning_rate,
        "weights": S.weights_learning_rate,
    }
    assert len(set(rates.values())) == 3
    for arm in SYSTEM.arms:
        network, config = made(arm.name), config_of(arm.name)
        assert network.learning_rate == rates[config.adapted]
        learner = stepper(network, config).learner
        assert (learner.clip, learner.schedule(S.steps)) == (10.0, pytest.approx(0))


def test_no_run_is_trained_on_the_test_waves() -> None:
    waves = waves_of_test(S)
    assert waves.query_x.shape == (S.test_tasks, 100, 1)
    wanted = SineSource(S.test_tasks, S.shots, 100, split="test").batch(0)
    assert torch.equal(waves.amplitude, wanted.amplitude)
    seen = SineSource(S.test_tasks, S.shots, 100).batch(0)
    assert not (waves.amplitude[:, None] == seen.amplitude).any()


def test_the_control_has_the_support_points_of_another_wave() -> None:
    plain, control = (data(config_of(name), 3).batch(1) for name in ("cavia", "shuffled"))
    assert torch.equal(plain.query_y, control.query_y)
    assert torch.equal(plain.support_y.roll(1, 0), control.support_y)


def test_it_learns_waves_in_seconds_and_the_control_does_not() -> None:
    s = replace(S, steps=250, tasks=25, test_tasks=200)
    found = {}
    for name in ("cavia", "shuffled"):
        config = config_of(name, s)
        trained = stepper(build(config), config)
        source = data(config, 0)
        for index in range(s.steps):
            trained.step(source.batch(index))
        found[name] = evaluate(trained, config)
    assert found["cavia"].number(RELATIVE_ERROR) < 0.5
    assert found["cavia"].number(ERROR_LONGER) < found["cavia"].number(ERROR)
    assert found["cavia"].number(ERROR_SWAPPED) > found["cavia"].number(ERROR_BEFORE)
    assert found["cavia"].number(PLANE) > 0.6
    assert math.isclose(found["shuffled"].number(RELATIVE_ERROR), 1, abs_tol=0.05)
    assert found["shuffled"].number(PLANE) < 0.1


def test_the_embedding_is_plotted() -> None:
    config = config_of("embedding")
    assert SYSTEM.draw is not None
    image = SYSTEM.draw(stepper(made("embedding"), config), config)
    assert image.mode == "RGB"
    assert len(image.getcolors(1 << 20)) > 50


def test_waves_are_plotted_from_left_to_right(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = pytest.importorskip("matplotlib.axes").Axes
    lines, plot = [], axes.plot

    def recorded(self: object, x: Tensor, y: Tensor, style: str) -> object:
        lines.append((x, y, style))
        return plot(self, x, y, style)

    monkeypatch.setattr(axes, "plot", recorded)
    waves = waves_of_test(S)
    assert SYSTEM.draw is not None
    network = made("cavia")
    SYSTEM.draw(stepper(network, S), S)
    answers = network(waves).detach()
    assert [style for *_, style in lines] == ["k:", "-", "k^"] * 3
    for row in range(3):
        (x, truth, _), (same, predicted, _), (given_x, given_y, _) = lines[3 * row : 3 * row + 3]
        assert x.tolist() == same.tolist() == sorted(waves.query_x[row, :, 0].tolist())
        torch.testing.assert_close(truth, waves.amplitude[row] * torch.sin(x - waves.phase[row]))
        places = [waves.query_x[row, :, 0].tolist().index(place) for place in x.tolist()]
        torch.testing.assert_close(predicted, answers[row, places, 0])
        assert torch.equal(given_x, waves.support_x[row])
        assert torch.equal(given_y, waves.support_y[row])
