"""Gated convolutions with equation 1 as code, other units, and an LSTM; loss and optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import featurewise as fw
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.text import CorpusName

Unit: TypeAlias = Literal["glu", "gtu", "bilinear", "relu", "tanh", "linear", "lstm"]

GATED = ("glu", "gtu", "bilinear")
"""Units with two convolutions, one of which scales the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        unit: what a layer makes of its convolutions, see `ConvolutionUnit`; or "lstm", a
            recurrent network in place of the convolutions.
        shuffled: whether gates read the features of another window.
        embedding: features of a word.
        width: features of a layer with gates.
        ungated_width: features of a layer without gates, so that it has as many weights.
        lstm_width: units of the LSTM, likewise.
        layers: residual layers of convolutions; the LSTM has one layer.
        kernel: words that a convolution reads.
        vocabulary: largest number of words, with <unk>.
        learning_rate: of Adam; it falls along a cosine.
        clip: largest norm of the gradient.
        batch_size: windows in a batch.
        window: words in a window.
        data: see `CorpusName`.
    """

    unit: Unit = "glu"
    shuffled: bool = False
    embedding: int = 48
    width: int = 48
    ungated_width: int = 67
    lstm_width: int = 112
    layers: int = 4
    kernel: int = 4
    vocabulary: int = 2000
    learning_rate: float = 3e-3
    clip: float = 1.0
    batch_size: int = 8
    window: int = 64
    data: CorpusName = "novels"


@dataclass(frozen=True)
class Batch:
    """Windows of words, and those that gates read where they read others.

    Attributes:
        tokens: numbers of words.
        gating: those whose features the gates read, with ``shuffled=True``.
        targets: the word after each of the tokens.
    """

    tokens: Int64[Tensor, "B T"]
    gating: Int64[Tensor, "B T"]
    targets: Int64[Tensor, "B T"]


class ConvolutionUnit(nn.Module):
    """A layer with the equation of its unit; σ is a gate on the features of the same layer.

    Eq. 1: h(X) = (X * W + b) ⊗ σ(X * V + c). Convolutions read no later words: they are padded
    at the left by one less than their kernel.
    """

    def __init__(self, unit: Unit, width: int, kernel: int) -> None:
        super().__init__()
        self.unit, self.past = unit, kernel - 1
        self.values = weight_norm(nn.Conv1d(width, width, kernel))  # W and b
        if unit in GATED:
            self.gates = weight_norm(nn.Conv1d(width, width, kernel))  # V and c
        self.site = fw.Site("unit", width, fw.Gate(ceiling=1))

    def forward(
        self, x: Float[Tensor, "_ C T"], read: Float[Tensor, "_ C T"]
    ) -> Float[Tensor, "_ C T"]:
        """The features of the next layer; gates are those of ``read``."""
        a: Tensor = self.values(F.pad(x, (self.past, 0)))
        if self.unit in GATED:
            b: Tensor = self.gates(F.pad(read, (self.past, 0)))
            if self.unit == "glu":
                return self.site.modulate(a, {"gamma": b})  # a ⊗ σ(b)
            if self.unit == "gtu":
                return self.site.modulate(a.tanh(), {"gamma": b})
            return a * b
        if self.unit == "relu":
            return a.relu()
        return a.tanh() if self.unit == "tanh" else a


class Convolutions(nn.Module):
    """Figure 1: words as vectors, then residual layers; every position sees earlier ones only."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        gated, self.shuffled = config.unit in GATED, config.shuffled
        width = config.width if gated else config.ungated_width
        self.enter = nn.Conv1d(config.embedding, width, 1)
        self.units = nn.ModuleList(
            ConvolutionUnit(config.unit, width, config.kernel)
            for _ in range(config.layers)
        )
        self.leave = nn.Conv1d(width, config.embedding, 1)

    def forward(
        self, x: Float[Tensor, "B T E"], gating: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B T E"]:
        """A vector for each position, to be compared with those of words."""
        x = self.enter(x.mT)
        if not self.shuffled:
            for unit in self.units:
                x = x + unit(x, x)
            return self.leave(x).mT  # type: ignore[no-any-return]
        other = self.enter(
            gating.mT
        )  # the control: its own gates and those of x are these
        for unit in self.units:
            x, other = x + unit(x, other), other + unit(other, other)
        return self.leave(x).mT  # type: ignore[no-any-return]


class Recurrence(nn.Module):
    """The baseline: an LSTM of one layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.lstm = nn.LSTM(config.embedding, config.lstm_width, batch_first=True)
        self.leave = nn.Linear(config.lstm_width, config.embedding)

    def forward(
        self, x: Float[Tensor, "B T E"], gating: Float[Tensor, "B T E"]
    ) -> Float[Tensor, "B T E"]:
        """A vector for each position; what gates would read is not used."""
        return self.leave(self.lstm(x)[0])  # type: ignore[no-any-return]


class LanguageModel(nn.Module):
    """Logits of the next word from scalar products with the vectors of words."""

    def __init__(self, config: Config, words: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, config.embedding)
        nn.init.normal_(self.embed.weight, std=config.embedding**-0.5)
        self.trunk = (
            Recurrence(config) if config.unit == "lstm" else Convolutions(config)
        )
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Logits of the word after each position."""
        x = self.trunk(self.embed(batch.tokens), self.embed(batch.gating))
        return F.linear(x, self.embed.weight, self.bias)


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the next words."""
    logits = network(batch).flatten(0, 1).float()
    return F.cross_entropy(logits, batch.targets.flatten()), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule; the gradient is clipped."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Supervised(
        network,
        objective,
        optimizer,
        schedule=cosine(config.steps, warmup=min(50, config.steps // 2)),
        clip=config.clip,
    )
