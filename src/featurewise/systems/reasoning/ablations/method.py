"""Method of the ablations: the network of figures 2 and 3, as a config changes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Natural
from featurewise.core import Operation
from featurewise.generators import Generator, Head, parameter_groups
from featurewise.models.trunks import CoordinateConv
from featurewise.study import system
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import linear, rewarmed
from featurewise.training.steppers import Metrics, Objective, Supervised
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch
from featurewise.worlds.clevr.maps import MAP_CHANNELS
from featurewise.worlds.clevr.splits import CurriculumStage

OPERATIONS: dict[str, Operation] = {
    "affine": fw.Affine(),
    "scale": fw.Scale(),
    "shift": fw.Shift(),
    "sigmoid": fw.Affine(activation="sigmoid"),
    "tanh": fw.Affine(activation="tanh"),
    "exp": fw.Affine(activation="exp"),
}
"""The operation of each name in `Config.operation`; "affine" is FiLM."""

SITES = {
    "before the first convolution": "blocks.{}.enter",
    "after the convolution": "blocks.{}.convolve",
    "after the norm": "blocks.{}.norm",
    "after the ReLU": "blocks.{}.activate",
    "after the block": "blocks.{}",
}
"""The site in a block of each name in `Config.place`."""


@dataclass(frozen=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        operation: by which the question conditions a block, a key of `OPERATIONS`.
        place: where in the block, a key of `SITES`.
        conditioned: so many of the blocks are conditioned, the first ones; None: all.
        shuffled_questions: whether each question is replaced by that of another scene,
            in training and in evaluation.
        coordinates: whether blocks and classifier also get maps of the coordinates.
        residual: whether a block adds h to its output.
        norm: whether blocks have a batch norm.
        blocks: number of blocks.
        dilation: of the 3 × 3 convolution of every second block, which so sees farther.
        curriculum: stages of training, easy ones first; the last is tested on.
        test_scenes: number of scenes that are tested on.
        scenes_per_batch: scenes in a batch.
        map_size: height and width of the maps.
        channels: width of the blocks.
        embedding: width of a word vector.
        hidden: width of the GRU.
        features: width of the max-pooled map and of the classifier.
        learning_rate: of Adam; the head of the generator has four times as much.
        bfloat16: whether the forward pass runs under bfloat16 autocast, where that is
            computed.
    """

    operation: Literal["affine", "scale", "shift", "sigmoid", "tanh", "exp"] = "affine"
    place: Literal[
        "before the first convolution",
        "after the convolution",
        "after the norm",
        "after the ReLU",
        "after the block",
    ] = "after the norm"
    conditioned: Natural | None = None
    shuffled_questions: bool = False
    coordinates: bool = True
    residual: bool = True
    norm: bool = True
    blocks: int = 4
    dilation: int = 1
    curriculum: tuple[CurriculumStage, ...]
    test_scenes: int = 1_000
    scenes_per_batch: int = 16
    map_size: tuple[int, int] = (7, 10)
    channels: int = 48
    embedding: int = 64
    hidden: int = 128
    features: int = 128
    learning_rate: float = 1e-3
    bfloat16: bool = False

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        if (of := self.conditioned) is not None and of > self.blocks:
            raise ExperimentError(f"conditioned={of} exceeds blocks={self.blocks}")


class Block(nn.Module):
    """The block of figure 3 without FiLM, with a module at each place that may be a site."""

    def __init__(self, config: Config, dilation: int) -> None:
        super().__init__()
        channels = config.channels
        self.residual = config.residual
        self.enter = nn.Identity()
        self.project = _projection(config, channels, channels)
        bias = not config.norm
        self.convolve = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=bias
        )
        norm = nn.BatchNorm2d(channels, affine=False) if config.norm else nn.Identity()
        self.norm: nn.Module = norm
        self.activate = nn.ReLU()

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
        """Features of the same shape."""
        h = F.relu(self.project(self.enter(x)))
        y: Tensor = self.activate(self.norm(self.convolve(h)))
        return h + y if self.residual else y


def _projection(config: Config, channels: int, features: int) -> nn.Module:
    if config.coordinates:
        return CoordinateConv(channels, features)
    return nn.Conv2d(channels, features, 1)


class Trunk(nn.Module):
    """A convolution of the map, then blocks; nothing is conditioned yet."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = nn.Conv2d(MAP_CHANNELS, config.channels, 1)
        self.blocks = nn.ModuleList(
            Block(config, config.dilation if block % 2 else 1)
            for block in range(config.blocks)
        )

    def forward(self, x: Float[Tensor, "N M h w"]) -> Float[Tensor, "N C h w"]:
        """Features of maps."""
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return x


class Classifier(nn.Module):
    """1×1 convolution with coordinates, global max-pool, perceptron (section 2.2).

    Both layers have a batch norm, whichever parts of the blocks are missing.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.project = _projection(config, config.channels, config.features)
        self.norm = nn.BatchNorm2d(config.features)
        self.classify = nn.Sequential(
            nn.Linear(config.features, config.features, bias=False),
            nn.BatchNorm1d(config.features),
            nn.ReLU(),
            nn.Linear(config.features, len(ANSWERS)),
        )

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N 28"]:
        """Logits of the answers."""
        h = F.relu(self.norm(self.project(x)))
        logits: Tensor = self.classify(h.amax(dim=(2, 3)))
        return logits


class AblatedNetwork(nn.Module):
    """Figure 2, as the config changes it; its generator is a GRU and a linear map, or given."""

    def __init__(self, config: Config, generator: Generator | None = None) -> None:
        super().__init__()
        self.trunk: nn.Module = Trunk(config)
        count = config.blocks if config.conditioned is None else config.conditioned
        self.conditioned = count > 0
        if self.conditioned:
            if generator is None:
                generator = fw.Recurrent(
                    len(VOCABULARY), config.embedding, config.hidden
                )
            self.trunk = fw.condition(
                self.trunk,
                at=[SITES[config.place].format(block) for block in range(count)],
                operation=OPERATIONS[config.operation],
                generator=generator,
                # How many features a ReLU or an identity has is seen in a run.
                example=torch.zeros(1, MAP_CHANNELS, *config.map_size),
                identity=False,  # sigmoid and tanh have none
            )
            for head in generator.modules():
                if isinstance(head, Head):
                    nn.init.normal_(head.weight, std=0.5 / math.sqrt(config.hidden))
        self.answer = Classifier(config)

    def forward(self, batch: Batch) -> Float[Tensor, "Q 28"]:
        """Logits of the answers to all questions of a batch of maps."""
        maps = batch.images.float()[batch.image_index]
        if self.conditioned:
            maps = self.trunk(maps, condition=(batch.questions, batch.lengths))
        else:
            maps = self.trunk(maps)
        logits: Tensor = self.answer(maps)
        return logits


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers."""
    logits = network(batch).float()
    accuracy = (logits.argmax(1) == batch.answers).float().mean()
    return F.cross_entropy(logits, batch.answers), {"accuracy": accuracy}


def stepper(
    network: nn.Module,
    config: Config,
    *,
    weight_decay: float = 1e-5,
    objective: Objective = objective,
) -> Supervised:
    """Adam with a warm-up at the start of each stage; the rate falls in the second half."""
    rates = {"heads": 4 * config.learning_rate}
    groups = [
        {**group, "lr": rates.get(group["name"], config.learning_rate)}
        for group in parameter_groups(network, weight_decay)
    ]
    warmup = min(200, config.steps // 20)
    starts = list(accumulate(stage.steps for stage in config.curriculum[:-1]))
    schedule = linear(config.steps, warmup=warmup, start=0.5, floor=0.01)
    return Supervised(
        network,
        objective,
        torch.optim.Adam(groups, config.learning_rate, betas=(0.9, 0.99), fused=True),
        schedule=rewarmed(schedule, starts, warmup),
        clip=1.0,
        average=0.995,
        bfloat16=config.bfloat16,
    )
