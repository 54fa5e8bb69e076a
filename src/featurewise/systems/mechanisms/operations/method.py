"""Method of the operations: one perceptron for each task, conditioned by each operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural
from featurewise.core import Operation
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small import TASKS, Questions, Tasks

OPERATIONS: Mapping[str, Operation] = {
    "bias": fw.Shift(),
    "scale": fw.Scale(),
    "gate": fw.Gate(),
    "affine": fw.Affine(),
}
"""The operation of each name in `Config.operation`; "affine" is FiLM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One perceptron for each task, and their training.

    Attributes:
        operation: by which z modulates the first layer, a key of `OPERATIONS`; "none"
            for not.
        reads: what the first layer reads: "inputs" x, or "condition" z.
        first_bias: whether h has a bias of its own, h = W x + c.
        nonlinear_layers: layers between the modulation and the last layer.
        shuffled_condition: whether every sample has the z of another one, as a control.
        features: of x and of z.
        width: units per layer.
        width_factor: multiplies ``width``.
        batch_size: questions of each task per batch.
        learning_rate: of Adam; it rises for a twentieth of the steps, then falls along a
            cosine.
        test_questions: questions of each task that accuracy is measured on.
        split: of these questions, "validation" or "test".
    """

    FORMER_NAMES: ClassVar = {
        "rows": "batch_size",
        "rate": "learning_rate",
        "held_out": "test_questions",
    }

    operation: Literal["bias", "scale", "gate", "affine", "none"] = "affine"
    reads: Literal["inputs", "condition"] = "inputs"
    first_bias: bool = False
    nonlinear_layers: Natural = 1
    shuffled_condition: bool = False
    features: int = 8
    width: int = 24
    width_factor: int = 1
    batch_size: int = 256
    learning_rate: float = 0.01
    test_questions: int = 4096
    split: Literal["validation", "test"] = "test"


class Perceptron(nn.Module):
    """A linear layer, which is modulated; nonlinear layers; a linear layer.

    Args:
        config: of all of it.
        answers: logits per question.
    """

    def __init__(self, config: Config, answers: int) -> None:
        super().__init__()
        width = config.width * config.width_factor
        self.reads, self.conditioned = config.reads, config.operation != "none"
        layers: list[nn.Module] = [nn.Linear(config.features, width, config.first_bias)]
        for _ in range(config.nonlinear_layers):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.net: nn.Module = nn.Sequential(*layers, nn.Linear(width, answers))
        if self.conditioned:
            operation, generator = (
                OPERATIONS[config.operation],
                fw.Linear(config.features),
            )
            self.net = fw.condition(
                self.net, at="0", operation=operation, generator=generator
            )

    def forward(self, questions: Questions) -> Float[Tensor, "B A"]:
        """A logit for each answer."""
        condition = {"condition": questions.condition} if self.conditioned else {}
        logits: Tensor = self.net(getattr(questions, self.reads), **condition)
        return logits


class OnePerTask(nn.ModuleDict):
    """A perceptron for each task, so that tasks do not compete for units."""

    def forward(self, batch: Tasks) -> Float[Tensor, "B A"]:
        """The logits of all tasks, side by side in the order of `TASKS`."""
        return torch.cat([self[task](getattr(batch, task)) for task in TASKS], 1)


def build(config: Config) -> OnePerTask:
    """The perceptrons; parity has one answer, the other tasks one per feature."""
    answers = {task: 1 if task == "parity" else config.features for task in TASKS}
    return OnePerTask(
        {task: Perceptron(config, count) for task, count in answers.items()}
    )


def by_task(logits: Tensor, batch: Tasks) -> dict[str, tuple[Tensor, Tensor]]:
    """Logits and labels of each task."""
    labels = [getattr(batch, task).labels for task in TASKS]
    parts = torch.split(logits, [each.shape[1] for each in labels], 1)
    return dict(zip(TASKS, zip(parts, labels, strict=True), strict=True))


def objective(network: nn.Module, batch: Tasks) -> tuple[Tensor, Metrics]:
    """The loss, which is the sum of the cross-entropies of the tasks; and each of them."""
    losses = {
        task: F.binary_cross_entropy_with_logits(logits.float(), labels.float())
        for task, (logits, labels) in by_task(network(batch), batch).items()
    }
    return reduce(add, losses.values()), losses


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a warm-up and a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    schedule = cosine(config.steps, warmup=config.steps // 20)
    return Supervised(network, objective, optimizer, schedule=schedule)
