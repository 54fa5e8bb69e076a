"""Method of attention against FiLM: one network, conditioned in several ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.analysis import pooled_places
from featurewise.models.attention import CrossAttention
from featurewise.models.trunks import CoordinateConv
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.small.places import KINDS, Places


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
