"""Experiment with HyperLSTM: bits per character, and where in a text the scales change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.language.hyper_lstm.method import (
    Batch,
    CharacterModel,
    Config,
)
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.text import (
    Corpus,
    TextSource,
    bits_per_character,
    corpus,
    evaluation_windows,
)

CONTEXT = 50
"""Characters before each test character, at least."""

LONGEST = 200
"""Characters in a test window."""

SHOWN = 70
"""Characters in the figure."""

_EVALUATED = 200
"""Test windows at a time."""

BITS = Metric(
    "bits per character",
    "mean cross-entropy, in bits, of all characters of the test chapters but the first, "
    f"all but those of the first {LONGEST} after at least {CONTEXT} others",
    "bits",
    "lower",
    ends=(0.0, float("inf")),
)
OTHER = Metric(
    "bits, other scales",
    "bits per character of the trained network where the hypernetwork reads another "
    "test window",
    "bits",
    "lower",
    ends=(0.0, float("inf")),
)
AT_SPACES = Metric(
    "change at spaces",
    "mean norm of the change of the scales d_h and d_x as a space or a line break is read, "
    f"divided by that at all characters; in {_EVALUATED} test windows",
    "",
    ends=(0.0, float("inf")),
)
AT_FIRST = Metric(
    "change at first letters",
    "the same at the first character of a word",
    "",
    ends=(0.0, float("inf")),
)
STATE_AT_SPACES = Metric(
    "state change at spaces",
    "as change at spaces, of the state h of the main LSTM",
    "",
    ends=(0.0, float("inf")),
)


def characters_of(config: Config) -> Corpus:
    """The corpus of a config, as characters."""
    return corpus(config.data, "character")


def build(config: Config) -> CharacterModel:
    """The network, for the characters of the training text."""
    return CharacterModel(config, len(characters_of(config).vocabulary))


@dataclass(frozen=True)
class OwnText:
    """Windows that the hypernetwork reads too.

    Attributes:
        source: windows and their targets.
    """

    source: TextSource

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        found = self.source.batch(index)
        return Batch(found.tokens, found.tokens, found.targets)


def data(config: Config, seed: int) -> Source[Batch]:
    """Windows of the training text; in the control the hypernetwork reads another one."""
    text = characters_of(config).train
    own = OwnText(TextSource(text, seed, config.batch_size, config.window))
    if config.shuffled:
        return ShuffledCondition(own, ("read",), previous_sample)
    return own


def held_out(config: Config, *, other: bool) -> tuple[Batch, Bool[Tensor, "B T"]]:
    """Windows of the test text, and whether the target at each position counts."""
    windows, last = evaluation_windows(characters_of(config).test, LONGEST, CONTEXT)
    read = windows.tokens.roll(1, 0) if other else windows.tokens
    counted = torch.arange(LONGEST) >= LONGEST - last[:, None]
    return Batch(windows.tokens, read, windows.targets), counted


def parts(batch: Batch) -> Iterator[Batch]:
    """A batch in parts of a size that fits in memory."""
    for start in range(0, len(batch.tokens), _EVALUATED):
        rows = slice(start, start + _EVALUATED)
        yield Batch(batch.tokens[rows], batch.read[rows], batch.targets[rows])


@torch.no_grad()
def bits_of(network: nn.Module, config: Config, *, other: bool) -> float:
    """Bits per character of the test text."""
    batch, counted = held_out(config, other=other)
    costs = torch.cat(
        [
            F.cross_entropy(network(part).mT.float(), part.targets, reduction="none")
            for part in parts(batch)
        ]
    )
    return bits_per_character(costs[counted].double().sum().item(), int(counted.sum()))


def reading_other(network: nn.Module, config: Config) -> CharacterModel:
    """A copy of a trained network in eval mode, whose hypernetwork reads ``batch.read``."""
    other = build(replace(config, shuffled=True))
    other.load_state_dict(network.state_dict())
    return other.eval()


@dataclass(frozen=True)
class Changes:
    """By how much a network changes as it reads each character of windows, but the first.

    Attributes:
        scales: norm of the change of d_h and d_x.
        state: norm of the change of h.
        spaces: whether the character is a space or a line break.
        first: whether it is the first after one.
    """

    scales: Float[Tensor, "B T"]
    state: Float[Tensor, "B T"]
    spaces: Bool[Tensor, "B T"]
    first: Bool[Tensor, "B T"]


@torch.no_grad()
def changes(network: CharacterModel, config: Config, batch: Batch) -> Changes:
    """Changes in the windows of a batch, after the first `CONTEXT` characters of each."""
    states = network.states(batch)
    h = torch.stack([each[0] for each in states], 1)
    d = torch.stack([torch.cat(each[2:], 1) for each in states], 1)
    vocabulary = characters_of(config).vocabulary
    blank = torch.isin(batch.tokens, vocabulary.encode(" \n").to(batch.tokens.device))
    late = slice(CONTEXT - 1, None)
    return Changes(
        d.diff(dim=1)[:, late].norm(dim=2),
        h.diff(dim=1)[:, late].norm(dim=2),
        blank[:, 1:][:, late],
        (blank[:, :-1] & ~blank[:, 1:])[:, late],
    )


def relative(change: Float[Tensor, "B T"], at: Bool[Tensor, "B T"]) -> float:
    """Mean change at some characters, divided by that at all."""
    return (change[at].mean() / change.mean()).item()


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Bits per character; of HyperLSTM also where its scales change."""
    with trained.evaluating() as module:
        numbers = {BITS: bits_of(module, config, other=config.shuffled)}
        if config.cell == "hyper" and not config.shuffled:
            other = reading_other(module, config)
            numbers[OTHER] = bits_of(other, config, other=True)
            batch, _ = held_out(config, other=False)
            found = changes(other, config, next(parts(batch)))
            numbers[AT_SPACES] = relative(found.scales, found.spaces)
            numbers[AT_FIRST] = relative(found.scales, found.first)
            numbers[STATE_AT_SPACES] = relative(found.state, found.spaces)
        return Measurement.of(None, numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Below the characters of a test text: what each costs, and how much the scales change."""
    batch, _ = held_out(config, other=config.shuffled)
    one = Batch(batch.tokens[:2], batch.read[:2], batch.targets[:2])
    with trained.evaluating() as network:
        with torch.no_grad():
            costs = F.cross_entropy(network(one).mT, one.targets, reduction="none")
        bars = [(costs[0, CONTEXT - 1 :], "cost (nats)")]
        if config.cell == "hyper":
            other = reading_other(network, config)
            bars.append((changes(other, config, one).scales[0], "change of d"))
    texts = characters_of(config).vocabulary.decode(one.tokens[0, CONTEXT:].tolist())
    plot = figure(10.0, 1.6 * len(bars) + 0.4)
    for axes, (heights, label) in zip(
        plot.subplots(len(bars), 1, squeeze=False)[:, 0], bars, strict=True
    ):
        axes.bar(range(SHOWN), heights[:SHOWN].tolist(), color=BAR)
        axes.set_xticks(
            range(SHOWN), [each.replace("\n", "¶") for each in texts[:SHOWN]]
        )
        axes.set(ylabel=label, xlim=(-0.6, SHOWN - 0.4))
        axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
