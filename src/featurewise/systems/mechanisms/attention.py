"""Attention against FiLM. Dumoulin et al. 2018, *Feature-wise transformations*, Distill.

Attention looks at places: softmax over them, weighted sum, a vector. FiLM looks at features:
γ(z) ⊙ x + β(z), the same at all places. So a cue that names a place should suit attention, one that
names a feature FiLM, at equal parameters. Their cost is counted against the length of sequences.

    featurewise run attention --arms all --seeds 3
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import pooled_places
from featurewise.analysis.cost import LENGTHS, exponent, operations
from featurewise.models.attention import CrossAttention
from featurewise.models.trunks import CoordinateConv
from featurewise.study.claims import above, at_least, at_most, within
from featurewise.study.results import Measurement, Proportion
from featurewise.study.system import Arm, Paper, Settings, System
from featurewise.training.batch import to_device
from featurewise.training.loop import Intervals
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts

ALONG = {
    "film": lambda n: fw.FiLM(32, 32)(torch.ones(1, 32, n), torch.ones(1, 32, n)),
    "attention": lambda n: CrossAttention(32, 32)(torch.ones(1, n, 32), torch.ones(1, n, 32)),
}
"""One sequence of length n that another conditions, by FiLM place by place and by attention."""


@dataclass(frozen=True, kw_only=True)
class Looking(Settings):
    """Sizes; the widths are such that the arms compared have as many parameters."""

    side: int = 6
    symbols: int = 8
    width: int = 32
    attention_width: int = 40
    both_width: int = 27
    blocks: int = 2
    hidden: int = 32
    batch_size: int = 128
    questions: int = 4_000
    learning_rate: float = 2e-2


class Block(nn.Module):
    """``x + relu(norm(1x1(x, coordinates)))``: no place sees another. FiLM goes after the norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = CoordinateConv(width, width)
        self.norm = nn.BatchNorm2d(width, affine=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same form."""
        return x + F.relu(self.norm(self.project(x)))


class Network(nn.Module):
    """A trunk of places, conditioned or not; pooled, or attended to; or the cue alone."""

    def __init__(self, s: Looking, arm: str) -> None:
        super().__init__()
        width = {"attention": s.attention_width, "both": s.both_width}.get(arm, s.width)
        cue, self.arm = s.side**2 + s.symbols, arm
        self.told = arm in ("film", "both", "shuffled")
        if arm != "condition":
            self.stem = CoordinateConv(s.symbols, width)
            self.trunk: nn.Module = nn.Sequential(*(Block(width) for _ in range(s.blocks)))
        if self.told:
            self.trunk = fw.condition(self.trunk, at="*.norm", generator=fw.Linear(cue))
        self.attend = CrossAttention(cue, width) if arm in ("attention", "both") else None
        pooled = {"condition": cue, "attention": width, "both": width}.get(arm, 2 * width)
        hidden = nn.Linear(pooled, s.hidden, bias=False), nn.BatchNorm1d(s.hidden), nn.ReLU()
        self.answer = nn.Sequential(*hidden, nn.Linear(s.hidden, len(KINDS) * s.symbols))

    def map(self, batch: Places) -> Float[Tensor, "B C H W"]:
        """The features that are pooled or attended to."""
        x, told = F.relu(self.stem(batch.grids)), {"condition": batch.cue} if self.told else {}
        return self.trunk(x, **told)  # type: ignore[no-any-return]

    def look(self, batch: Places) -> Float[Tensor, "B L"]:
        """Where it looks: weights of attention, or the places of the maxima that are pooled."""
        x = self.map(batch)
        if self.attend is None:
            return pooled_places(x).flatten(1)
        return self.attend.weights(batch.cue[:, None], x.flatten(2).mT)[:, 0]

    def forward(self, batch: Places) -> Float[Tensor, "B S"]:
        """Logits of the answers to the kind of question that is asked."""
        pooled = batch.cue
        if self.arm != "condition":
            features = self.map(batch).flatten(2)
            if self.attend is None:
                pooled = torch.cat((features.amax(2), features.mean(2)), dim=1)
            else:
                pooled = self.attend(batch.cue[:, None], features.mT).squeeze(1)
        logits: Tensor = self.answer(pooled).unflatten(1, (len(KINDS), -1))
        return logits[torch.arange(len(logits), device=logits.device), batch.task]


def objective(network: nn.Module, batch: Places) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers."""
    return F.cross_entropy(network(batch), batch.answers), {}


def stepper(network: nn.Module, s: Looking, arm: Arm) -> Supervised:
    """Adam with a cosine schedule."""
    adam = torch.optim.Adam(network.parameters(), s.learning_rate, fused=True)
    return Supervised(network, objective, adam, schedule=cosine(s.steps, warmup=s.steps // 20))


def data(s: Looking, arm: Arm, seed: int) -> PlaceSource:
    """Questions about places and about features in turn."""
    sizes = {"side": s.side, "symbols": s.symbols, "batch_size": s.batch_size}
    return PlaceSource(**sizes, seed=seed, shuffled=arm.name == "shuffled")


def evaluate(trained: Supervised, s: Looking, arm: Arm) -> Measurement:
    """Accuracy by kind of question, where the network looked, how its cost grows with length."""
    source = replace(data(s, arm, 1_000_000), batch_size=s.questions)
    batch = to_device(source.batch(0), trained.learner.device)
    with trained.evaluating() as network:
        right = network(batch).argmax(1) == batch.answers
        look: Any = network.look
        values = lifts(look(batch), batch) if arm.name != "condition" else {}
    found = {kind: Proportion.of(right[batch.task == i]) for i, kind in enumerate(KINDS)}
    if arm.name in ALONG:
        values["exponent"] = exponent(LENGTHS, operations(ALONG[arm.name], LENGTHS))
    return Measurement(found["place"] + found["feature"], found, values)


SMALL = Looking(steps=1_500, every=Intervals(log=100, save=500))

SYSTEM = System(
    name="attention",
    title="Attention against FiLM: which place, and which feature",
    what="A cue conditions a trunk of places by FiLM after each norm; or it attends to the places.",
    paper=Paper(
        "Dumoulin et al. 2018: Feature-wise transformations. Distill; Vaswani et al. 2017: "
        "Attention Is All You Need. NeurIPS",
        "https://distill.pub/2018/feature-wise-transformations",
        "related ideas, attention; Vaswani et al., eq. 1, table 1",
    ),
    world="Grids of symbols: which one lies at this place, and how many places show this one.",
    licence="made by the library, Apache-2.0",
    presets={
        "tiny": replace(SMALL, steps=30, side=3, symbols=4, batch_size=32, questions=64),
        "small": SMALL,
        "paper": replace(SMALL, side=14, symbols=32, attention_width=63, both_width=26),
    },
    arms=(
        Arm("film", "the system: features are scaled and shifted, the same at all places"),
        Arm("attention", "places are weighted by softmax and summed; as many parameters"),
        Arm("both", "attention over the places of a trunk with FiLM; as many parameters"),
        Arm("condition", "answers without looking at the grid"),
        Arm("input", "answers without the cue"),
        Arm("shuffled", "control: FiLM that gets the cue of another question of its kind"),
    ),
    build=lambda s, arm: Network(s, arm.name),
    stepper=stepper,
    data=data,
    evaluate=evaluate,
    claims=(
        above("attention", "film", 10.0, "place"),
        above("film", "attention", 10.0, "feature"),
        above("film", "input", 20.0),
        above("film", "shuffled", 20.0, added=True),
        within("shuffled", "input", 5.0),
        at_least("film", 2.0, "lift_feature"),
        at_least("attention", 1.6, "exponent"),
        at_most("film", 1.3, "exponent"),
    ),
    departures=(
        "The sources name no experiment; world, sizes and training are the library's.",
        "What is shown of places is about two blocks: in one run FiLM with 4 blocks, 1.7 times the "
        "parameters and 4,000 steps answered all questions of both kinds.",
        "Cost is counted in operations, of n queries on n places; here is one query, and both are "
        "linear in places. Times: benchmarks/length.py.",
        "Preset paper is larger only, as no paper's experiment is repeated.",
    ),
    tested_on="4,000 questions, each about a grid of its own, which no run is trained on",
    measures={
        "place": "accuracy: which symbol lies at the place of the cue",
        "feature": "accuracy: how many places show the symbol of the cue",
        "lift_place": "times as often as by chance it looks at the place that is asked about",
        "lift_feature": "times as often as by chance it looks at places that show the symbol",
        "exponent": "of operations ~ n ** exponent, where a sequence of n conditions one of n",
    },
    band="attention close to 100 % on places, FiLM on features; both together on both",
)
