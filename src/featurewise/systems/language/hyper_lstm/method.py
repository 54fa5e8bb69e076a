"""HyperLSTM with its equations as code; loss and optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Real
from featurewise.study import system
from featurewise.systems.language.hyper_lstm.baselines import (
    NETWORKS,
    NormStep,
    States,
    Step,
    lstm_step,
    start_gates,
)
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.text import CorpusName

Cell: TypeAlias = Literal["hyper", "lstm", "norm", "multiplicative", "rnn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        cell: "hyper"; or a baseline: an "lstm", one with layer "norm", a "multiplicative"
            RNN, or a plain "rnn" with tanh.
        normalized: whether both LSTMs of "hyper" have layer norm.
        shuffled: whether the hypernetwork reads the characters of another window.
        embedding: features of a character.
        width: units of the main LSTM.
        hyper_width: units of the LSTM that is the hypernetwork.
        signal: numbers z that each scale is a linear map of.
        start: value of the scales d_h and d_x at the beginning.
        lstm_width: units of the baseline with or without layer norm, so that it has as many
            weights.
        multiplicative_width: units, and factors, of the multiplicative RNN, likewise.
        rnn_width: units of the plain RNN, likewise.
        learning_rate: of Adam; it falls along a cosine.
        clip: largest norm of the gradient.
        batch_size: windows in a batch.
        window: characters in a window.
        data: see `CorpusName`.
    """

    cell: Cell = "hyper"
    normalized: bool = True
    shuffled: bool = False
    embedding: int = 32
    width: int = 128
    hyper_width: int = 32
    signal: int = 4
    start: Real = 0.1
    lstm_width: int = 153
    multiplicative_width: int = 217
    rnn_width: int = 303
    learning_rate: float = 3e-3
    clip: float = 1.0
    batch_size: int = 32
    window: int = 64
    data: CorpusName = "novels"


@dataclass(frozen=True)
class Batch:
    """Windows of characters, and those that the hypernetwork reads where it reads others.

    Attributes:
        tokens: numbers of characters.
        read: what the hypernetwork reads, with ``shuffled=True``.
        targets: the character after each of the tokens.
    """

    tokens: Int64[Tensor, "B T"]
    read: Int64[Tensor, "B T"]
    targets: Int64[Tensor, "B T"]


class Scales(nn.Module):
    """d = W_z z with signals z = W h^ + b, for each of the four gates: scales, or biases.

    Both maps are linear and the same for all characters, so they are multiplied once a window.
    """

    def __init__(self, hyper: int, signal: int, width: int, start: float) -> None:
        super().__init__()
        self.signals = nn.Linear(hyper, 4 * signal)
        self.scales = nn.Parameter(torch.full((4, signal, width), start / signal))
        nn.init.ones_(self.signals.bias)
        if start:  # all d are `start` at the beginning
            nn.init.zeros_(self.signals.weight)

    def composed(self) -> tuple[Float[Tensor, "N G"], Float[Tensor, " G"]]:
        """The matrix and the vector that give d from h^, for all gates."""
        rows = torch.cat((self.signals.weight.T, self.signals.bias[None]))
        product = torch.einsum(
            "ngs,gsh->ngh", rows.reshape(len(rows), 4, -1), self.scales
        )
        return product[:-1].flatten(1), product[-1].flatten()


class HyperLSTM(nn.Module):
    """An LSTM whose weights are scaled, row by row, by a smaller LSTM that reads its state.

    The equations of the paper::

        h^_t = LSTM^([h_{t-1}; x_t])
        y_t  = d_h(h^_t) * (W_h h_{t-1}) + d_x(h^_t) * (W_x x_t) + b(h^_t)

    for y each of the gates i, f, o and the input g; then as in an LSTM.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hyper, signal = config.width, config.hyper_width, config.signal
        self.hyper_hidden = nn.Linear(width + hyper, 4 * hyper)
        self.hyper_inputs = nn.Linear(config.embedding, 4 * hyper, bias=False)
        self.hidden = nn.Linear(width, 4 * width, bias=False)  # W_h
        self.inputs = nn.Linear(config.embedding, 4 * width, bias=False)  # W_x
        self.hidden_scale = Scales(hyper, signal, width, config.start)  # d_h
        self.input_scale = Scales(hyper, signal, width, config.start)  # d_x
        self.added = Scales(hyper, signal, width, 0.0)  # b, but for the next
        self.bias = nn.Parameter(torch.zeros(4 * width))
        start_gates(self.hidden.weight, self.bias)
        nn.init.zeros_(self.hyper_hidden.bias)
        nn.init.ones_(self.hyper_hidden.bias.detach().chunk(4)[1])
        self.width, self.hyper_width = width, hyper
        self.step: Step = NormStep(width) if config.normalized else lstm_step
        self.hyper_step: Step = NormStep(hyper) if config.normalized else lstm_step

    def forward(
        self, x: Float[Tensor, "B T E"], read: Float[Tensor, "B T E"]
    ) -> list[States]:
        """h, h^ and the scales d_h, d_x after each character; h^ reads ``read``."""
        parts = [
            each.composed() for each in (self.hidden_scale, self.input_scale, self.added)
        ]
        matrix = torch.cat([part[0] for part in parts], 1)
        vector = torch.cat([*(part[1] for part in parts[:2]), parts[2][1] + self.bias])
        h = c = x.new_zeros(len(x), self.width)
        h_hat = c_hat = x.new_zeros(len(x), self.hyper_width)
        inputs, hyper_inputs = (
            self.inputs(x).unbind(1),
            self.hyper_inputs(read).unbind(1),
        )
        found: list[States] = []
        for w_x, w_hat in zip(inputs, hyper_inputs, strict=True):
            y_hat = w_hat + self.hyper_hidden(torch.cat((h, h_hat), 1))
            h_hat, c_hat = self.hyper_step(y_hat, c_hat)
            d_h, d_x, b = torch.addmm(vector, h_hat, matrix).chunk(3, 1)
            y = fw.film(self.hidden(h), d_h, None) + fw.film(w_x, d_x, b)
            h, c = self.step(y, c)
            found.append((h, h_hat, d_h, d_x))
        return found


class CharacterModel(nn.Module):
    """Logits of the next character, from the state of a recurrent cell."""

    def __init__(self, config: Config, characters: int) -> None:
        super().__init__()
        self.shuffled = config.shuffled
        self.embed = nn.Embedding(characters, config.embedding)
        self.network: nn.Module
        if config.cell == "hyper":
            self.network, width = HyperLSTM(config), config.width
        else:
            width = {
                "multiplicative": config.multiplicative_width,
                "rnn": config.rnn_width,
            }.get(config.cell, config.lstm_width)
            self.network = NETWORKS[config.cell](config.embedding, width)
        self.leave = nn.Linear(width, characters)

    def states(self, batch: Batch) -> list[States]:
        """The states after each character."""
        x = self.embed(batch.tokens)
        found: list[States] = self.network(
            x, self.embed(batch.read) if self.shuffled else x
        )
        return found

    def forward(self, batch: Batch) -> Float[Tensor, "B T V"]:
        """Logits of the character after each position."""
        h = torch.stack([each[0] for each in self.states(batch)], 1)
        return self.leave(h)  # type: ignore[no-any-return]


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the next characters."""
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
