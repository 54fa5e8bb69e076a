"""Method of highway networks: the gated layer of eq. 3, stacks of it, and plain layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Real
from featurewise.generators import Learned
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs.labelled import (
    ImageBatch,
)
from featurewise.worlds.small import CLASSES, Digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        layer: "highway"; "constant", whose gates are learned but do not read x; or
            "plain".
        depth: number of layers, the first included.
        depth_divisor: divides ``depth``, for networks that are small enough for tests.
        width: units per layer.
        gate_bias: initial bias b of every gate.
        learning_rate: of SGD with momentum 0.9; it falls along a cosine.
        batch_size: images per batch.
        data: "digits"; or "fashion", Fashion-MNIST in its official files.
    """

    layer: Literal["highway", "constant", "plain"] = "highway"
    depth: int = 50
    depth_divisor: int = 1
    width: int = 50
    gate_bias: Real = -3.0
    learning_rate: float = 1.0
    batch_size: int = 64
    data: Literal["digits", "fashion"] = "digits"


Images: TypeAlias = Digits | ImageBatch
"""``images`` (B, 1, 8, 8) of either data set, and ``labels`` (B,) of ten classes."""


def tanh_layer(inputs: int, width: int) -> nn.Sequential:
    """H: a linear map and tanh."""
    linear = nn.Linear(inputs, width)
    nn.init.xavier_uniform_(linear.weight, gain=2**0.5)
    return nn.Sequential(linear, nn.Tanh())


class HighwayLayer(nn.Module):
    """Eq. 3; with ``constant``, T is learned and does not read x."""

    def __init__(self, width: int, gate_bias: float, constant: bool) -> None:
        super().__init__()
        self.transform, self.constant = tanh_layer(width, width), constant
        generator = Learned() if constant else fw.Linear(width)
        self.gate = fw.FiLM(width, operation=fw.Gate(ceiling=1), generator=generator)
        bias = generator.get_parameter("vector" if constant else "head.bias")
        nn.init.constant_(bias, gate_bias)

    def forward(
        self, x: Float[Tensor, "B C"], gate_input: Tensor | None = None
    ) -> Float[Tensor, "B C"]:
        """The layer's output; ``gate_input``, where given, replaces x as what the gate reads."""
        condition = None if self.constant else x if gate_input is None else gate_input
        return x + self.gate(self.transform(x) - x, condition)  # type: ignore[no-any-return]


class HighwayNetwork(nn.Module):
    """A plain layer, then ``depth - 1`` layers of one kind, then a linear classifier."""

    def __init__(self, config: Config) -> None:
        super().__init__()

        def layer() -> nn.Module:
            if config.layer == "plain":
                return tanh_layer(config.width, config.width)
            return HighwayLayer(
                config.width, config.gate_bias, config.layer == "constant"
            )

        self.first = tanh_layer(64, config.width)
        depth = config.depth // config.depth_divisor
        self.layers = nn.ModuleList(layer() for _ in range(depth - 1))
        self.last = nn.Linear(config.width, CLASSES)

    def forward(
        self, batch: Images, skip_layer: int | None = None, mean_gates: bool = False
    ) -> Float[Tensor, "B 10"]:
        """Logits.

        Args:
            batch: of images.
            skip_layer: index of a layer to leave out (a lesion).
            mean_gates: let every gate read the mean of its inputs over the batch.
        """
        x = self.first(batch.images.flatten(1))
        for index, layer in enumerate(self.layers):
            if index != skip_layer:
                x = layer(x, x.mean(0)) if mean_gates else layer(x)
        return self.last(x)  # type: ignore[no-any-return]

    def gates(self, batch: Images) -> Iterator[Float[Tensor, "B C"]]:
        """T of each layer whose gate reads its input."""
        x = self.first(batch.images.flatten(1))
        for layer in self.layers:
            if isinstance(layer, HighwayLayer) and not layer.constant:
                yield layer.gate.get_submodule("generator")(x).sigmoid()
            x = layer(x)


def objective(network: nn.Module, batch: Images) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels."""
    return F.cross_entropy(network(batch).float(), batch.labels), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """SGD with momentum and a cosine schedule."""
    optimizer = torch.optim.SGD(
        network.parameters(), lr=config.learning_rate, momentum=0.9
    )
    return Supervised(network, objective, optimizer, schedule=cosine(config.steps))
