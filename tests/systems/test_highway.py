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
from featurewise.systems.mechanisms import highway
from featurewise.systems.mechanisms.highway import SYSTEM, Deep, HighwayLayer, lesions
from featurewise.training.randomness import seed_everything
from featurewise.worlds.small import Digits, DigitSource, digits

TINY, SMALL = SYSTEM.preset("tiny"), SYSTEM.preset("small")
BATCH = DigitSource(0, 12, "test").batch(0)


def deep(arm: str, settings: object = TINY) -> Deep:
    """A network of double precision whose gates do read their input."""
    seed_everything(0)
    network = cast(Deep, SYSTEM.build(settings, SYSTEM.arm(arm))).double()  # type: ignore[arg-type]
    for name, parameter in network.named_parameters():
        if "generator" in name:
            nn.init.normal_(parameter, std=0.3)
    return network


def doubled(batch: Digits = BATCH) -> Digits:
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


@pytest.mark.parametrize("arm", ["highway_30", "constant_30", "plain_30"])
def test_a_network_is_the_equation_of_the_paper(arm: str) -> None:
    network = deep(arm)
    found = network(doubled())
    assert len(network.layers) == 30 // TINY.shrink - 1
    for image, logits in zip(doubled().images.flatten(1).tolist(), found, strict=True):
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
    network = cast(Deep, SYSTEM.build(SMALL, SYSTEM.arm(arm)))
    depth = int(arm.partition("_")[2])
    assert len(network.layers) == depth - 1
    start = -1.0 if depth == 10 else -3.0
    for gate in network.gates(BATCH):
        torch.testing.assert_close(gate, torch.full_like(gate, 1 / (1 + math.exp(-start))))
    if arm == "constant_30":
        vectors = [layer.gate.generator.vector for layer in network.layers]
        assert (torch.stack(vectors) == -3.0).all()


def test_plain_layers_have_as_many_parameters() -> None:
    def a_layer(arm: str) -> int:
        layer = cast(Deep, SYSTEM.build(SMALL, SYSTEM.arm(arm))).layers[0]
        return sum(p.numel() for p in layer.parameters())

    assert abs(a_layer("plain_50") / a_layer("highway_50") - 1) < 0.01


def without_gate(layer: nn.Module) -> None:
    generator = layer.gate.generator
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        generator.head.bias.fill_(-math.inf)


def test_a_lesion_is_a_gate_that_is_zero() -> None:
    for place in range(3):
        network = deep("highway_30")
        cut = network(doubled(), lesion=place)
        assert not torch.allclose(cut, network(doubled()))
        without_gate(network.layers[place])
        torch.testing.assert_close(cut, network(doubled()))


def test_the_cost_of_lesions_against_a_loop() -> None:
    network, batch = deep("highway_30"), DigitSource(0, 60, "test").batch(0)
    batch = doubled(Digits(batch.images, network(doubled(batch)).argmax(1)))  # all are right
    costs = lesions(network, batch)
    assert len(costs) == len(network.layers)
    for place, cost in enumerate(costs):
        wrong = sum(
            int(network(Digits(image[None], label[None]), lesion=place).argmax()) != int(label)
            for image, label in zip(batch.images, batch.labels, strict=True)
        )
        assert cost == pytest.approx(100 * wrong / 60)
    assert max(costs) > 0


def test_gates_are_told_and_blind_gates_are_told_the_mean() -> None:
    network = deep("highway_30")
    x = network.first(doubled().images.flatten(1))
    blind = x
    for layer, gate in zip(network.layers, network.gates(doubled()), strict=True):
        h, head = layer.transform[0], layer.gate.generator.head
        torch.testing.assert_close(gate, head(x).sigmoid())
        x = x + gate * (h(x).tanh() - x)
        mean = head(blind.mean(0)).sigmoid()
        blind = blind + mean * (h(blind).tanh() - blind)
    torch.testing.assert_close(network.last(x), network(doubled()))
    torch.testing.assert_close(network.last(blind), network(doubled(), blind=True))


def test_the_control_has_one_gate_for_all_inputs_and_learns_it() -> None:
    network = deep("constant_30").float()
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
    arm = SYSTEM.arm("highway_10")
    stepper = SYSTEM.stepper(SYSTEM.build(TINY, arm), TINY, arm)
    measured = SYSTEM.evaluate(stepper, TINY, arm)
    assert measured.values["over inputs"] == 0.0  # W is zero at birth
    assert measured.values["blind cost"] == 0.0
    assert measured.values["training loss"] == pytest.approx(math.log(10), abs=0.5)
    assert 0 <= measured.values["spared layers"] <= 1


@torch.no_grad()
def test_what_is_measured_of_gates_that_read_their_input() -> None:
    arm, network = SYSTEM.arm("highway_30"), deep("highway_30").float().eval()
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, TINY, arm), TINY, arm)
    seen, test = digits("train"), digits("test")

    def told(**how: int) -> int:
        return int((network(test, **how).argmax(1) == test.labels).sum())

    points = [100 * (told() - told(lesion=place)) / 277 for place in range(len(network.layers))]
    chances = network(seen).log_softmax(1)[torch.arange(len(seen.labels)), seen.labels]
    share = dependence(torch.cat(list(network.gates(test)), 1), test.labels)
    spared = [cost for cost in points if cost < 1]
    assert 0 < len(spared) < len(points)
    assert measured.accuracy == Proportion(told(), 277)
    assert measured.values == pytest.approx(
        {
            "training loss": -float(chances.mean()),
            "spared layers": len(spared) / len(points),
            "blind cost": 100 * (told() - told(blind=True)) / 277,
            "over inputs": share.over_samples,
            "over classes": share.over_classes,
        },
        rel=1e-5,
    )
    assert measured.values["blind cost"] != 0
    assert share.over_samples != pytest.approx(share.over_classes, rel=0.01)


@pytest.mark.parametrize(
    ("arm", "rate"),
    [
        ("highway_50", 1.0),
        ("highway_10", 1.0),
        ("constant_30", 1.0),
        ("plain_10", 0.03),
        ("plain_30", 0.01),
        ("plain_50", 0.003),
    ],
)
def test_each_arm_has_its_rate_and_digits_to_train_on(arm: str, rate: float) -> None:
    stepper = SYSTEM.stepper(SYSTEM.build(TINY, SYSTEM.arm(arm)), TINY, SYSTEM.arm(arm))
    (learner,) = stepper.learners
    (group,) = learner.optimizer.param_groups
    assert (group["initial_lr"], group["momentum"]) == (rate, 0.9)
    assert learner.schedule(TINY.steps) == pytest.approx(0)
    assert SYSTEM.data(TINY, SYSTEM.arm(arm), 3) == DigitSource(3, TINY.rows, "train")


def test_the_picture_has_a_bar_for_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = SYSTEM.arm("highway_30")
    network = deep("highway_30").float()
    drawn: list[list[float]] = []

    def seen(heights: list[float], across: str, up: str, first: int) -> Image.Image:
        drawn.append(heights)
        assert first == 2
        return bars(heights, across, up, first)

    monkeypatch.setattr(highway, "bars", seen)
    assert SYSTEM.draw is not None
    SYSTEM.draw(SYSTEM.stepper(network, TINY, arm), TINY, arm)
    costs = lesions(network, DigitSource(0, 277, "test").batch(0))
    assert drawn == [costs]
    assert max(costs) > 1
