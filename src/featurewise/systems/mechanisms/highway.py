"""Highway networks. Srivastava, Greff, Schmidhuber 2015, eq. 3 and figure 1.

Each layer conditions itself, ``y = H(x) T(x) + x (1 - T(x))`` with ``T(x) = σ(W x + b)``: a branch,
the change H(x) - x, under a sigmoid gate that one linear map predicts from the layer's own input
(a `FiLM` layer). b starts below zero: a layer passes its input on until training opens it.

    featurewise run highway --arms all --seeds 3
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import dependence
from featurewise.generators import Learned
from featurewise.study.claims import above, at_least, lower, within
from featurewise.study.figures import bars
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Paper, Settings, System
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small import CLASSES, Digits, DigitSource, digits

RATES = {"highway": 1.0, "constant": 1.0, "plain_10": 0.03, "plain_30": 0.01, "plain_50": 0.003}


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths(Settings):
    """Sizes; ``shrink`` divides the layers; plain ones are wider and have as many parameters."""

    shrink: int = 1
    width: int = 50
    plain: int = 71
    rows: int = 64


def transform(inputs: int, width: int) -> nn.Sequential:
    """H: a linear map and tanh."""
    linear = nn.Linear(inputs, width)
    nn.init.xavier_uniform_(linear.weight, gain=2**0.5)
    return nn.Sequential(linear, nn.Tanh())


class HighwayLayer(nn.Module):
    """``x + T (H(x) - x)``: T reads x, or as a control is learned and the same for all x."""

    def __init__(self, width: int, start: float, constant: bool) -> None:
        super().__init__()
        self.transform, self.constant = transform(width, width), constant
        generator = Learned() if constant else fw.Linear(width)
        self.gate = fw.FiLM(width, operation=fw.Gate(ceiling=1), generator=generator)
        nn.init.constant_(generator.get_parameter("vector" if constant else "head.bias"), start)

    def forward(self, x: Float[Tensor, "B C"], told: Tensor | None = None) -> Float[Tensor, "B C"]:
        """The output for x; T reads ``told`` instead where it is given."""
        read = None if self.constant else x if told is None else told
        return x + self.gate(self.transform(x) - x, read)  # type: ignore[no-any-return]


class Deep(nn.Module):
    """A plain layer, then layers of one kind, then a linear readout."""

    def __init__(self, s: Depths, arm: Arm) -> None:
        super().__init__()
        kind, _, depth = arm.name.partition("_")
        plain, start = kind == "plain", -1.0 if depth == "10" else -3.0
        width = s.plain if plain else s.width
        self.first = transform(64, width)
        self.layers = nn.ModuleList(
            transform(width, width) if plain else HighwayLayer(width, start, kind == "constant")
            for _ in range(int(depth) // s.shrink - 1)
        )
        self.last = nn.Linear(width, CLASSES)

    def forward(self, batch: Digits, lesion: int | None = None, blind: bool = False) -> Tensor:
        """Logits (B, 10), with T of the layer ``lesion`` zero, or with T told the mean of x."""
        x = self.first(batch.images.flatten(1))
        for place, layer in enumerate(self.layers):
            if place != lesion:
                x = layer(x, x.mean(0)) if blind else layer(x)
        return self.last(x)  # type: ignore[no-any-return]

    def gates(self, batch: Digits) -> Iterator[Float[Tensor, "B C"]]:
        """T of each layer that reads its input."""
        x = self.first(batch.images.flatten(1))
        for layer in self.layers:
            if isinstance(layer, HighwayLayer) and not layer.constant:
                yield layer.gate.get_submodule("generator")(x).sigmoid()
            x = layer(x)


def objective(network: nn.Module, batch: Digits) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the labels."""
    return F.cross_entropy(network(batch).float(), batch.labels), {}


def stepper(network: nn.Module, s: Depths, arm: Arm) -> Supervised:
    """SGD with momentum, the rate falling along a cosine."""
    rate = RATES.get(arm.name) or RATES[arm.name.partition("_")[0]]
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    return Supervised(network, objective, optimizer, schedule=cosine(s.steps))


def data(s: Depths, arm: Arm, seed: int) -> Source[Digits]:
    """Digits to train on, dealt by the seed."""
    return DigitSource(seed, s.rows, "train")


def right(logits: Tensor, batch: Digits) -> Proportion:
    """How many digits are told."""
    return Proportion.of(logits.argmax(1) == batch.labels)


def lesions(network: Any, batch: Digits) -> list[float]:
    """Points of accuracy that leaving out each layer costs."""
    cut = [right(network(batch, place), batch).value for place in range(len(network.layers))]
    return [100 * (right(network(batch), batch).value - each) for each in cut]


def evaluate(trained: Supervised, s: Depths, arm: Arm) -> Measurement:
    """Loss on the training digits; accuracy on the test digits, lesions and gates."""
    seen, test = digits("train"), digits("test")
    network: Any
    with trained.evaluating() as network:
        told, cost = right(network(test), test), lesions(network, test)
        values = {"training loss": objective(network, seen)[0].item()}
        values["spared layers"] = sum(points < 1 for points in cost) / len(cost)
        if gates := list(network.gates(test)):
            share = dependence(torch.cat(gates, 1), test.labels)
            values["blind cost"] = 100 * (told.value - right(network(test, blind=True), test).value)
            values["over inputs"], values["over classes"] = share.over_samples, share.over_classes
    return Measurement(told, values=values)


def draw(trained: Supervised, s: Depths, arm: Arm) -> Image.Image:
    """Points of accuracy that leaving out each layer costs, a bar a layer; the first stays."""
    with trained.evaluating() as network:
        cost = lesions(network, digits("test"))
    return bars(cost, "layer that is left out", "points lost", first=2)


SYSTEM = System(
    name="highway",
    title="Highway networks: layers that gate themselves",
    what="Layers under a sigmoid gate that reads their own input, as many as 50, on digits.",
    paper=Paper(
        "Srivastava, Greff, Schmidhuber 2015: Highway Networks. ICML deep learning workshop",
        "https://arxiv.org/abs/1505.00387",
        "eq. 3 and figure 1; lesions as in their Training Very Deep Networks, 2015",
        "figure 1 as curves. Convolutional highway networks (Training Very Deep Networks): MNIST "
        "99.55 %, CIFAR-10 92.4 %",
    ),
    world="The 1797 digits of 8 by 8 pixels of scikit-learn, split by their pixels.",
    licence="CC BY 4.0 (Alpaydin and Kaynak 1998)",
    presets={
        "tiny": Depths(steps=40, shrink=5),
        "small": Depths(steps=1200),
        "paper": Depths(steps=20_000),
    },
    arms=(
        *(Arm(f"highway_{n}", f"{n} layers; gates start at -3 (of 10, -1)") for n in (50, 30, 10)),
        *(Arm(f"plain_{n}", f"{n} plain layers of as many parameters") for n in (50, 30, 10)),
        Arm(
            "constant_30",
            "control: 30 layers, learned gates see no input; half the parameters",
            "highway_30",
        ),
    ),
    build=Deep,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    draw=draw,
    claims=(
        within("highway_50", "highway_10", 2.0),
        lower("highway_50", "highway_10", 2.0, "training loss"),
        above(
            "highway_50",
            "plain_50",
            10.0,
            why="Plain networks train at this depth, too, once their learning rate is tuned.",
        ),
        lower("highway_50", "plain_50", 0.1, "training loss"),
        lower("highway_30", "constant_30", 0.5, "training loss"),
        at_least("highway_50", 0.5, "spared layers"),
        at_least("highway_50", 0.1, "over inputs"),
        at_least(
            "highway_50",
            5.0,
            "blind cost",
            why="Gates differ between inputs, but on these digits accuracy hardly depends on it.",
        ),
    ),
    departures=(
        "1255 digits of 8 by 8 pixels, not 60,000 of 28 by 28; tanh, gain √2, the gates' W is 0.",
        "Rates by a grid, a further seed: plain nets one for each depth, highway nets one for all.",
        "Preset paper trains longer and no more: the paper's networks have up to 100 layers.",
    ),
    limits=(
        "Plain networks of 50 layers have 96.8 % once their learning rate is tuned: accuracy on "
        "these digits leaves highway layers no 10 points to gain. The training loss does.",
    ),
    tuned_on="a grid of learning rates with a further seed; on which digits is not recorded",
    tested_on="277 digits; which of them were written by one writer is not known",
    caption="A bar for each layer (across): points of test accuracy lost when that layer alone is "
    "left out of the trained network (up).",
    measures={
        "training loss": "cross-entropy on the training digits, after training",
        "spared layers": "share of layers, any one of which can be left out for less than a point",
        "blind cost": "points of accuracy lost where gates are told the mean of their inputs",
        "over inputs": "share of the gates' variance that is between inputs",
        "over classes": "share of that variance that is between the ten classes",
    },
    band="highway nets of all depths near 98 %, and so are plain nets once their rate is tuned",
)
