"""Experiment with the bilinear CNN: which typeface, on letters that were never trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor, nn

from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.recognition.bilinear_cnn.method import Batch, Config
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.lines import LineBatch, LineSource, letter_folds
from featurewise.worlds.glyphs.sheets import sheet

LINES: Final = 8
"""Lines of each typeface that are tested."""

_EVALUATED: Final = 256
"""Test lines at a time."""

_SHOWN: Final = 8
"""Lines in the figure."""

FAMILY = Metric(
    "family",
    "share of test lines whose family of typefaces is right",
    PERCENT,
    "higher",
)
WITHIN = Metric(
    "within family",
    "accuracy among the typefaces of the right family alone, which differ in weight, slant or "
    "width; over the families with at least two",
    PERCENT,
    "higher",
)
SEEN = Metric(
    "seen letters",
    "accuracy on other lines of the letters that the network was trained on",
    PERCENT,
    "higher",
)


@dataclass(frozen=True)
class Streams:
    """Lines, which both streams read.

    Attributes:
        source: lines of letters.
    """

    source: LineSource

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        return both(self.source.batch(index))


def both(found: LineBatch) -> Batch:
    """Lines that both streams read."""
    return Batch(found.images, found.images, found.typefaces)


def _source(config: Config, seed: int, letters: tuple[int, ...]) -> LineSource:
    return LineSource(config.glyphs, letters, config.line, config.batch_size, seed)


def data(config: Config, seed: int) -> Source[Batch]:
    """Lines of the training letters."""
    train, _ = letter_folds(config.letters, config.fold)
    streams = Streams(_source(config, seed, train))
    if config.shuffled_stream:
        return ShuffledCondition(streams, ("second",), previous_sample)
    return streams


def lines_of_test(config: Config, *, seen: bool = False) -> Batch:
    """Lines of every typeface: of the test letters, or other ones of the training letters."""
    letters = letter_folds(config.letters, config.fold)[0 if seen else 1]
    found = both(_source(config, 0, letters).each(LINES))
    if config.shuffled_stream:  # of the typeface before
        return Batch(found.images, found.images.roll(LINES, 0), found.typefaces)
    return found


def families(config: Config) -> Int64[Tensor, " F"]:
    """Number of the family of each typeface."""
    names = [typeface.family for typeface in config.glyphs.typefaces]
    known = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([known[name] for name in names])


def _parts(batch: Batch) -> Iterator[Batch]:
    for start in range(0, len(batch.typefaces), _EVALUATED):
        rows = slice(start, start + _EVALUATED)
        yield Batch(batch.images[rows], batch.second[rows], batch.typefaces[rows])


@torch.no_grad()
def logits(network: nn.Module, batch: Batch) -> Float[Tensor, "B F"]:
    """Logits of the typefaces for all lines."""
    return torch.cat([network(part) for part in _parts(batch)])


def within_family(
    found: Float[Tensor, "B F"],
    typefaces: Int64[Tensor, " B"],
    family: Int64[Tensor, " F"],
) -> tuple[Bool[Tensor, " N"], Bool[Tensor, " B"]]:
    """Which lines are right among the typefaces of their family, and which lines count.

    Args:
        found: logits of the typefaces.
        typefaces: the right ones.
        family: of each typeface.

    Returns:
        Whether right, of the lines that count; and which lines do: those of families with at
        least two typefaces.
    """
    others = family[None] != family[typefaces][:, None]
    counted = family.bincount()[family[typefaces]] > 1
    best = found.masked_fill(others, -torch.inf).argmax(1)
    return (best == typefaces)[counted], counted


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on letters that were never trained on, by typeface and by family."""
    batch, seen = lines_of_test(config), lines_of_test(config, seen=True)
    family, typefaces = families(config), batch.typefaces
    with trained.evaluating() as network:
        found, of_seen = logits(network, batch), logits(network, seen)
    best = found.argmax(1)
    right, counted = within_family(found, typefaces, family)
    return Measurement.of(
        Proportion.of(best == typefaces, typefaces),
        {
            FAMILY: Proportion.of(family[best] == family[typefaces], typefaces),
            WITHIN: Proportion.of(right, typefaces[counted]),
            SEEN: Proportion.of(of_seen.argmax(1) == seen.typefaces, seen.typefaces),
        },
    )


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Test lines, each beside the training letters of the three likeliest typefaces."""
    batch = lines_of_test(config)
    step = max(1, len(batch.typefaces) // _SHOWN)
    rows = torch.arange(0, len(batch.typefaces), step)[:_SHOWN]
    with trained.evaluating() as network:
        best = logits(network, batch)[rows].topk(3).indices
    train, _ = letter_folds(config.letters, config.fold)
    chosen = torch.tensor(train[:: max(1, len(train) // config.line)][: config.line])
    glyphs = config.glyphs
    found = glyphs.images[best][:, :, chosen].float() / 255
    lines = torch.stack(batch.images[rows].chunk(config.line, 3), 1)
    gap = torch.zeros(len(rows), 1, 1, config.image_size, config.image_size)
    cells = [lines]
    for rank in range(best.shape[1]):
        cells += [gap, found[:, rank].unsqueeze(2)]
    right = (best[:, 0] == batch.typefaces[rows]).tolist()
    return sheet(torch.cat(cells, 1), ["right" if each else "wrong" for each in right])
