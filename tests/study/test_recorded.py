"""What is recorded of networks whose conditions are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import parameter_quantiles
from featurewise.cli import discovery
from featurewise.study.histories import logged_quantiles, observed_quantiles
from featurewise.study.recorded import recorded
from featurewise.study.system import System
from featurewise.training.errors import ExperimentError


@dataclass
class Batch:
    """Images, their classes, and other things that are no labels."""

    images: Tensor
    classes: Tensor
    weights: Tensor
    extra: Tensor | None = None


class Data:
    """Batches of ten images of three classes."""

    def batch(self, index: int) -> Batch:
        rng = torch.Generator().manual_seed(index)
        classes = torch.randint(3, (10,), generator=rng)
        extra = torch.arange(10) if index else None  # the first batch lacks it
        return Batch(torch.randn(10, 2, 5, 5, generator=rng), classes, torch.rand(10), extra)


def system() -> System[Any]:
    """A system with these batches."""
    return replace(discovery.load("operations"), data=lambda config, seed: Data())


class Network(nn.Module):
    """A layer that is conditioned on the class; ``twice``: once more on the null class after it."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.layer = fw.condition(nn.Sequential(nn.Conv2d(2, 4, 3)), at="0", generator=fw.Linear(3))
        nn.init.normal_(self.layer.generator.head.weight)
        self.twice = twice

    def forward(self, batch: Batch) -> Tensor:
        z = nn.functional.one_hot(batch.classes, 3).float()
        out: Tensor = self.layer(batch.images, condition=z)
        if self.twice:
            out = out + self.layer(batch.images, condition=torch.zeros_like(z))
        return out


@pytest.mark.parametrize("twice", [False, True])
def test_conditions_of_batches_are_recorded_with_their_labels(twice: bool) -> None:
    network = Network(twice).eval()
    found = recorded(system(), network, system().config("tiny", "affine"), conditions=25)
    classes = torch.cat([Data().batch(index).classes for index in range(3)])[:25]
    expected = network.layer.represent(nn.functional.one_hot(classes, 3).float())
    assert torch.equal(found.task.flat, expected.flat)
    assert found.labels == {"condition": classes.tolist(), "classes": classes.tolist()}
    assert found.title == system().prose.title and "25 conditions" in found.data


def test_networks_by_name_are_each_run() -> None:
    both = nn.ModuleDict({"other": nn.Identity(), "conditioned": Network()}).eval()
    assert (
        len(recorded(system(), both, system().config("tiny", "affine"), conditions=10).task) == 10
    )


def test_what_has_nothing_to_explore_says_so() -> None:
    with pytest.raises(ExperimentError, match="no part of this network is conditioned"):
        recorded(system(), nn.Linear(1, 1), system().config("tiny", "affine"))

    class Unused(Network):
        def forward(self, batch: Batch) -> Tensor:
            return batch.images

    with pytest.raises(ExperimentError, match="does not use its condition"):
        recorded(system(), Unused(), system().config("tiny", "affine"))


def test_parameters_over_training_are_logged_and_read_back() -> None:
    """Of the first network that is conditioned; its mode stays."""
    network = Network().train()
    batch = Data().batch(0)
    logged = observed_quantiles([nn.Linear(2, 2), network], batch)
    assert network.training
    records = [{"step": 8, "kind": "parameters", **logged}, {"step": 9, "kind": "train", "loss": 1}]
    conditions = nn.functional.one_hot(batch.classes, 3).float()
    wanted = parameter_quantiles(network.layer.represent(conditions))
    assert logged_quantiles(records) == {8: wanted}
    assert observed_quantiles([nn.Linear(2, 2)], batch) == {}
    assert logged_quantiles(records[1:]) == {}
