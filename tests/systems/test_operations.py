"""Bias, scale, gate, affine: perceptrons against loops, and what the controls change."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from featurewise.systems.mechanisms.operations import SYSTEM, Config
from featurewise.systems.mechanisms.operations.experiment import draw
from featurewise.systems.mechanisms.operations.method import OnePerTask, Perceptron, objective
from featurewise.training.randomness import seed_everything
from featurewise.worlds.small import TASKS, Questions, TaskSource

Vector = list[float]


def config(arm: str) -> Config:
    found: Config = SYSTEM.config("small", arm)
    return found


def perceptron(arm: str, answers: int = 8) -> Perceptron:
    """In double precision, its generator away from the identity."""
    seed_everything(0)
    network = Perceptron(config(arm), answers).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.4)
    return network


def match_questions(count: int = 6) -> Questions:
    """Of the task match, in double precision."""
    found = TaskSource(0, count).batch(0).match
    return replace(found, inputs=found.inputs.double(), condition=found.condition.double())


def linear(weights: dict[str, Tensor], name: str, x: Vector) -> Vector:
    weight = weights[f"{name}.weight"].tolist()
    bias = weights.get(f"{name}.bias", torch.zeros(len(weight))).tolist()
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
    "arm", ["bias", "scale", "gate", "affine", "bias_wide", "affine_0", "bias_0", "scale_constant"]
)
def test_a_perceptron_is_its_equation(arm: str) -> None:
    made, network, batch = config(arm), perceptron(arm), match_questions()
    weights = {key: value.detach() for key, value in network.net.state_dict().items()}
    found = network(batch)
    depth = 0 if arm in ("affine_0", "bias_0") else 1
    for row, (x, z) in enumerate(zip(batch.inputs.tolist(), batch.condition.tolist(), strict=True)):
        h = linear(weights, "backbone.0", x)
        assert len(h) == (4 if arm == "bias_wide" else 1) * made.width
        h = MODULATION[made.operation](h, linear(weights, "generator.head", z))
        for layer in range(depth):
            h = [max(v, 0.0) for v in linear(weights, f"backbone.{1 + 2 * layer}", h)]
        expected = linear(weights, f"backbone.{1 + 2 * depth}", h)
        torch.testing.assert_close(found[row], torch.tensor(expected, dtype=torch.float64))


def test_without_a_nonlinear_layer_the_answer_is_linear_in_x() -> None:
    batch = match_questions()
    zero, opposite = replace(batch, inputs=0 * batch.inputs), replace(batch, inputs=-batch.inputs)
    for arm, linear_in_x in (("affine_0", True), ("bias_0", True), ("affine", False)):
        network = perceptron(arm)
        odd = network(batch) + network(opposite) - 2 * network(zero)
        assert torch.allclose(odd, torch.zeros_like(odd), atol=1e-9) is linear_in_x


def test_evaluate_finds_the_exact_solution_of_match_right() -> None:
    """γ = z and no nonlinear layer: one product a feature answers everything."""
    exact = replace(config("affine_0"), width=8, test_questions=512)
    network = SYSTEM.build(exact)
    net = network.get_submodule("match").net
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        for name in ("backbone.0", "backbone.1"):
            net.get_submodule(name).weight.copy_(torch.eye(8))
        net.generator.head.weight[:8].copy_(torch.eye(8))
        net.generator.head.bias[:8].fill_(-1.0)
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, exact), exact)
    assert measured.number("match") == 1.0
    total = sum(each.correct for each in measured.by_type.values())
    assert measured.accuracy is not None
    assert measured.accuracy.correct == total
    assert measured.accuracy.total == 512 * (8 + 8 + 1 + 8)


@pytest.mark.parametrize(("arm", "ignored"), [("input", "condition"), ("condition", "inputs")])
def test_baselines_ignore_the_other_side(arm: str, ignored: str) -> None:
    network, batch = perceptron(arm), match_questions()
    read = "inputs" if ignored == "condition" else "condition"
    other = replace(batch, **{ignored: getattr(batch, ignored).flip(0)})
    assert torch.equal(network(batch), network(other))
    assert not torch.equal(network(batch), network(replace(batch, **{read: batch.inputs.flip(0)})))


def test_only_the_control_has_the_conditions_of_other_questions() -> None:
    plain, shuffled = (SYSTEM.data(config(arm), 3).batch(5) for arm in ("affine", "shuffled"))
    for task in TASKS:
        one, other = getattr(plain, task), getattr(shuffled, task)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.condition, other.condition.roll(-1, 0))
        assert not torch.equal(one.condition, other.condition)


def test_the_control_is_evaluated_with_the_conditions_of_other_questions() -> None:
    """A network that solves match is right half of the time with them."""

    class Exact(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, batch: Questions) -> Tensor:
            answers: Tensor = (batch.inputs * batch.condition)[:, : batch.labels.shape[1]]
            return answers

    found = {}
    for arm in ("affine", "shuffled"):
        network = OnePerTask({task: Exact() for task in TASKS})
        measured = SYSTEM.evaluate(SYSTEM.stepper(network, config(arm)), config(arm))
        found[arm] = measured.number("match")
    assert found["affine"] == 1
    assert found["shuffled"] == pytest.approx(0.5, abs=0.02)


def test_no_seed_trains_on_the_test_questions() -> None:
    small = replace(config("affine"), batch_size=64)
    tested = TaskSource(0, 64, split="test").batch(0).match.inputs
    for seed in range(3):
        for index in range(3):
            x = SYSTEM.data(small, seed).batch(index).match.inputs
            assert not torch.isclose(x, tested).all(1).any()


def count(arm: str) -> int:
    return sum(p.numel() for p in SYSTEM.build(config(arm)).parameters())


def test_sizes_are_equal_but_for_the_generator_of_film() -> None:
    width = config("affine").width
    assert count("bias") == count("scale") == count("gate")
    assert count("affine") == count("shuffled")
    assert count("affine") - count("bias") == 4 * width * (8 + 1)
    assert count("input") == count("condition") == count("bias") - 4 * width * (8 + 1)


def test_the_loss_is_the_sum_over_tasks_of_a_loop() -> None:
    network = SYSTEM.build(config("affine"))
    batch = TaskSource(1, 32).batch(0)
    loss, parts = objective(network, batch)
    for task in TASKS:
        questions = getattr(batch, task)
        logits = network.get_submodule(task)(questions).flatten().tolist()
        losses = [
            math.log1p(math.exp(-v if yes else v))
            for v, yes in zip(logits, questions.labels.flatten().tolist(), strict=True)
        ]
        assert parts[task].item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-6)


def test_the_figure_shows_the_answers_of_each_task_over_the_plane() -> None:
    class Truth(nn.Module):
        def __init__(self, task: str) -> None:
            super().__init__()
            self.task, self.weight = task, nn.Parameter(torch.zeros(1))

        def forward(self, batch: Questions) -> Tensor:
            x, z = batch.inputs, batch.condition
            if self.task == "parity":
                return 100 * ((x * z).sum(1, keepdim=True).square() - x.square().sum(1, True))
            truth = {"match": x * z, "detect": torch.maximum(x, z), "fallback": x}
            return 100 * truth[self.task]

    truth = OnePerTask({task: Truth(task) for task in TASKS})
    image = draw(SYSTEM.stepper(truth, config("affine")), config("affine"))
    quarters = [
        [
            image.getpixel((288 * task + across, up)) > 127
            for up in (72, 216)
            for across in (72, 216)
        ]
        for task in range(4)
    ]
    same = [False, True, True, False]  # upper left, upper right, lower left, lower right
    assert quarters == [same, [True, True, False, True], same, [False, True, False, True]]
