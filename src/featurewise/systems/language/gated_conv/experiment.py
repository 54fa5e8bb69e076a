"""Experiment with gated convolutions: perplexity of unseen chapters, gradients, gates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.language.gated_conv.method import (
    Batch,
    Config,
    ConvolutionUnit,
    LanguageModel,
)
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.text import (
    Corpus,
    TextSource,
    corpus,
    evaluation_windows,
    perplexity,
)

CONTEXT = 32
"""Words before each test word, at least."""

LONGEST = 128
"""Words in a test window, where the text has as many."""

_EVALUATED = 50
"""Test windows at a time."""

PERPLEXITY = Metric(
    "perplexity",
    "exp of the mean cross-entropy of all words of the test chapters but the first, `<eos>` "
    f"and `<unk>` among them; all but those of the first {LONGEST} after at least {CONTEXT} others",
    better="lower",
    ends=(1.0, float("inf")),
)
OTHER = Metric(
    "perplexity, other gates",
    "perplexity of the trained network where the gates of each test window read another one",
    better="lower",
    ends=(1.0, float("inf")),
)
KEPT = Metric(
    "gradient kept",
    "norm of the gradient of the loss with respect to X * W + b, divided by that with "
    "respect to the output of the unit; mean over layers, 50 test windows",
    "",
    ends=(0.0, float("inf")),
)


def words_of(config: Config) -> Corpus:
    """The corpus of a config, as words."""
    return corpus(config.data, "word", config.vocabulary)


def build(config: Config) -> LanguageModel:
    """The network, with a vector for each word of the training text."""
    return LanguageModel(config, len(words_of(config).vocabulary))


@dataclass(frozen=True)
class OwnWords:
    """Windows whose gates read the windows themselves.

    Attributes:
        source: windows and their targets.
    """

    source: TextSource

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        found = self.source.batch(index)
        return Batch(found.tokens, found.tokens, found.targets)


def data(config: Config, seed: int) -> Source[Batch]:
    """Windows of the training text; in the control the gates read another window."""
    text = words_of(config).train
    own = OwnWords(TextSource(text, seed, config.batch_size, config.window))
    if config.shuffled:
        return ShuffledCondition(own, ("gating",), previous_sample)
    return own


@dataclass(frozen=True)
class HeldOutText:
    """A text to be predicted, in parts that fit in memory.

    Attributes:
        batch: its windows; gates read the windows themselves, or each the one before it.
        counted: at each position, whether its target counts.
    """

    batch: Batch
    counted: Tensor

    def parts(self) -> Iterator[HeldOutText]:
        """So many windows at a time."""
        for start in range(0, len(self.counted), _EVALUATED):
            rows = slice(start, start + _EVALUATED)
            batch = self.batch
            part = Batch(batch.tokens[rows], batch.gating[rows], batch.targets[rows])
            yield HeldOutText(part, self.counted[rows])


def held_out_text(config: Config, *, other: bool) -> HeldOutText:
    """The test chapters, where gates read their own window or another one."""
    windows, last = evaluation_windows(words_of(config).test, LONGEST, CONTEXT)
    counted = torch.arange(LONGEST) >= LONGEST - last[:, None]
    gating = windows.tokens.roll(1, 0) if other else windows.tokens
    return HeldOutText(Batch(windows.tokens, gating, windows.targets), counted)


@torch.no_grad()
def perplexity_of(network: nn.Module, text: HeldOutText) -> float:
    """Perplexity of the targets that count."""
    nats = 0.0
    for part in text.parts():
        costs = F.cross_entropy(
            network(part.batch).mT.float(), part.batch.targets, reduction="none"
        )
        nats += costs[part.counted].double().sum().item()
    return perplexity(nats, int(text.counted.sum()))


def reading_other(network: nn.Module, config: Config) -> nn.Module:
    """A copy of a trained network in eval mode, whose gates read ``batch.gating``."""
    other = build(replace(config, shuffled=True))
    other.load_state_dict(network.state_dict())
    return other.eval()


@torch.enable_grad()
def gradient_kept(network: nn.Module, batch: Batch) -> list[float]:
    """For each layer: norm of the gradient at X * W + b, divided by that at the output."""
    norms: dict[str, Float[Tensor, ""]] = {}

    def norm(name: str) -> Any:
        return lambda gradient: norms.update({name: gradient.norm()})

    def watch(name: str) -> Any:
        return lambda module, inputs, output: output.register_hook(norm(name)) and None

    units = [each for each in network.modules() if isinstance(each, ConvolutionUnit)]
    hooks = []
    for i, unit in enumerate(units):
        hooks.append(unit.register_forward_hook(watch(f"output {i}")))
        hooks.append(unit.values.register_forward_hook(watch(f"values {i}")))
    logits = network(batch).flatten(0, 1).float()
    loss = F.cross_entropy(logits, batch.targets.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    return [
        float(norms[f"values {i}"] / norms[f"output {i}"]) for i in range(len(units))
    ]


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Perplexity; of convolutions also gradients, of the system also with other gates."""
    text = held_out_text(config, other=config.shuffled)
    with trained.evaluating() as network:
        numbers: dict[Metric, float] = {PERPLEXITY: perplexity_of(network, text)}
        if config.unit != "lstm":
            kept = gradient_kept(network, next(text.parts()).batch)
            numbers[KEPT] = sum(kept) / len(kept)
        if config.unit == "glu" and not config.shuffled:
            other = reading_other(network, config)
            numbers[OTHER] = perplexity_of(other, held_out_text(config, other=True))
        return Measurement.of(None, numbers)


@torch.no_grad()
def by_position(network: nn.Module, text: HeldOutText) -> list[float]:
    """Mean cost in nats at each position of a window, over all windows."""
    total = torch.zeros(LONGEST, dtype=torch.float64)
    for part in text.parts():
        logits = network(part.batch).mT.float()
        total += F.cross_entropy(logits, part.batch.targets, reduction="none").sum(0)
    return (total / len(text.counted)).tolist()


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Cost by position; of convolutions also the gradient that each layer keeps."""
    text = held_out_text(config, other=config.shuffled)
    with trained.evaluating() as network:
        costs = by_position(network, text)
        kept = (
            gradient_kept(network, next(text.parts()).batch)
            if config.unit != "lstm"
            else []
        )
    plot = figure(8.0, 2.6)
    axes = plot.subplots(1, 2 if kept else 1, squeeze=False)[0]
    axes[0].plot(range(1, LONGEST + 1), costs, color=BAR)
    axes[0].set(xlabel="words before, in the window", ylabel="cost (nats)", xscale="log")
    if kept:
        axes[1].bar(range(1, len(kept) + 1), kept, color=BAR)
        axes[1].set(
            xlabel="layer", ylabel="gradient kept", xticks=range(1, len(kept) + 1)
        )
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
