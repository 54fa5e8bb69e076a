"""Bias, scale, gate, affine: the hosts against loops, and controls that really control."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from featurewise.study.system import Arm
from featurewise.systems.mechanisms.operations import SYSTEM, Host, OneForEach, draw, objective
from featurewise.training.randomness import seed_everything
from featurewise.worlds.small import Questions, TaskSource

SMALL = SYSTEM.preset("small")
Vector = list[float]


def host(arm: str, answers: int = 8) -> Host:
    """A host of double precision whose generator is no longer at the identity."""
    seed_everything(0)
    made = Host(SMALL, SYSTEM.arm(arm), answers).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.4)
    return made


def questions(rows: int = 6) -> Questions:
    asked = TaskSource(0, rows).batch(0).match
    return replace(asked, inputs=asked.inputs.double(), condition=asked.condition.double())


def linear(weights: dict[str, Tensor], name: str, x: Vector) -> Vector:
    weight, bias = weights[f"{name}.weight"].tolist(), weights[f"{name}.bias"].tolist()
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias)]  # noqa: B905


MODULATION = {
    "bias": lambda h, p: [v + b for v, b in zip(h, p, strict=True)],
    "scale": lambda h, p: [(1 + g) * v for v, g in zip(h, p, strict=True)],
    "gate": lambda h, p: [2 / (1 + math.exp(-g)) * v for v, g in zip(h, p, strict=True)],
    "affine": lambda h, p: [
        (1 + g) * v + b for v, g, b in zip(h, p[: len(h)], p[len(h) :], strict=True)
    ],
}


@pytest.mark.parametrize(
    "arm", ["bias", "scale", "gate", "affine", "bias_wide", "affine_0", "bias_0", "affine_2"]
)
def test_a_host_is_its_equation(arm: str) -> None:
    kind, _, form = arm.partition("_")
    network, asked = host(arm), questions()
    weights = {key: value.detach() for key, value in network.net.state_dict().items()}
    found = network(asked)
    depth = int(form) if form.isdigit() else 1
    for row, (x, z) in enumerate(zip(asked.inputs.tolist(), asked.condition.tolist(), strict=True)):
        h = linear(weights, "backbone.0", x)
        assert len(h) == (64 if form == "wide" else 16)
        h = MODULATION[kind](h, linear(weights, "generator.head", z))
        for layer in range(depth):
            h = [max(v, 0.0) for v in linear(weights, f"backbone.{1 + 2 * layer}", h)]
        expected = linear(weights, f"backbone.{1 + 2 * depth}", h)
        torch.testing.assert_close(found[row], torch.tensor(expected, dtype=torch.float64))


def test_without_a_nonlinear_layer_the_answer_is_linear_in_x() -> None:
    asked = questions()
    zero, opposite = replace(asked, inputs=0 * asked.inputs), replace(asked, inputs=-asked.inputs)
    for arm, linear_in_x in (("affine_0", True), ("bias_0", True), ("affine", False)):
        network = host(arm)
        odd = network(asked) + network(opposite) - 2 * network(zero)
        assert torch.allclose(odd, torch.zeros_like(odd), atol=1e-9) is linear_in_x


def test_the_exact_solution_of_match_is_found_right_by_evaluate() -> None:
    """γ = z and no nonlinear layer: one product a feature answers everything."""
    s, arm = replace(SMALL, width=8, held_out=512), SYSTEM.arm("affine_0")
    network = SYSTEM.build(s, arm)
    net = network.get_submodule("match").net
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for name in ("backbone.0", "backbone.1"):
            net.get_submodule(name).weight.copy_(torch.eye(8))
        net.generator.head.weight[:8].copy_(torch.eye(8))
        net.generator.head.bias[:8].fill_(-1.0)
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, s, arm), s, arm)
    assert measured.number("match") == 1.0
    total = sum(each.correct for each in measured.by_type.values())
    assert measured.accuracy is not None
    assert measured.accuracy.correct == total
    assert measured.accuracy.total == 512 * (8 + 8 + 1)


@pytest.mark.parametrize(("arm", "deaf_to"), [("input", "condition"), ("condition", "inputs")])
def test_baselines_are_deaf_to_the_other_side(arm: str, deaf_to: str) -> None:
    network, asked = host(arm), questions()
    other = "inputs" if deaf_to == "condition" else "condition"
    moved = replace(asked, **{deaf_to: getattr(asked, deaf_to).flip(0)})
    assert torch.equal(network(asked), network(moved))
    assert not torch.equal(network(asked), network(replace(asked, **{other: asked.inputs.flip(0)})))


def test_only_the_control_is_dealt_conditions_of_others() -> None:
    plain, dealt = (SYSTEM.data(SMALL, SYSTEM.arm(a), 3).batch(5) for a in ("affine", "shuffled"))
    for task in ("match", "detect", "parity"):
        one, other = getattr(plain, task), getattr(dealt, task)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.condition, other.condition.roll(-1, 0))
        assert not torch.equal(one.condition, other.condition)


def test_no_seed_trains_on_the_questions_that_are_measured() -> None:
    s = replace(SMALL, rows=64, held_out=64)  # of one size, or equal seeds would not show
    measured = TaskSource(0, s.held_out).batch(0).match.inputs
    for seed in range(3):
        for index in range(3):
            x = SYSTEM.data(s, SYSTEM.arm("affine"), seed).batch(index).match.inputs
            assert not torch.isclose(x, measured).all(1).any()


def count(arm: str) -> int:
    return sum(p.numel() for p in SYSTEM.build(SMALL, SYSTEM.arm(arm)).parameters())


def test_sizes_are_equal_but_for_the_generator_of_film() -> None:
    assert count("bias") == count("scale") == count("gate")
    assert count("affine") == count("shuffled")
    assert count("affine") - count("bias") == 3 * 16 * (8 + 1)
    assert count("input") == count("condition") == count("bias") - 3 * 16 * (8 + 1)


def test_the_loss_is_the_sum_over_tasks_of_a_loop() -> None:
    network = SYSTEM.build(SMALL, SYSTEM.arm("affine"))
    batch = TaskSource(1, 32).batch(0)
    loss, parts = objective(network, batch)
    for task in ("match", "detect", "parity"):
        asked = getattr(batch, task)
        logits = network.get_submodule(task)(asked).flatten().tolist()
        losses = [
            math.log1p(math.exp(-v if yes else v))
            for v, yes in zip(logits, asked.labels.flatten().tolist(), strict=True)
        ]
        assert parts[task].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-6)


def test_the_picture_shows_what_each_task_makes_of_the_plane() -> None:
    class Truth(nn.Module):
        def __init__(self, task: str) -> None:
            super().__init__()
            self.task, self.weight = task, nn.Parameter(torch.zeros(1))

        def forward(self, asked: Questions) -> Tensor:
            x, z = asked.inputs, asked.condition
            if self.task == "parity":
                return 100 * ((x * z).sum(1, keepdim=True).square() - x.square().sum(1, True))
            return 100 * (x * z if self.task == "match" else torch.maximum(x, z))

    truth = OneForEach({task: Truth(task) for task in ("match", "detect", "parity")})
    arm = Arm("affine", "")
    picture = draw(SYSTEM.stepper(truth, SMALL, arm), SMALL, arm)
    quarters = [
        [
            picture.getpixel((288 * task + across, up)) > 127
            for up in (72, 216)
            for across in (72, 216)
        ]
        for task in range(3)
    ]
    same = [False, True, True, False]  # upper left, upper right, lower left, lower right
    assert quarters == [same, [True, True, False, True], same]
