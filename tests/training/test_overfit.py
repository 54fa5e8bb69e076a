"""OverfitMonitor warns once, if the gap grows and the generator is large."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError
from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, condition
from featurewise.training import ExperimentError, Intervals, OverfitMonitor, OverfitWarning, fit
from featurewise.training.steppers import Supervised

KIND = (ArgumentTypeError, TypeCheckError)


def net(width: int = 4) -> Conditioned:
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))  # 41 parameters
    return condition(network, at="0", generator=Linear(width))


def feed(monitor: OverfitMonitor, gaps: list[float]) -> list[int]:
    """Indices of the evaluations that warned."""
    warned = []
    for i, gap in enumerate(gaps):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = monitor.update(train=1.0, validation=1.0 + gap)
        assert result is bool(caught)
        assert all(issubclass(w.category, OverfitWarning) for w in caught)
        warned += [i] * len(caught)
    return warned


@pytest.mark.parametrize(
    ("gaps", "patience", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 3, [3]),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 5, [5]),
        ([0.0, 0.1, 0.2, 0.3], 4, []),
        ([0.0, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5], 3, [6]),
        ([0.5, 0.1, 0.2, 0.3, 0.4], 3, []),  # does not exceed the first gap
        ([-0.5, -0.4, -0.3, -0.2, -0.1], 3, []),  # validation is still better
        ([0.3, 0.2, 0.1, 0.0], 1, []),
        ([0.1, 0.1], 1, []),
        ([0.1, 0.2], 1, [1]),
    ],
)
def test_when_it_warns(gaps: list[float], patience: int, expected: list[int]) -> None:
    monitor = OverfitMonitor(net(), patience=patience)
    assert feed(monitor, gaps) == expected
    assert monitor.gaps == pytest.approx(gaps)
    assert monitor.warned is bool(expected)


def test_accuracies() -> None:
    monitor = OverfitMonitor(net(), patience=2, higher_is_better=True)
    with pytest.warns(OverfitWarning):
        for train, validation in ((0.5, 0.5), (0.7, 0.6), (0.9, 0.6)):
            monitor.update(train=train, validation=validation)
    assert monitor.gaps == pytest.approx([0.0, 0.1, 0.3])


def test_no_warning_for_a_small_generator() -> None:
    gaps = [0.0, 0.1, 0.2, 0.3, 0.4]
    parameters = 4 * 16 + 16  # of the generator; the backbone has 41
    assert feed(OverfitMonitor(net(), large=parameters / 41), gaps) == [3]
    assert feed(OverfitMonitor(net(), large=parameters / 41 + 0.01), gaps) == []
    frozen = net()
    frozen.generator.requires_grad_(False)
    assert feed(OverfitMonitor(frozen), gaps) == []


def test_the_warning_contains_the_recommendations() -> None:
    monitor = OverfitMonitor(net(), patience=2, examples=7)
    with pytest.warns(OverfitWarning) as caught:
        for gap in (0.0, 0.25, 0.5):
            monitor.update(train=1.0, validation=1.0 + gap)
    text = str(caught[0].message)
    for words in (
        "grown over 2 evaluations (0 -> 0.25 -> 0.5)",
        "Simplify the generator",
        "80 trainable",
        "7 examples",
        "parameter_groups(net",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"net": nn.Linear(1, 1)}, KIND, "net"),
        ({"patience": 0}, ExperimentError, "patience"),
        ({"patience": 1.5}, (ExperimentError, TypeCheckError), "patience"),
        ({"patience": True}, ExperimentError, "patience"),
        ({"large": -0.1}, ExperimentError, "large"),
        ({"large": math.nan}, ExperimentError, "large"),
    ],
)
def test_wrong_settings(kwargs: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        OverfitMonitor(**{"net": net(), **kwargs})


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_wrong_metrics(name: str, value: float) -> None:
    with pytest.raises(ExperimentError, match=name):
        OverfitMonitor(net()).update(**{"train": 1.0, "validation": 1.0, name: value})


class Rows:
    """The same eight random examples in every batch."""

    def __init__(self) -> None:
        self.x, self.z, self.y = (torch.randn(8, n) for n in (3, 4, 1))

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.z, self.y


def test_as_a_reporter_of_fit(tmp_path: Path) -> None:
    """A network that memorises noise: the monitor warns once."""
    network, training, validation = net(32), Rows(), Rows()
    training.z, validation.z = torch.randn(8, 32), torch.randn(8, 32)

    def loss(net: Any, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, z, y = batch
        value = (net(x, condition=z) - y).square().mean()
        return value, {"loss": value}

    stepper = Supervised(network, loss, torch.optim.Adam(network.parameters(), 0.02))

    def evaluate(stepper: Any) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(loss(network, validation.batch(0))[0])}

    monitor = OverfitMonitor(network)
    with pytest.warns(OverfitWarning, match="Simplify") as caught:
        fit(
            tmp_path,
            stepper,
            training,
            steps=200,
            evaluate=evaluate,
            intervals=Intervals(log=10, evaluate=10),
            reporters=[monitor],
        )
    assert len(caught) == 1
    assert len(monitor.gaps) == 20
    OverfitMonitor(network).report(1, "evaluate", {"loss": 1.0})  # nothing to compare it with
    monitor.report(1, "train", {"accuracy": 1.0})
    assert len(monitor.gaps) == 20
