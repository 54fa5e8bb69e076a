"""Method of CAVIA on sine waves: a context that is adapted in a few steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural
from featurewise.study import system
from featurewise.training.inner import Context, Weights, linear_without_bias
from featurewise.training.optim import cosine
from featurewise.training.steppers import Episodic, Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network with an inner loop, and its training.

    Attributes:
        adapted: what the inner loop adapts: "context"; "film", gamma and beta of both
            hidden layers; or "weights", all of them.
        inner_steps: steps of the inner loop; 0 for no adaptation.
        second_order: whether the outer gradient passes through the inner gradient.
        shuffled_support: whether each task is given the support points of another.
        width: units of both hidden layers.
        wide: units in place of ``width`` where ``is_wide``.
        is_wide: whether the network is the wide one.
        context: numbers in phi.
        tasks: waves per batch.
        shots: support points, and query points, of each wave.
        context_learning_rate: of the inner loop on the context.
        film_learning_rate: of the inner loop on gamma and beta.
        weights_learning_rate: of the inner loop on all weights.
        learning_rate: of Adam in the outer loop; it falls along a cosine.
        test_tasks: waves that are evaluated on.
    """

    FORMER_NAMES: ClassVar = {
        "rate": "context_learning_rate",
        "film_rate": "film_learning_rate",
        "maml_rate": "weights_learning_rate",
        "held_out": "test_tasks",
    }

    adapted: Literal["context", "film", "weights"] = "context"
    inner_steps: Natural = 1
    second_order: bool = True
    shuffled_support: bool = False
    width: int = 40
    wide: int = 160
    is_wide: bool = False
    context: int = 5
    tasks: int = 25
    shots: int = 10
    context_learning_rate: float = 1.0
    film_learning_rate: float = 0.1
    weights_learning_rate: float = 0.03
    learning_rate: float = 3e-3
    test_tasks: int = 1000


def build(config: Config) -> nn.Module:
    """The perceptron in its inner loop."""
    width = config.wide if config.is_wide else config.width
    hidden = [nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    net = nn.Sequential(*hidden, nn.Linear(width, 1))
    steps = config.inner_steps
    if config.adapted == "weights":
        return Weights(net, steps=steps, learning_rate=config.weights_learning_rate)
    if config.adapted == "film":  # the inner loop adapts the task representation itself
        free = fw.condition(net, at=("0", "2"), axis=-1, generator=nn.Identity())
        return Context(
            free, free.layout.size, steps=steps, learning_rate=config.film_learning_rate
        )
    generator = linear_without_bias(config.context)
    shifted = fw.condition(
        net, at="0", operation=fw.Shift(), axis=-1, generator=generator
    )
    return Context(
        shifted,
        config.context,
        steps=steps,
        learning_rate=config.context_learning_rate,
        second_order=config.second_order,
    )


def objective(network: nn.Module, tasks: Any) -> tuple[Tensor, Metrics]:
    """Eq. 4: the error at the query points, after the inner loop."""
    return (network(tasks) - tasks.query_y).square().mean(), {}


def stepper(network: nn.Module, config: Config) -> Episodic:
    """Adam on the weights that tasks share."""
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Episodic(network, objective, adam, schedule=cosine(config.steps), clip=10.0)
