"""One warning, when the gap grows and the generator is large; else none."""

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
from featurewise.training import Every, ExperimentError, OverfitMonitor, OverfitWarning, fit
from featurewise.training.steppers import Supervised

KIND = (ArgumentTypeError, TypeCheckError)


def net(width: int = 4) -> Conditioned:
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))  # 41 numbers
    return condition(network, at="0", generator=Linear(width))


def feed(watch: OverfitMonitor, gaps: list[float]) -> list[int]:
    """At which evaluations it warned."""
    said = []
    for i, gap in enumerate(gaps):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            told = watch.update(train=1.0, validation=1.0 + gap)
        assert told is bool(caught)
        assert all(issubclass(w.category, OverfitWarning) for w in caught)
        said += [i] * len(caught)
    return said


@pytest.mark.parametrize(
    ("gaps", "patience", "said"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 3, [3]),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 5, [5]),
        ([0.0, 0.1, 0.2, 0.3], 4, []),
        ([0.0, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5], 3, [6]),
        ([0.5, 0.1, 0.2, 0.3, 0.4], 3, []),  # back to where it was is no growth
        ([-0.5, -0.4, -0.3, -0.2, -0.1], 3, []),  # validation is still better
        ([0.3, 0.2, 0.1, 0.0], 1, []),
        ([0.1, 0.1], 1, []),
        ([0.1, 0.2], 1, [1]),
    ],
)
def test_when_it_speaks(gaps: list[float], patience: int, said: list[int]) -> None:
    watch = OverfitMonitor(net(), patience=patience)
    assert feed(watch, gaps) == said
    assert watch.gaps == pytest.approx(gaps)
    assert watch.warned is bool(said)


def test_accuracies() -> None:
    watch = OverfitMonitor(net(), patience=2, higher_is_better=True)
    with pytest.warns(OverfitWarning):
        for train, validation in ((0.5, 0.5), (0.7, 0.6), (0.9, 0.6)):
            watch.update(train=train, validation=validation)
    assert watch.gaps == pytest.approx([0.0, 0.1, 0.3])


def test_a_small_generator_is_left_alone() -> None:
    gaps = [0.0, 0.1, 0.2, 0.3, 0.4]
    parameters = 4 * 16 + 16  # of the generator, beside 41
    assert feed(OverfitMonitor(net(), large=parameters / 41), gaps) == [3]
    assert feed(OverfitMonitor(net(), large=parameters / 41 + 0.01), gaps) == []
    frozen = net()
    frozen.generator.requires_grad_(False)
    assert feed(OverfitMonitor(frozen), gaps) == []


def test_the_text_is_the_recipe() -> None:
    watch = OverfitMonitor(net(), patience=2, examples=7)
    with pytest.warns(OverfitWarning) as caught:
        for gap in (0.0, 0.25, 0.5):
            watch.update(train=1.0, validation=1.0 + gap)
    text = str(caught[0].message)
    for words in (
        "grown over 2 evaluations (0 -> 0.25 -> 0.5)",
        "Simplify the generator",
        "80 trained",
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
    """Eight examples of noise, over and over."""

    def __init__(self) -> None:
        self.x, self.z, self.y = (torch.randn(8, n) for n in (3, 4, 1))

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.z, self.y


def test_in_a_run_of_the_lab(tmp_path: Path) -> None:
    """Noise learned by heart: the watch is told by `fit` and speaks once."""
    network, seen, held = net(32), Rows(), Rows()
    seen.z, held.z = torch.randn(8, 32), torch.randn(8, 32)

    def loss(net: Any, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, z, y = batch
        value = (net(x, condition=z) - y).square().mean()
        return value, {"loss": value}

    stepper = Supervised(network, loss, torch.optim.Adam(network.parameters(), 0.02))

    def evaluate(stepper: Any) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float(loss(network, held.batch(0))[0])}

    watch = OverfitMonitor(network)
    with pytest.warns(OverfitWarning, match="Simplify") as caught:
        fit(
            tmp_path,
            stepper,
            seen,
            steps=200,
            evaluate=evaluate,
            every=Every(log=10, evaluate=10),
            reporters=[watch],
        )
    assert len(caught) == 1
    assert len(watch.gaps) == 20
    OverfitMonitor(network).report(1, "evaluate", {"loss": 1.0})  # nothing to compare it with
    watch.report(1, "train", {"accuracy": 1.0})
    assert len(watch.gaps) == 20
