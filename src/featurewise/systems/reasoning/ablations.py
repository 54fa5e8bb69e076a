"""What of FiLM matters. Perez et al. 2018, section 4.4, tables 2 and 3.

The network of figures 2 and 3, one part of which is changed at a time: the operation by
which the question conditions a block (here, scale alone, shift alone, and activations of
the scale), where in the block this happens, which blocks are conditioned, and what else
a block consists of::

    h = relu(1×1(x, coordinates))
    y = h + relu(FiLM(norm(3×3(h))))

The network does not change with the operation, the place or the blocks that are
conditioned: they are the arguments of one call. Scenes are given as maps of what stands
where, not as images, so that only reasoning is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.core import Operation
from featurewise.generators import parameter_groups
from featurewise.models.trunks import CoordinateConv
from featurewise.study import system
from featurewise.study.claims import Claim, Statement, above, within
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Intervals, Paper, System
from featurewise.training.batch import to_device
from featurewise.training.optim import linear, rewarmed
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.clevr import ANSWERS, VOCABULARY, Batch
from featurewise.worlds.clevr.maps import MAP_CHANNELS, object_maps, pool_maps
from featurewise.worlds.clevr.metrics import GROUPS, questions_by_type
from featurewise.worlds.clevr.splits import (
    ALL_QUESTIONS,
    CLEVR,
    NO_RELATIONS,
    CurriculumStage,
    held_out_batches,
    training_batches,
)

# --- method -------------------------------------------------------------------------

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
        curriculum: stages of training, easy ones first; the last is tested on.
        test_scenes: number of scenes that are tested on.
        scenes_per_batch: scenes in a batch.
        map_size: height and width of the maps.
        channels: width of the blocks.
        embedding: width of a word vector.
        hidden: width of the GRU.
        features: width of the max-pooled map and of the classifier.
        learning_rate: of Adam; the head of the generator has four times as much.
    """

    operation: Literal["affine", "scale", "shift", "sigmoid", "tanh", "exp"] = "affine"
    place: Literal[
        "before the first convolution",
        "after the convolution",
        "after the norm",
        "after the ReLU",
        "after the block",
    ] = "after the norm"
    conditioned: int | None = None
    shuffled_questions: bool = False
    coordinates: bool = True
    residual: bool = True
    norm: bool = True
    blocks: int = 4
    curriculum: tuple[CurriculumStage, ...]
    test_scenes: int = 1_000
    scenes_per_batch: int = 16
    map_size: tuple[int, int] = (7, 10)
    channels: int = 48
    embedding: int = 64
    hidden: int = 128
    features: int = 128
    learning_rate: float = 1e-3


class Block(nn.Module):
    """The block of figure 3 without FiLM, with a module at each place that may be a site."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.channels
        self.residual = config.residual
        self.enter = nn.Identity()
        self.project = _projection(config, channels, channels)
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1, bias=not config.norm)
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
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))

    def forward(self, x: Float[Tensor, "N M h w"]) -> Float[Tensor, "N C h w"]:
        """Features of maps."""
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return x


class Classifier(nn.Module):
    """1×1 convolution with coordinates, global max-pool, perceptron (section 2.2)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.project = _projection(config, config.channels, config.features)
        self.classify = nn.Sequential(
            nn.Linear(config.features, config.features),
            nn.ReLU(),
            nn.Linear(config.features, len(ANSWERS)),
        )

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N 28"]:
        """Logits of the answers."""
        logits: Tensor = self.classify(F.relu(self.project(x)).amax(dim=(2, 3)))
        return logits


class AblatedNetwork(nn.Module):
    """Figure 2, as the config changes it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.trunk: nn.Module = Trunk(config)
        count = config.blocks if config.conditioned is None else config.conditioned
        self.conditioned = count > 0
        if self.conditioned:
            generator = fw.Recurrent(len(VOCABULARY), config.embedding, config.hidden)
            self.trunk = fw.condition(
                self.trunk,
                at=[SITES[config.place].format(block) for block in range(count)],
                operation=OPERATIONS[config.operation],
                generator=generator,
                # How many features a ReLU or an identity has is seen in a run.
                example=torch.zeros(1, MAP_CHANNELS, *config.map_size),
                identity=False,  # sigmoid and tanh have none
            )
            if generator.head is not None:
                std = 0.5 / math.sqrt(config.hidden)
                nn.init.normal_(generator.head.weight, std=std)
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


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a warm-up at the start of each stage; the rate falls in the second half."""
    rates = {"heads": 4 * config.learning_rate}
    groups = [
        {**group, "lr": rates.get(group["name"], config.learning_rate)}
        for group in parameter_groups(network, 1e-5)
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
    )


# --- experiment ---------------------------------------------------------------------


def data(config: Config, seed: int) -> Source[Batch]:
    """Maps of scenes and questions about them, stage by stage."""

    def maps(pool: Path) -> Tensor:
        return pool_maps(pool, *config.map_size)

    source: Source[Batch] = training_batches(
        config.curriculum,
        None,
        images_per_batch=config.scenes_per_batch,
        questions_per_image=4,
        seed=seed,
        features=maps,
    )
    if config.shuffled_questions:
        return ShuffledCondition(source, ("questions", "lengths"), half_a_batch_on)
    return source


def half_a_batch_on(index: int, batch: Batch) -> Tensor:
    """The order in which every question belongs to another scene."""
    count = len(batch.lengths)
    return torch.arange(count).roll(count // 2)


BY_GROUP = {
    group: Metric(group, f"accuracy on questions of the group {group}", "%")
    for group in GROUPS
}


def test_batches(config: Config) -> Iterator[Batch]:
    """Scenes that no trial is trained on, as maps, with ten questions each."""
    recipe = config.curriculum[-1].recipe
    for batch in held_out_batches(recipe, config.test_scenes):
        if batch.objects is not None:
            yield replace(batch, images=object_maps(batch.objects, *config.map_size))


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy, also by the groups of the published tables."""
    right, answers, types, scenes = [], [], [], []
    seen = 0
    with trained.evaluating() as network, torch.no_grad():
        for batch in test_batches(config):
            order = half_a_batch_on(0, batch)
            given = batch
            if config.shuffled_questions:
                given = replace(
                    batch, questions=batch.questions[order], lengths=batch.lengths[order]
                )
            logits = network(to_device(given, trained.learner.device))
            right.append(logits.argmax(1).cpu() == batch.answers)
            answers.append(batch.answers)
            types.append(batch.types)
            scenes.append(seen + batch.image_index)
            seen += len(batch.images)
    hits, groups = torch.cat(right), torch.cat(scenes)
    by_type = questions_by_type(torch.cat(answers), torch.cat(types))
    found = {}
    for group, names in GROUPS.items():
        rows = [by_type[name] for name in names if name in by_type]
        if rows:
            which = torch.stack(rows).any(0)
            found[BY_GROUP[group]] = Proportion.of(hits[which], groups=groups[which])
    return Measurement.of(Proportion.of(hits, groups=groups), found)


SCENES = replace(
    ALL_QUESTIONS, seed=2310, width=30, height=20, samples=1, questions_per_image=40
)
"""Scenes whose images are not used, hence small."""


def stage(
    seed: int, objects: tuple[int, int], steps: int, families: tuple[int, ...]
) -> CurriculumStage:
    """A stage on scenes of ``objects`` (fewest, most) objects."""
    fewest, most = objects
    recipe = replace(
        SCENES, seed=seed, min_objects=fewest, max_objects=most, families=families
    )
    return CurriculumStage(recipe=recipe, images=3_000, steps=steps)


ZERO_RELATIONS = NO_RELATIONS.families or ()
UP_TO_ONE_RELATION = (*range(25, 31), *ZERO_RELATIONS)

PRESETS = {
    "tiny": Config(
        steps=20,
        intervals=Intervals(log=10, save=10),
        curriculum=(
            CurriculumStage(
                recipe=replace(SCENES, questions_per_image=6), images=32, steps=20
            ),
        ),
        test_scenes=12,
        scenes_per_batch=4,
        channels=8,
        blocks=4,
        embedding=8,
        hidden=16,
        features=16,
    ),
    "small": Config(
        steps=3_000,
        intervals=Intervals(log=100, evaluate=3_000, save=1_000),
        curriculum=(
            stage(2310, (1, 3), 700, ZERO_RELATIONS),
            stage(2320, (2, 5), 800, ZERO_RELATIONS),
            stage(2330, (2, 5), 1_500, UP_TO_ONE_RELATION),
        ),
    ),
    "paper": Config(
        steps=800_000,
        intervals=Intervals(log=100, evaluate=20_000, save=5_000, save_seconds=600.0),
        curriculum=(CurriculumStage(recipe=SCENES, images=70_000, steps=800_000),),
        test_scenes=15_000,
        scenes_per_batch=64,
        map_size=(14, 14),
        channels=128,
        embedding=200,
        hidden=4_096,
        features=512,
        learning_rate=3e-4,
    ),
}


def _statement(what: str, where: str, number: str) -> Statement:
    return Statement(
        what,
        where,
        f"{number}, of 97.4 % (validation)",
        "direction only: maps in place of images, few objects, at most one relation",
    )


SYSTEM = System(
    name="ablations",
    doc=__doc__,
    paper=Paper(
        "Perez, Strub, de Vries, Dumoulin, Courville 2018: FiLM: Visual Reasoning "
        "with a General Conditioning Layer. AAAI",
        "https://arxiv.org/abs/1709.07871",
        "section 4.4, tables 2 and 3",
        "CLEVR, validation (tables 2 and 3): 97.4 % for the best network",
    ),
    world=CLEVR,
    presets=PRESETS,
    arms=(
        Arm("film", "the system: FiLM after the norm of all four blocks"),
        Arm("scale", "scale alone: β is 0", operation="scale"),
        Arm("shift", "shift alone: γ is 1", operation="shift"),
        Arm("sigmoid", "γ between 0 and 1, by a sigmoid", operation="sigmoid"),
        Arm("tanh", "γ between -1 and 1, by tanh", operation="tanh"),
        Arm("exp", "γ above 0, by exp", operation="exp"),
        Arm("after_block", "FiLM after the sum of a block", place="after the block"),
        Arm("after_relu", "FiLM after the ReLU", place="after the ReLU"),
        Arm(
            "after_convolution",
            "FiLM before the norm",
            place="after the convolution",
        ),
        Arm(
            "before_convolution",
            "FiLM of what enters a block",
            place="before the first convolution",
        ),
        Arm("block_1", "FiLM in the first of four blocks only", conditioned=1),
        Arm("blocks_1_2", "FiLM in the first two of four blocks", conditioned=2),
        Arm("blocks_1_3", "FiLM in the first three of four blocks", conditioned=3),
        Arm("none", "no block is conditioned: no question", conditioned=0),
        Arm("no_coordinates", "without maps of the coordinates", coordinates=False),
        Arm("no_residual", "blocks without their sum", residual=False),
        Arm("no_norm", "blocks without batch norm", norm=False),
        Arm("depth_1", "one block", blocks=1),
        Arm("depth_2", "two blocks", blocks=2),
        Arm("depth_6", "six blocks", blocks=6),
        Arm(
            "shuffled",
            "control: each question is replaced by that of another scene, answers stay",
            shuffled_questions=True,
        ),
    ),
    build=AblatedNetwork,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=tuple(BY_GROUP.values()),
    claims=(
        Claim(
            "Without FiLM the network is far worse: it is not given the question.",
            above(ACCURACY, "film", "none", 40),
            _statement("without FiLM the network fails", "table 2", "21.4 %"),
        ),
        Claim(
            "FiLM uses the question that it is conditioned on.",
            above(ACCURACY, "film", "shuffled", 40),
        ),
        Claim(
            "FiLM in the first block alone is nearly as good as in all.",
            within(ACCURACY, "block_1", "film", 3),
            _statement("one FiLM layer, early, is nearly enough", "table 2", "97.3 %"),
        ),
        Claim(
            "A scale without shift is nearly as good as FiLM.",
            within(ACCURACY, "scale", "film", 3),
            _statement("β can be left out", "table 2", "96.9 %"),
        ),
        Claim(
            "A shift without scale is worse than a scale without shift.",
            above(ACCURACY, "scale", "shift", 0),
            _statement("γ matters more than β", "table 2", "96.9 and 95.9 %"),
        ),
        Claim(
            "γ between 0 and 1 is worse than a free one.",
            above(ACCURACY, "film", "sigmoid", 0),
            _statement("limits of γ cost accuracy", "table 2", "95.9 %"),
        ),
        Claim(
            "γ between -1 and 1 is worse than a free one.",
            above(ACCURACY, "film", "tanh", 0),
            _statement("limits of γ cost accuracy", "table 2", "96.3 %"),
        ),
        Claim(
            "γ above 0 is worse than a free one.",
            above(ACCURACY, "film", "exp", 0),
            _statement("limits of γ cost accuracy", "table 2", "96.3 %"),
        ),
        Claim(
            "FiLM need not follow the norm: before it is as good.",
            within(ACCURACY, "after_convolution", "film", 3),
            _statement("FiLM need not be tied to a norm", "table 2", "97.1 %"),
        ),
        Claim(
            "FiLM need not precede the ReLU: after it is as good.",
            within(ACCURACY, "after_relu", "film", 3),
            _statement("FiLM need not be tied to a norm", "table 2", "97.7 %"),
        ),
        Claim(
            "FiLM of what enters a block is worse.",
            above(ACCURACY, "film", "before_convolution", 0),
            _statement(
                "FiLM before the first convolution is worse", "table 2", "95.0 %"
            ),
        ),
        Claim(
            "Coordinates help.",
            above(ACCURACY, "film", "no_coordinates", 1),
        ),
        Claim(
            "The sums of the blocks help.",
            above(ACCURACY, "film", "no_residual", 1),
            _statement("residual connections help", "table 2", "94.0 %"),
        ),
        Claim(
            "Batch norm helps.",
            above(ACCURACY, "film", "no_norm", 1),
            _statement("batch norm helps", "table 2", "93.7 %"),
        ),
        Claim(
            "One block is worse than four.",
            above(ACCURACY, "film", "depth_1", 1),
            _statement("depth helps little", "table 3", "93.5 %"),
        ),
        Claim(
            "Six blocks are no worse than four.",
            within(ACCURACY, "depth_6", "film", 2),
            _statement("depth helps little", "table 3", "97.7 %"),
        ),
    ),
    departures=(
        "Maps of what stands where in place of images: of 7 by 10 cells, with one channel "
        "for each value of an attribute. Perception is perfect, but for objects that share "
        "a cell, of which only one is seen.",
        "Scenes of 2 to 5 objects and questions with at most one relation, after two "
        "easier stages.",
        "48 channels instead of 128, a GRU of 128 instead of 4,096; the head does not "
        "start at zero, as γ of a sigmoid or tanh has no identity. These two start near 1, "
        "where they are flat, so that their γ differs a tenth as much between questions at "
        "first as that of the other arms.",
        "The paper removes the maps of coordinates together with the 3 × 3 convolutions "
        "(95.3 %); arm no_coordinates keeps its convolutions, and has no published number.",
        "0.2 million questions, where the paper trains on up to 56 million. Preset paper has "
        "the paper's widths but for 512 hidden units of the classifier, and four questions "
        "about each of 64 scenes in a batch.",
    ),
    tuned_on="not tuned: the settings of FiLM's own network",
    tested_on="1,000 scenes with up to 10 questions each that no trial is trained on; scenes "
    "are the independent units",
    cost={"tiny": "seconds", "paper": "one GPU; never run"},
)
