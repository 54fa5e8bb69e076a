"""CAVIA on waves: its inner step by the equation, what its arms fit, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from featurewise.systems.few_shot.cavia import (
    SYSTEM,
    Waves,
    build,
    data,
    evaluate,
    held_out,
    stepper,
)
from featurewise.training.inner import Context, Weights
from featurewise.worlds.small.sines import SineSource

S = replace(SYSTEM.preset("tiny"), tasks=6)


def made(arm: str, s: Waves = S) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(s, SYSTEM.arm(arm))


def concatenated(network: Context, x: Tensor, phi: Tensor) -> Tensor:
    """The paper's network: φ beside x, then the perceptron."""
    first, second, last = (network.net.backbone[i] for i in (0, 2, 4))
    side = network.net.generator.weight
    joint = torch.cat((first.weight, side), dim=1)
    beside = torch.cat((x, phi.expand(len(x), -1)), dim=1)
    hidden = torch.relu(beside @ joint.T + first.bias)
    return last(torch.relu(second(hidden)))


def test_the_step_is_that_of_the_paper() -> None:
    network, tasks = made("cavia"), data(S, SYSTEM.arm("cavia"), 0).batch(0)
    assert isinstance(network, Context)
    for row in range(S.tasks):
        phi = torch.zeros(S.context, requires_grad=True)
        answers = concatenated(network, tasks.support_x[row], phi)
        loss = (answers - tasks.support_y[row]).square().mean()
        (gradient,) = torch.autograd.grad(loss, phi)
        expected = concatenated(network, tasks.query_x[row], -S.rate * gradient)
        torch.testing.assert_close(network(tasks)[row], expected)


def test_what_each_arm_fits() -> None:
    sizes = {"cavia": 5, "embedding": 2, "film": 4 * S.width, "first_order": 5, "cavia_wide": 5}
    tasks = data(S, SYSTEM.arm("cavia"), 0).batch(0)
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


def test_each_arm_has_the_rate_of_what_it_fits_and_its_outer_gradient_is_clipped() -> None:
    assert len({S.rate, S.film_rate, S.maml_rate}) == 3
    for arm in SYSTEM.arms:
        kind = arm.name.partition("_")[0]
        rates = {"film": S.film_rate, "maml": S.maml_rate, "unadapted": S.maml_rate}
        network = made(arm.name)
        assert network.learning_rate == rates.get(kind, S.rate)
        learner = stepper(network, S, arm).learner
        assert (learner.clip, learner.schedule(S.steps)) == (10.0, pytest.approx(0))


def test_waves_are_measured_that_no_run_is_trained_on() -> None:
    waves = held_out(S)
    assert waves.query_x.shape == (S.held_out, 100, 1)
    wanted = SineSource(S.held_out, S.shots, 100, split="test").batch(0)
    assert torch.equal(waves.amplitude, wanted.amplitude)
    seen = SineSource(S.held_out, S.shots, 100).batch(0)
    assert not (waves.amplitude[:, None] == seen.amplitude).any()


def test_the_control_is_given_the_points_of_another() -> None:
    plain, control = (data(S, SYSTEM.arm(name), 3).batch(1) for name in ("cavia", "shuffled"))
    assert torch.equal(plain.query_y, control.query_y)
    assert torch.equal(plain.support_y.roll(1, 0), control.support_y)


def test_a_few_seconds_teach_it_waves_but_not_the_control() -> None:
    s = replace(S, steps=250, tasks=25, held_out=200)
    found = {}
    for name in ("cavia", "shuffled"):
        arm = SYSTEM.arm(name)
        trained = stepper(made(name, s), s, arm)
        source = data(s, arm, 0)
        for index in range(s.steps):
            trained.step(source.batch(index))
        found[name] = evaluate(trained, s, arm).values
    assert found["cavia"]["left"] < 0.5
    assert found["cavia"]["longer"] < found["cavia"]["error"]
    assert found["cavia"]["swapped"] > found["cavia"]["before"]
    assert found["cavia"]["plane"] > 0.6
    assert math.isclose(found["shuffled"]["left"], 1, abs_tol=0.05)
    assert found["shuffled"]["plane"] < 0.1


def test_the_embedding_is_drawn() -> None:
    arm = SYSTEM.arm("embedding")
    assert SYSTEM.draw is not None
    picture = SYSTEM.draw(stepper(made("embedding"), S, arm), S, arm)
    assert picture.mode == "RGB"
    assert len(picture.getcolors(1 << 20)) > 50


def test_waves_are_drawn_from_left_to_right(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = pytest.importorskip("matplotlib.axes").Axes
    lines, plot = [], axes.plot

    def recorded(self: object, x: Tensor, y: Tensor, look: str) -> object:
        lines.append((x, y, look))
        return plot(self, x, y, look)

    monkeypatch.setattr(axes, "plot", recorded)
    arm, waves = SYSTEM.arm("cavia"), held_out(S)
    assert SYSTEM.draw is not None
    network = made("cavia")
    SYSTEM.draw(stepper(network, S, arm), S, arm)
    answers = network(waves).detach()
    assert [look for *_, look in lines] == ["k:", "-", "k^"] * 3
    for row in range(3):
        (x, truth, _), (same, drawn, _), (given_x, given_y, _) = lines[3 * row : 3 * row + 3]
        assert x.tolist() == same.tolist() == sorted(waves.query_x[row, :, 0].tolist())
        torch.testing.assert_close(truth, waves.amplitude[row] * torch.sin(x - waves.phase[row]))
        places = [waves.query_x[row, :, 0].tolist().index(place) for place in x.tolist()]
        torch.testing.assert_close(drawn, answers[row, places, 0])
        assert torch.equal(given_x, waves.support_x[row])
        assert torch.equal(given_y, waves.support_y[row])
