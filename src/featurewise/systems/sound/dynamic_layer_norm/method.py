"""Method of dynamic layer normalisation: each layer's norm reads a summary of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Range
from featurewise.generators import Learned
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.sound import PHONES
from featurewise.worlds.sound.features import MELS

STACKED = 2
"""Log-mel frames that the network reads at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One acoustic model and its training.

    Attributes:
        norm: γ and β of the layer norms: "dynamic", predicted from a summary of the
            utterance; "learned", the same for all utterances; or "none": no norm at all.
        summarised: whose summary it is: of the "own" utterance, or of an "other" one.
        wide: whether layers have `wide_hidden` units a direction instead of `hidden`.
        hidden: units of each layer and direction.
        wide_hidden: units that give a network of learned norms as many parameters.
        width: outputs of each layer, a linear map of both directions.
        layers: bidirectional layers.
        factors: length of a summary.
        frames: log-mel frames of each utterance; the network reads two at a time.
        per_voice: training utterances of each voice.
        learning_rate: of Adam; it falls along a cosine.
        clip: largest norm of the gradient.
        batch_size: utterances per batch, each of another voice.
        data: "voices" of espeak-ng, or "made" frames with two formants.
    """

    norm: Literal["dynamic", "learned", "none"] = "dynamic"
    summarised: Literal["own", "other"] = "own"
    wide: bool = False
    hidden: int = 48
    wide_hidden: int = 72
    width: int = 48
    layers: int = 2
    factors: int = 32
    frames: Annotated[int, Range(STACKED, multiple=STACKED)] = 80
    per_voice: int = 16
    learning_rate: float = 1e-2
    clip: float = 10.0
    batch_size: int = 16
    data: Literal["voices", "made"] = "voices"


@dataclass(frozen=True)
class Batch:
    """Utterances of one length.

    Attributes:
        features: pairs of log-mel frames, normalised.
        summarised: those whose summary is read, with ``summarised="other"``.
        phones: class of each pair, that of its first frame.
    """

    features: Float[Tensor, "B T 80"]
    summarised: Float[Tensor, "B T 80"]
    phones: Int64[Tensor, "B T"]


class Summary(nn.Module):
    """a = mean over t of tanh(W h_t + b)."""

    def __init__(self, width: int, factors: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, factors)

    def forward(self, h: Float[Tensor, "B T _"]) -> Float[Tensor, "B _"]:
        """Summary of each utterance."""
        return self.linear(h).tanh().mean(1)  # type: ignore[no-any-return]


class NormedLSTM(nn.Module):
    """A bidirectional LSTM with layer norm whose γ and β depend on the utterance.

        gates = γ_in * LN(W_x x_t) + γ_hid * LN(W_h h_{t-1}) + β
        c_t = σ(f) c_{t-1} + σ(i) tanh(g)
        h_t = σ(o) tanh(LN(c_t)),   the last norm with a learned scale and shift

    γ_in, γ_hid and β are linear maps of the summary a of the layer's input. Both
    directions read the same summary.

    Args:
        inputs: width of x.
        hidden: H, units of each direction.
        config: norm, factors and width.
    """

    def __init__(self, inputs: int, hidden: int, config: Config) -> None:
        super().__init__()
        self.hidden = hidden
        self.from_input = nn.Linear(inputs, 8 * hidden, bias=config.norm == "none")
        self.from_state = nn.Parameter(torch.empty(2, hidden, 4 * hidden))
        nn.init.uniform_(self.from_state, -(hidden**-0.5), hidden**-0.5)
        self.project = nn.Linear(2 * hidden, config.width)
        if config.norm == "none":
            with torch.no_grad():
                self.from_input.bias.copy_(_lstm_biases(hidden))
        else:
            self.cell_scale = nn.Parameter(torch.ones(2, 1, hidden))
            self.cell_shift = nn.Parameter(torch.zeros(2, 1, hidden))
        self.layout = _layout(hidden)
        self.generator = _generator(self.layout, hidden, config)
        self.summary = (
            Summary(inputs, config.factors) if config.norm == "dynamic" else None
        )

    def forward(
        self, x: Float[Tensor, "B T _"], summarised: Float[Tensor, "B T _"]
    ) -> Float[Tensor, "B T _"]:
        """Outputs for inputs ``x``, with the summary of ``summarised``."""
        driven, gamma = self.from_input(x), None
        if self.generator is not None:
            a = () if self.summary is None else (self.summary(summarised),)
            values = self.layout.split(self.generator(*a))
            ln = normed(driven.unflatten(2, (2, -1))).flatten(2)
            driven = self.layout["input"].modulate(ln, values["input"])
            gamma = values["state"]["gamma"] + 1
            gamma = gamma.reshape(*gamma.shape[:-1], 2, -1).movedim(-2, 0)
            gamma = gamma if gamma.ndim == 3 else gamma.unsqueeze(1)
        forward, backward = driven.unflatten(2, (2, -1)).unbind(2)
        both = torch.stack((forward, backward.flip(1))).movedim(2, 0)  # (T, 2, B, 4H)
        forward, backward = self._states(both, gamma).unbind(1)  # (T, B, H) each
        states = torch.cat((forward, backward.flip(0)), 2).movedim(0, 1)
        return self.project(states)  # type: ignore[no-any-return]

    def _states(
        self, driven: Float[Tensor, "T 2 B _"], gamma: Float[Tensor, "2 _ _"] | None
    ) -> Float[Tensor, "T 2 B _"]:
        """State h of every step, of both directions at once."""
        h = driven.new_zeros(*driven.shape[1:3], self.hidden)
        c, found = h, []
        for step in driven.unbind(0):
            recurrent = torch.bmm(h, self.from_state)
            if gamma is not None:
                recurrent = gamma * normed(recurrent)
            i, f, g, o = (step + recurrent).chunk(4, 2)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            shown = c
            if gamma is not None:
                shown = normed(c) * self.cell_scale + self.cell_shift
            found.append(h := o.sigmoid() * shown.tanh())
        return torch.stack(found)


def normed(x: Float[Tensor, "*other C"]) -> Float[Tensor, "*other C"]:
    """LN: mean 0 and variance 1 over the features."""
    return F.layer_norm(x, x.shape[-1:])


def _lstm_biases(hidden: int) -> Float[Tensor, " _"]:
    """Biases of i, f, g and o, twice: 1 for f, otherwise 0."""
    return torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat(2).repeat_interleave(hidden)


def _layout(hidden: int) -> fw.Layout:
    """The sites of one layer: γ_in and β at what comes from x, γ_hid at what comes from h."""
    return fw.Layout(
        (
            fw.Site("input", 8 * hidden, fw.Affine(), axis=-1),
            fw.Site("state", 8 * hidden, fw.Scale(), axis=-1),
        )
    )


def _generator(
    layout: fw.Layout, hidden: int, config: Config
) -> fw.Linear | Learned | None:
    """Of γ_in, β and γ_hid, which start near 1, the LSTM biases, and 1."""
    if config.norm == "none":
        return None
    biases = _lstm_biases(hidden)
    start = torch.cat((torch.zeros_like(biases), biases, torch.zeros_like(biases)))
    generator = fw.Linear(config.factors) if config.norm == "dynamic" else Learned()
    generator.bind(layout)
    with torch.no_grad():
        if isinstance(generator, Learned):
            generator.vector.copy_(start)  # type: ignore[union-attr]
        else:
            nn.init.uniform_(generator.head.weight, -0.01, 0.01)  # type: ignore[union-attr]
            generator.head.bias.copy_(start)  # type: ignore[union-attr]
    return generator


class AcousticModel(nn.Module):
    """Layers one above the other; a linear map of the last gives the phone of each frame."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.reads_other = config.summarised == "other"
        hidden = config.wide_hidden if config.wide else config.hidden
        self.layers = nn.ModuleList(
            NormedLSTM(STACKED * MELS if n == 0 else config.width, hidden, config)
            for n in range(config.layers)
        )
        self.classify = nn.Linear(config.width, len(PHONES))

    def inputs(self, batch: Batch) -> list[Float[Tensor, "B T _"]]:
        """What each layer reads, and what the last gives.

        Where summaries are those of other utterances, these pass through the layers, too,
        in the second half of one batch of twice the size.
        """
        x, count = batch.features, len(batch.features)
        if self.reads_other:
            x = torch.cat((x, batch.summarised))
        found = [x]
        for layer in self.layers:
            other = x[count:].repeat(2, 1, 1) if self.reads_other else x
            x = layer(x, other)
            found.append(x)
        return [each[:count] for each in found]

    def forward(self, batch: Batch) -> Float[Tensor, "B T _"]:
        """Logits of the phones of each frame."""
        return self.classify(self.inputs(batch)[-1])  # type: ignore[no-any-return]


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the phones."""
    logits = network(batch).float()
    return F.cross_entropy(logits.flatten(0, 1), batch.phones.flatten()), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam, clipped gradients and a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = cosine(config.steps, warmup=math.ceil(config.steps / 50))
    return Supervised(network, objective, optimizer, schedule=schedule, clip=config.clip)
