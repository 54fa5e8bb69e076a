import math

import pytest
import torch
from torch import nn

from featurewise.training.errors import ExperimentError
from featurewise.training.optim import WeightAverage, constant, cosine, linear, rewarmed


def test_constant():
    schedule = constant(warmup=4)
    assert [schedule(s) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert constant()(0) == 1


def test_cosine():
    schedule = cosine(110, warmup=10, floor=0.1)
    assert schedule(0) == pytest.approx(1 / 11)
    assert schedule(10) == 1
    assert schedule(60) == pytest.approx(0.55)
    assert schedule(35) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert schedule(110) == schedule(999) == pytest.approx(0.1)
    assert all(schedule(s) >= schedule(s + 1) for s in range(10, 120))
    with pytest.raises(ExperimentError, match="warmup"):
        cosine(10, warmup=10)


def test_average_equals_its_definition():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    average = WeightAverage(network, decay=0.5)
    expected = network.weight.detach().double()
    for n in range(1, 30):
        with torch.no_grad():
            network.weight.add_(torch.randn(2, 3))
        average.update(network)
        d = min(0.5, n / (n + 10))
        expected = d * expected + (1 - d) * network.weight.detach().double()
    own = network.weight.detach().clone()
    with average.applied(network):
        torch.testing.assert_close(network.weight.double(), expected)
        assert not torch.equal(network.weight, own)
    assert torch.equal(network.weight, own)


def test_average_of_low_precision_weights_is_kept_in_float32():
    network = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.zeros_(network.weight)
    average = WeightAverage(network, decay=0.999)
    nn.init.ones_(network.weight)
    for _ in range(20_000):
        average.update(network)
    with average.applied(network):
        assert network.weight.item() == 1.0  # in bfloat16 small updates would round to 0


def test_average_refuses_another_network():
    average = WeightAverage(nn.Linear(2, 2), 0.9)
    with pytest.raises(ExperimentError, match="network with other parameters"):
        average.load_state(WeightAverage(nn.Linear(2, 2, bias=False), 0.9).state())
    for decay in (1.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ExperimentError, match="0 or more and below 1"):
            WeightAverage(nn.Linear(1, 1), decay)


def test_an_average_without_decay_is_the_weights_themselves():
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.0)
    with torch.no_grad():
        network.weight.add_(1)
    average.update(network)
    other = nn.Linear(2, 2)
    average.copy_to(other)
    assert torch.equal(other.weight, network.weight)


def test_linear_is_constant_and_then_falls() -> None:
    factor = linear(100, warmup=9, start=0.5, floor=0.2)
    assert [factor(step) for step in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert [factor(step) for step in (75, 100, 500)] == pytest.approx([0.6, 0.2, 0.2])
    with pytest.raises(ExperimentError, match="start must be at least 0 and below 1"):
        linear(100, start=1.0)
    with pytest.raises(ExperimentError, match="warmup must be"):
        linear(100, warmup=100)


def test_a_rewarmed_schedule_ramps_after_each_start() -> None:
    factor = rewarmed(constant(), [10, 30], warmup=4)
    assert [factor(step) for step in (0, 9)] == [1.0, 1.0]
    assert [factor(step) for step in range(10, 16)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert [factor(step) for step in (30, 32, 40)] == pytest.approx([0.2, 0.6, 1.0])
    assert rewarmed(cosine(100), [50], 4)(75) == cosine(100)(75)
