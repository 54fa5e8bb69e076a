"""Highway networks. Srivastava, Greff & Schmidhuber 2015, eq. 3 and figure 1.

A highway layer adds to its input a change H(x) - x, under a gate T that reads the same
input::

    y = x + T(x) * (H(x) - x),    T(x) = sigmoid(W x + b)

In the terms of this library, the change is conditioned on x by one linear map, with the
operation ``Gate``. The bias b starts negative, so that an untrained layer passes its
input through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import dependence
from featurewise.generators import Learned
from featurewise.study import system
from featurewise.study.claims import Claim, Statement, at_least, at_most_ratio, within
from featurewise.study.figures import bars
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Paper, System
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs.labelled import (
    ImageBatch,
    ImageSource,
    fashion_images,
    fashion_versions,
)
from featurewise.worlds.small import CLASSES, Digits, DigitSource, digits
from featurewise.worlds.small.facts import DIGITS_OR_FASHION

# --- method ----------------------------------------------------------------------------


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
    gate_bias: float = -3.0
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


def data(config: Config, seed: int) -> Source[Images]:
    """Training images, in an order that the seed determines."""
    if config.data == "fashion":
        return ImageSource(fashion_images(size=8).train, config.batch_size, seed)
    return DigitSource(seed, config.batch_size, "train")


def evaluated_images(config: Config, split: Literal["train", "test"]) -> Images:
    """Images that a trained network is evaluated on: all digits of a split, or 1,000 others."""
    if config.data == "digits":
        return digits(split)
    splits = fashion_images(size=8)
    chosen = (splits.train if split == "train" else splits.test).first(100)
    return ImageBatch(chosen.ink, chosen.labels)


# --- experiment ------------------------------------------------------------------------

TRAINING_LOSS = Metric(
    "training loss",
    "cross-entropy on the training images (of Fashion-MNIST, on 1,000 of them), after "
    "training",
    "nats",
    "lower",
)
SPARED_LAYERS = Metric(
    "spared layers",
    "share of layers, each of which can be left out alone for less than a point of "
    "accuracy",
    "%",
)
MEAN_GATE_COST = Metric(
    "mean-gate cost",
    "accuracy lost where every gate reads the mean of its inputs",
    "points",
)
OVER_INPUTS = Metric(
    "over inputs", "share of the gates' variance that is between inputs", "%"
)
OVER_CLASSES = Metric(
    "over classes",
    "share of the variance between inputs that is between the ten classes",
    "%",
)


def accuracy(logits: Float[Tensor, "B 10"], batch: Images) -> Proportion:
    """Share of digits that are classified correctly."""
    return Proportion.of(logits.argmax(1) == batch.labels)


def lesion_costs(network: Any, batch: Images) -> list[float]:
    """Points of accuracy that leaving out each layer costs."""
    intact = accuracy(network(batch), batch).value
    lesioned = [
        accuracy(network(batch, i), batch).value for i in range(len(network.layers))
    ]
    return [100 * (intact - each) for each in lesioned]


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Training loss; accuracy, lesions and gates on the test digits."""
    train, test = evaluated_images(config, "train"), evaluated_images(config, "test")
    network: Any
    with trained.evaluating() as network:
        found, costs = accuracy(network(test), test), lesion_costs(network, test)
        numbers: dict[Metric, Proportion | float] = {
            TRAINING_LOSS: objective(network, train)[0].item(),
            SPARED_LAYERS: sum(points < 1 for points in costs) / len(costs),
        }
        if gates := list(network.gates(test)):
            share = dependence(torch.cat(gates, 1), test.labels)
            mean_gates = accuracy(network(test, mean_gates=True), test)
            numbers[MEAN_GATE_COST] = 100 * (found.value - mean_gates.value)
            numbers[OVER_INPUTS] = share.over_samples
            numbers[OVER_CLASSES] = share.over_classes
    return Measurement.of(found, numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Points of accuracy that leaving out each layer costs, one bar per layer."""
    with trained.evaluating() as network:
        costs = lesion_costs(network, evaluated_images(config, "test"))
    return bars(costs, "layer that is left out", "points lost", first=2)


SYSTEM = System(
    name="highway",
    doc=__doc__,
    paper=Paper(
        "Srivastava, Greff, Schmidhuber 2015: Highway Networks. ICML deep learning "
        "workshop",
        "https://arxiv.org/abs/1505.00387",
        "eq. 3 and figure 1; lesions as in their Training Very Deep Networks, 2015",
        "convolutional highway networks (Training Very Deep Networks): MNIST 99.55 %, "
        "CIFAR-10 92.4 %",
    ),
    world=DIGITS_OR_FASHION,
    presets={
        "tiny": Config(steps=40, depth_divisor=5),
        "small": Config(steps=1200),
        "fashion": Config(steps=1200, data="fashion"),
        "paper": Config(steps=20_000),
    },
    arms=(
        Arm("highway_50", "the system: 50 highway layers"),
        Arm("highway_100", "100 highway layers", depth=100),
        Arm("highway_20", "20 highway layers", depth=20),
        Arm(
            "highway_10",
            "10 highway layers, whose gates start at -1",
            depth=10,
            gate_bias=-1.0,
        ),
        Arm(
            "plain_100",
            "100 plain layers",
            layer="plain",
            width=71,
            depth=100,
            learning_rate=0.0003,
        ),
        Arm("plain_50", "50 plain layers", layer="plain", width=71, learning_rate=0.003),
        Arm(
            "plain_20",
            "20 plain layers",
            layer="plain",
            width=71,
            depth=20,
            learning_rate=0.01,
        ),
        Arm(
            "plain_10",
            "10 plain layers",
            layer="plain",
            width=71,
            depth=10,
            learning_rate=0.03,
        ),
        Arm(
            "constant_50",
            "control: 50 layers, whose gates are learned but do not read x; half the "
            "parameters",
            layer="constant",
        ),
    ),
    build=HighwayNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    metrics=(TRAINING_LOSS, SPARED_LAYERS, MEAN_GATE_COST, OVER_INPUTS, OVER_CLASSES),
    finding="Plain networks of 100 layers train badly (training loss near 1, accuracy 70 %); "
    "highway networks of 100 layers reach a training loss below 0.001 and 98 %. At 50 "
    "layers the training loss still tells them apart. Whether depth hurts highway networks "
    "is not decided: those of 10 layers, with the one learning rate of all highway "
    "networks, do not train at all with two of five seeds. On Fashion-MNIST, whose "
    "training loss no network brings near 0 in as many steps, the order is the same and "
    "the distances are smaller: at 100 layers a loss of 0.49 against 1.26 and an accuracy "
    "of 81 against 57 %; there the networks do need gates that read their input.",
    claims=(
        Claim(
            "Depth does not hurt the training loss of highway networks.",
            at_most_ratio(TRAINING_LOSS, "highway_100", "highway_10", 2),
            Statement(
                "depth does not hinder the training of highway networks", "figure 1"
            ),
        ),
        Claim(
            "Depth does not hurt the accuracy of highway networks.",
            within(ACCURACY, "highway_100", "highway_10", 2),
            Statement(
                "depth does not hinder the training of highway networks", "figure 1"
            ),
        ),
        Claim(
            "Depth hurts the training loss of plain networks.",
            at_most_ratio(TRAINING_LOSS, "plain_10", "plain_100", 0.1),
            Statement("plain networks become hard to train with depth", "figure 1"),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "At 50 layers highway networks train to a lower loss than plain ones.",
            at_most_ratio(TRAINING_LOSS, "highway_50", "plain_50", 0.1),
            Statement("plain networks become hard to train with depth", "figure 1"),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "At 100 layers highway networks train to a lower loss than plain ones.",
            at_most_ratio(TRAINING_LOSS, "highway_100", "plain_100", 0.1),
            Statement("plain networks become hard to train with depth", "figure 1"),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "Gates that read their input train to a lower loss than constant ones.",
            at_most_ratio(TRAINING_LOSS, "highway_50", "constant_50", 0.5),
            why="Bars by ratio are those of digits, which can be memorised; on "
            "Fashion-MNIST no loss is below 0.4 after these steps.",
        ),
        Claim(
            "Most layers can be left out alone.",
            at_least(SPARED_LAYERS, "highway_50", 50),
            Statement(
                "on MNIST most layers hardly matter",
                "Training Very Deep Networks, fig. 4",
            ),
        ),
        Claim("Gates depend on the input.", at_least(OVER_INPUTS, "highway_50", 10)),
        Claim(
            "The network needs gates that depend on the input.",
            at_least(MEAN_GATE_COST, "highway_50", 5),
            why="Gates differ between inputs, but on these digits accuracy hardly depends "
            "on it.",
        ),
    ),
    departures=(
        "1255 digits of 8 by 8 pixels, not 60,000 of 28 by 28; tanh, gain √2, the "
        "gates' W is 0.",
        "Learning rates come from a grid with a further seed: one for each depth of the "
        "plain networks, one for all highway networks.",
        "Preset paper trains longer and no more.",
    ),
    limits=(
        "These digits are easy: plain networks of 50 layers classify 96.8 % of them, so "
        "that accuracy hardly tells networks apart. The training loss does.",
    ),
    versions=lambda config: fashion_versions() if config.data == "fashion" else {},
    tuned_on="training loss with seed 100: learning rates (0.0001 to 0.003 at 100 plain "
    "layers, 0.01 and 0.03 at 20) and the bars of the claims",
    tested_on="277 digits; which of them were written by one writer is not known "
    "(fashion: 1,000 of the 10,000 test images)",
    caption="A bar for each layer (across): points of test accuracy lost when that "
    "layer alone is left out of the trained network (up).",
    expected="training losses of highway networks below 0.001 at all depths; of plain "
    "ones near 0.001 at 10 layers, 0.06 at 50 and 1 at 100",
)
