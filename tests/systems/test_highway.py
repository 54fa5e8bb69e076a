"""Highway layers against the equation, lesions, gates, and the control that sees nothing."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from PIL import Image
from torch import nn

from featurewise.analysis import dependence
from featurewise.study.figures import bars
from featurewise.study.results import Proportion
from featurewise.systems.mechanisms.highway import SYSTEM, Config, experiment
from featurewise.systems.mechanisms.highway.experiment import lesion_costs
from featurewise.systems.mechanisms.highway.method import HighwayLayer, HighwayNetwork
from featurewise.training.randomness import seed_everything
from featurewise.worlds.small import Digits, DigitSource, digits

TINY = SYSTEM.preset("tiny")
BATCH = DigitSource(0, 12, "test").batch(0)


def built(arm: str, preset: str) -> HighwayNetwork:
    return cast(HighwayNetwork, SYSTEM.build(SYSTEM.config(preset, arm)))


def deep(arm: str) -> HighwayNetwork:
    """A network of double precision whose gates do read their input."""
    seed_everything(0)
    network = built(arm, "tiny").double()
    for name, parameter in network.named_parameters():
        if "generator" in name:
            nn.init.normal_(parameter, std=0.3)
    return network


def in_double(batch: Digits = BATCH) -> Digits:
    return Digits(batch.images.double(), batch.labels)


def row(linear: nn.Module, x: list[float]) -> list[float]:
    weight, bias = (p.tolist() for p in (linear.weight, linear.bias))
    return [
        sum(w * v for w, v in zip(ws, x, strict=True)) + b
        for ws, b in zip(weight, bias, strict=True)
    ]


def paper(layer: HighwayLayer, x: list[float]) -> list[float]:
    """Eq. 3, feature by feature."""
    h = [math.tanh(v) for v in row(layer.transform[0], x)]
    generator = layer.gate.generator
    t = generator.vector.tolist() if layer.constant else row(generator.head, x)
    t = [1 / (1 + math.exp(-v)) for v in t]
    return [a * b + c * (1 - b) for a, b, c in zip(h, t, x, strict=True)]


@pytest.mark.parametrize("arm", ["highway_50", "constant_50", "plain_20"])
def test_a_network_is_the_equation_of_the_paper(arm: str) -> None:
    network = deep(arm)
    found = network(in_double())
    assert len(network.layers) == SYSTEM.arm(arm).changes.get("depth", 50) // TINY.depth_divisor - 1
    for image, logits in zip(in_double().images.flatten(1).tolist(), found, strict=True):
        x = [math.tanh(v) for v in row(network.first[0], image)]
        for layer in network.layers:
            if isinstance(layer, HighwayLayer):
                x = paper(layer, x)
            else:
                x = [math.tanh(v) for v in row(layer[0], x)]
        expected = torch.tensor(row(network.last, x), dtype=torch.float64)
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_depth_and_the_start_of_the_gates(arm: str) -> None:
    network = built(arm, "small")
    depth = int(arm.partition("_")[2])
    assert len(network.layers) == depth - 1
    start = -1.0 if depth == 10 else -3.0
    for gate in network.gates(BATCH):
        torch.testing.assert_close(gate, torch.full_like(gate, 1 / (1 + math.exp(-start))))
    if arm == "constant_50":
        vectors = [layer.gate.generator.vector for layer in network.layers]
        assert (torch.stack(vectors) == -3.0).all()


def test_plain_layers_have_as_many_parameters() -> None:
    def a_layer(arm: str) -> int:
        layer = built(arm, "small").layers[0]
        return sum(p.numel() for p in layer.parameters())

    assert abs(a_layer("plain_50") / a_layer("highway_50") - 1) < 0.01


def without_gate(layer: nn.Module) -> None:
    generator = layer.gate.generator
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        generator.head.bias.fill_(-math.inf)


def test_a_lesion_is_a_gate_that_is_zero() -> None:
    for index in range(3):
        network = deep("highway_50")
        cut = network(in_double(), skip_layer=index)
        assert not torch.allclose(cut, network(in_double()))
        without_gate(network.layers[index])
        torch.testing.assert_close(cut, network(in_double()))


def test_the_cost_of_lesions_against_a_loop() -> None:
    network, batch = deep("highway_50"), DigitSource(0, 60, "test").batch(0)
    batch = in_double(Digits(batch.images, network(in_double(batch)).argmax(1)))  # all are right
    costs = lesion_costs(network, batch)
    assert len(costs) == len(network.layers)
    for index, cost in enumerate(costs):
        wrong = sum(
            int(network(Digits(image[None], label[None]), skip_layer=index).argmax()) != int(label)
            for image, label in zip(batch.images, batch.labels, strict=True)
        )
        assert cost == pytest.approx(100 * wrong / 60)
    assert max(costs) > 0


def test_gates_read_their_input_or_the_mean_of_all_inputs() -> None:
    network = deep("highway_50")
    x = network.first(in_double().images.flatten(1))
    averaged = x
    for layer, gate in zip(network.layers, network.gates(in_double()), strict=True):
        h, head = layer.transform[0], layer.gate.generator.head
        torch.testing.assert_close(gate, head(x).sigmoid())
        x = x + gate * (h(x).tanh() - x)
        mean = head(averaged.mean(0)).sigmoid()
        averaged = averaged + mean * (h(averaged).tanh() - averaged)
    torch.testing.assert_close(network.last(x), network(in_double()))
    torch.testing.assert_close(network.last(averaged), network(in_double(), mean_gates=True))


def test_the_control_has_one_gate_for_all_inputs_and_learns_it() -> None:
    network = deep("constant_50").float()
    layer = network.layers[0]
    x = torch.randn(5, 50, requires_grad=True)
    change = layer.transform(x) - x
    ratio = (layer(x) - x) / change
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-4)
    assert not list(network.gates(BATCH))
    network(BATCH).sum().backward()
    assert all(each.gate.generator.vector.grad.abs().sum() > 0 for each in network.layers)


def test_what_is_measured_of_a_trained_network() -> None:
    seed_everything(0)
    config = SYSTEM.config("tiny", "highway_10")
    stepper = SYSTEM.stepper(SYSTEM.build(config), config)
    measured = SYSTEM.evaluate(stepper, config)
    assert measured.values["over inputs"] == 0.0  # W is zero at the beginning
    assert measured.values["mean-gate cost"] == 0.0
    assert measured.values["training loss"] == pytest.approx(math.log(10), abs=0.5)
    assert 0 <= measured.values["spared layers"] <= 1


@torch.no_grad()
def test_what_is_measured_of_gates_that_read_their_input() -> None:
    config, network = SYSTEM.config("tiny", "highway_50"), deep("highway_50").float().eval()
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, config), config)
    seen, test = digits("train"), digits("test")

    def correct(**how: int) -> int:
        return int((network(test, **how).argmax(1) == test.labels).sum())

    points = [
        100 * (correct() - correct(skip_layer=index)) / 277 for index in range(len(network.layers))
    ]
    log_probabilities = network(seen).log_softmax(1)[torch.arange(len(seen.labels)), seen.labels]
    share = dependence(torch.cat(list(network.gates(test)), 1), test.labels)
    spared = [cost for cost in points if cost < 1]
    assert 0 < len(spared) < len(points)
    assert measured.accuracy == Proportion(correct(), 277)
    assert measured.values == pytest.approx(
        {
            "training loss": -float(log_probabilities.mean()),
            "spared layers": len(spared) / len(points),
            "mean-gate cost": 100 * (correct() - correct(mean_gates=True)) / 277,
            "over inputs": share.over_samples,
            "over classes": share.over_classes,
        },
        rel=1e-5,
    )
    assert measured.values["mean-gate cost"] != 0
    assert share.over_samples != pytest.approx(share.over_classes, rel=0.01)


@pytest.mark.parametrize(
    ("arm", "learning_rate"),
    [
        ("highway_100", 1.0),
        ("highway_50", 1.0),
        ("highway_10", 1.0),
        ("constant_50", 1.0),
        ("plain_10", 0.03),
        ("plain_20", 0.01),
        ("plain_50", 0.003),
        ("plain_100", 0.0003),
    ],
)
def test_each_arm_has_its_learning_rate(arm: str, learning_rate: float) -> None:
    config: Config = SYSTEM.config("tiny", arm)
    stepper = SYSTEM.stepper(SYSTEM.build(config), config)
    (learner,) = stepper.learners
    (group,) = learner.optimizer.param_groups
    assert (group["initial_lr"], group["momentum"]) == (learning_rate, 0.9)
    assert learner.schedule(TINY.steps) == pytest.approx(0)
    assert SYSTEM.data(config, 3) == DigitSource(3, TINY.batch_size, "train")


def test_the_figure_has_a_bar_for_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SYSTEM.config("tiny", "highway_50")
    network = deep("highway_50").float()
    plotted: list[list[float]] = []

    def seen(heights: list[float], across: str, up: str, first: int) -> Image.Image:
        plotted.append(heights)
        assert first == 2
        return bars(heights, across, up, first)

    monkeypatch.setattr(experiment, "bars", seen)
    assert SYSTEM.draw is not None
    SYSTEM.draw(SYSTEM.stepper(network, config), config)
    costs = lesion_costs(network, DigitSource(0, 277, "test").batch(0))
    assert plotted == [costs]
    assert max(costs) > 1
