"""Attention against FiLM. Dumoulin et al. 2018, Distill; Vaswani et al. 2017, eq. 1.

Attention weights positions, the same in all features; FiLM weights features, the same at
all positions::

    attention   softmax(q(z) K(x)ᵀ / sqrt(C)) V(x)       FiLM   γ(z) ⊙ x + β(z)

So a cue z that names a position should suit attention, and one that names a feature
FiLM, at equal parameters. Their cost is counted against the length of sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import pooled_places
from featurewise.analysis.cost import LENGTHS, exponent, operations
from featurewise.models.attention import CrossAttention
from featurewise.models.trunks import CoordinateConv
from featurewise.study import system
from featurewise.study.claims import Claim, Statement, above, at_least, at_most, within
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Paper, System
from featurewise.training.batch import to_device
from featurewise.training.loop import Intervals
from featurewise.training.optim import cosine
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small.facts import SYMBOL_GRIDS
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts

# --- method ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        reads_grid: False answers from the cue alone.
        conditioned: whether FiLM by the cue follows every norm of the trunk.
        pooling: of the trunk's map: "maximum and mean" over positions, or "attention" by
            the cue.
        shuffled_condition: whether every question has the cue of another of its kind, as
            a control.
        side: height and width of a grid, in positions.
        symbols: kinds of symbol, which are as many possible answers.
        width: channels of the trunk.
        attention_width: channels with attention and no FiLM, so that parameters are as
            many.
        both_width: channels with attention and FiLM, so that parameters are as many.
        blocks: residual blocks of the trunk.
        hidden: units of the classifier's hidden layer.
        batch_size: questions per batch.
        test_questions: questions that accuracy is measured on.
        learning_rate: of Adam; it rises for a twentieth of the steps, then falls along a
            cosine.
    """

    FORMER_NAMES: ClassVar = {"questions": "test_questions"}

    reads_grid: bool = True
    conditioned: bool = True
    pooling: Literal["maximum and mean", "attention"] = "maximum and mean"
    shuffled_condition: bool = False
    side: int = 6
    symbols: int = 8
    width: int = 32
    attention_width: int = 40
    both_width: int = 27
    blocks: int = 2
    hidden: int = 32
    batch_size: int = 128
    test_questions: int = 4_000
    learning_rate: float = 2e-2

    @property
    def channels(self) -> int:
        """Channels of the trunk of this arm."""
        if self.pooling != "attention":
            return self.width
        return self.both_width if self.conditioned else self.attention_width

    @property
    def cue_features(self) -> int:
        """Width of the condition."""
        return self.side**2 + self.symbols


class Block(nn.Module):
    """``x + relu(norm(1x1(x, coordinates)))``: no position sees another. FiLM follows the norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = CoordinateConv(width, width)
        self.norm = nn.BatchNorm2d(width, affine=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same form."""
        return x + F.relu(self.norm(self.project(x)))


class Network(nn.Module):
    """A trunk, with or without FiLM; pooling, or attention; a classifier."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, cue = config.channels, config.cue_features
        self.reads_grid, self.conditioned = config.reads_grid, config.conditioned
        attends, pooled = config.pooling == "attention", cue
        if self.reads_grid:
            pooled = width if attends else 2 * width
            self.stem = CoordinateConv(config.symbols, width)
            self.trunk: nn.Module = nn.Sequential(
                *(Block(width) for _ in range(config.blocks))
            )
        if self.conditioned:
            self.trunk = fw.condition(self.trunk, at="*.norm", generator=fw.Linear(cue))
        self.attend = CrossAttention(cue, width) if attends else None
        self.answer = nn.Sequential(
            nn.Linear(pooled, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, len(KINDS) * config.symbols),
        )

    def map(self, batch: Places) -> Float[Tensor, "B C H W"]:
        """The features that are pooled or attended to."""
        x, condition = F.relu(self.stem(batch.grids)), {"condition": batch.cue}
        features: Tensor = (
            self.trunk(x, **condition) if self.conditioned else self.trunk(x)
        )
        return features

    def attention(self, batch: Places) -> Float[Tensor, "B L"]:
        """Weights of the positions; without attention, how often each is that of a maximum."""
        x = self.map(batch)
        if self.attend is None:
            return pooled_places(x).flatten(1)
        return self.attend.weights(batch.cue[:, None], x.flatten(2).mT)[:, 0]

    def pooled(self, batch: Places) -> Float[Tensor, "B P"]:
        """What the classifier reads."""
        if not self.reads_grid:
            return batch.cue
        features = self.map(batch).flatten(2)
        if self.attend is None:
            return torch.cat((features.amax(2), features.mean(2)), dim=1)
        attended: Tensor = self.attend(batch.cue[:, None], features.mT)
        return attended.squeeze(1)

    def forward(self, batch: Places) -> Float[Tensor, "B S"]:
        """Logits of the answers to the kind of question that each is."""
        logits: Tensor = self.answer(self.pooled(batch)).unflatten(1, (len(KINDS), -1))
        return logits[torch.arange(len(logits), device=logits.device), batch.task]


def objective(network: nn.Module, batch: Places) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers."""
    return F.cross_entropy(network(batch), batch.answers), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a warm-up and a cosine schedule."""
    adam = torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)
    schedule = cosine(config.steps, warmup=config.steps // 20)
    return Supervised(network, objective, adam, schedule=schedule)


def data(config: Config, seed: int) -> Source[Places]:
    """Questions about positions and about features in turn."""
    source = PlaceSource(
        side=config.side, symbols=config.symbols, batch_size=config.batch_size, seed=seed
    )
    if config.shuffled_condition:
        return ShuffledCondition(source, ("cue",), previous_of_kind)
    return source


def previous_of_kind(index: int, batch: Places) -> Int64[Tensor, " B"]:
    """Each question gets the cue of the one before it of its kind; kinds alternate in a batch."""
    return torch.arange(len(batch.cue)).roll(2)


# --- experiment ------------------------------------------------------------------------

PLACE = Metric(
    "place", "accuracy: which symbol is at the position of the cue", "%", "higher"
)
FEATURE = Metric(
    "feature", "accuracy: how many positions have the symbol of the cue", "%", "higher"
)
LIFT_PLACE = Metric(
    "attention to the place",
    "weight of the position of the cue, relative to equal weights of all positions",
    "×",
)
LIFT_FEATURE = Metric(
    "attention to the symbol",
    "weight of the positions that have the symbol, relative to equal weights of all "
    "positions",
    "×",
)
EXPONENT = Metric(
    "exponent of cost",
    "p of operations ~ length ** p, where one sequence conditions another of equal "
    "length",
)


def film_along(length: int) -> Tensor:
    """FiLM of one sequence by another, position by position."""
    layer, x = fw.FiLM(32, 32), torch.ones(1, 32, length)
    return layer(x, torch.ones(1, 32, length))  # type: ignore[no-any-return]


def attention_along(length: int) -> Tensor:
    """Attention from one sequence to another."""
    layer, x = CrossAttention(32, 32), torch.ones(1, length, 32)
    return layer(x, torch.ones(1, length, 32))  # type: ignore[no-any-return]


def cost_exponent(config: Config) -> float | None:
    """`EXPONENT` of FiLM or of attention; None for both or neither."""
    if config.shuffled_condition or config.conditioned == (
        config.pooling == "attention"
    ):
        return None
    along = film_along if config.conditioned else attention_along
    return exponent(LENGTHS, operations(along, LENGTHS))


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy by kind of question, where the network attends, how its cost grows with length."""
    source = data(replace(config, batch_size=config.test_questions), 1_000_000)
    batch = to_device(source.batch(0), trained.learner.device)
    network: Any
    with trained.evaluating() as network:
        right = network(batch).argmax(1) == batch.answers
        lift = lifts(network.attention(batch), batch) if config.reads_grid else {}
    place, feature = (Proportion.of(right[batch.task == i]) for i in range(len(KINDS)))
    found: dict[Metric, Proportion | float] = {PLACE: place, FEATURE: feature}
    if lift:
        found |= {LIFT_PLACE: lift["lift_place"], LIFT_FEATURE: lift["lift_feature"]}
    if (power := cost_exponent(config)) is not None:
        found[EXPONENT] = power
    return Measurement.of(place + feature, found)


SMALL = Config(steps=1_500, intervals=Intervals(log=100, save=500))

SYSTEM = System(
    name="attention",
    doc=__doc__,
    paper=Paper(
        "Dumoulin et al. 2018: Feature-wise transformations. Distill; Vaswani et al. "
        "2017: Attention Is All You Need. NeurIPS",
        "https://distill.pub/2018/feature-wise-transformations",
        "related ideas, attention; Vaswani et al., eq. 1, table 1",
    ),
    world=SYMBOL_GRIDS,
    presets={
        "tiny": replace(
            SMALL, steps=30, side=3, symbols=4, batch_size=32, test_questions=64
        ),
        "small": SMALL,
        "paper": replace(SMALL, side=14, symbols=32, attention_width=63, both_width=26),
    },
    arms=(
        Arm(
            "film",
            "the system: features are scaled and shifted, the same at all positions",
        ),
        Arm(
            "attention",
            "positions are weighted by softmax and summed; as many parameters",
            conditioned=False,
            pooling="attention",
        ),
        Arm(
            "both",
            "attention over the map of a trunk with FiLM; as many parameters",
            pooling="attention",
        ),
        Arm("condition", "the cue alone", reads_grid=False, conditioned=False),
        Arm("input", "the grid alone", conditioned=False),
        Arm(
            "shuffled",
            "control: FiLM by the cue of another question of its kind",
            shuffled_condition=True,
        ),
    ),
    build=Network,
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    metrics=(PLACE, FEATURE, LIFT_PLACE, LIFT_FEATURE, EXPONENT),
    finding="At equal parameters attention answers questions about a position and FiLM "
    "questions about a feature, each far better than the other; both together answer "
    "all questions.",
    claims=(
        Claim(
            "Attention answers questions about a position better than FiLM.",
            above(PLACE, "attention", "film", 10),
            Statement(
                "attention weights positions, FiLM weights features",
                "Distill, related ideas, attention",
                comparable="no: the essay has no experiment",
            ),
        ),
        Claim(
            "FiLM answers questions about a feature better than attention.",
            above(FEATURE, "film", "attention", 10),
            Statement(
                "attention weights positions, FiLM weights features",
                "Distill, related ideas, attention",
                comparable="no: the essay has no experiment",
            ),
        ),
        Claim("FiLM makes use of the cue.", above(ACCURACY, "film", "input", 20)),
        Claim(
            "FiLM uses the cue of its own question.",
            above(ACCURACY, "film", "shuffled", 20),
            added=("small",),
        ),
        Claim(
            "The cue of another question is worth no more than none.",
            within(ACCURACY, "shuffled", "input", 5),
        ),
        Claim(
            "Maxima of a map with FiLM are where the symbol of the cue is.",
            at_least(LIFT_FEATURE, "film", 2),
        ),
        Claim(
            "The cost of attention grows faster than in proportion to the length.",
            at_least(EXPONENT, "attention", 1.6),
            Statement(
                "operations per layer grow with the square of the length",
                "Vaswani et al., table 1",
                "exponent 2",
                "yes",
            ),
        ),
        Claim(
            "The cost of FiLM grows in proportion to the length.",
            at_most(EXPONENT, "film", 1.3),
        ),
    ),
    departures=(
        "The sources name no experiment; world, sizes and training are the library's.",
        "What is shown of positions is about two blocks: in one run FiLM with 4 blocks, "
        "1.7 times the parameters and 4,000 steps answered all questions of both kinds.",
        "Cost is counted in operations, of n queries on n positions. The trained task "
        "has a single query, for which both costs are linear in the positions. Times: "
        "benchmarks/length.py.",
        "Preset paper has larger grids, more symbols and wider layers; no paper's "
        "experiment is repeated.",
    ),
    tuned_on="not recorded",
    tested_on="4,000 questions, each about a grid of its own, which no run is trained "
    "on",
    expected="attention close to 100 % on places, FiLM on features; both together on "
    "both",
)
