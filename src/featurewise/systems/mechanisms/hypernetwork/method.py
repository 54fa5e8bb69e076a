"""Method of the spectrum from a bias to a whole kernel: how much of a layer is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import DeltaWeight, LowRank, Operation
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small import CLASSES
from featurewise.worlds.small.rotated import (
    PIXELS,
    Rotated,
)

OPERATIONS: Mapping[str, Operation] = {
    "whole": DeltaWeight(),
    "rank8": LowRank(8),
    "rank2": LowRank(2),
    "film": fw.Affine(),
    "bias": fw.Shift(),
}
"""The operation of each name in `Config.operation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One perceptron and its training.

    Attributes:
        operation: what is predicted from z, a key of `OPERATIONS`; "none" for nothing.
        shuffled_condition: whether every digit has the angle of another one, as a
            control.
        width: C, units of the hidden layers.
        wide_width: C of a perceptron with FiLM that has as many parameters as one of
            ``width`` whose whole kernels are predicted.
        is_wide: whether C is ``wide_width``.
        generator_width: hidden units of the network that predicts.
        angles: number of angles that are trained on; they divide the circle equally.
        batch_size: digits per batch.
        learning_rate: of Adam; it falls along a cosine.
        split: of the digits that accuracy is measured on.
    """

    FORMER_NAMES: ClassVar = {
        "wide": "wide_width",
        "tasks": "angles",
        "rows": "batch_size",
        "rate": "learning_rate",
    }

    operation: Literal["whole", "rank8", "rank2", "film", "bias", "none"] = "whole"
    shuffled_condition: bool = False
    width: int = 64
    wide_width: int = 435
    is_wide: bool = False
    generator_width: int = 32
    angles: int = 6
    batch_size: int = 64
    learning_rate: float = 3e-3
    split: Literal["validation", "test"] = "test"


class Perceptron(nn.Module):
    """Two hidden layers, each conditioned by what a small network of z predicts."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.wide_width if config.is_wide else config.width
        hidden = [
            nn.Linear(PIXELS, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        ]
        self.net: nn.Module = nn.Sequential(*hidden, nn.Linear(width, CLASSES))
        self.conditioned = config.operation != "none"
        if self.conditioned:
            self.net = fw.condition(
                self.net,
                at=("0", "2"),
                operation=OPERATIONS[config.operation],
                generator=fw.MLP(2, (config.generator_width,)),
            )

    def forward(self, batch: Rotated) -> Float[Tensor, "B 10"]:
        """Logits."""
        condition = {"condition": batch.condition} if self.conditioned else {}
        logits: Tensor = self.net(batch.pixels, **condition)
        return logits


def objective(network: nn.Module, batch: Rotated) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels."""
    logits = network(batch)
    accuracy = (logits.argmax(1) == batch.labels).float().mean()
    return F.cross_entropy(logits, batch.labels), {"accuracy": accuracy}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    adam = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    return Supervised(network, objective, adam, schedule=cosine(config.steps))
