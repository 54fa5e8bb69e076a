"""How well the questions are answered, the control that must fail, and what is claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from featurewise.lab.claims import decide
from featurewise.lab.record import Verdict
from featurewise.lab.results import Measurement, Proportion, Results
from featurewise.lab.source import Source
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.worlds.clevr import QUESTION_TYPES, Batch, PoolSource
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.metrics import Tally

AT_ONCE = 50
"""Pictures that are measured at a time."""


@dataclass(frozen=True)
class Lessons:
    """One source after another, each for so many batches; the last until the end."""

    sources: Sequence[Source[Batch]]
    steps: Sequence[int]

    def batch(self, index: int, /) -> Batch:
        """The batch of this index, counted over all lessons."""
        for source, steps in zip(self.sources[:-1], self.steps, strict=False):
            if index < steps:
                return source.batch(index)
            index -= steps
        return self.sources[-1].batch(index)


@dataclass(frozen=True)
class Shuffled:
    """Control: every question is replaced by that of another picture, the answer is not."""

    source: Source[Batch]

    def batch(self, index: int, /) -> Batch:
        """The batch of this index, its questions moved on by half a batch."""
        return shuffled(self.source.batch(index))


def shuffled(batch: Batch) -> Batch:
    """The batch with its questions moved on by half a batch."""
    half = len(batch.lengths) // 2
    return replace(batch, questions=batch.questions.roll(half, 0), lengths=batch.lengths.roll(half))


def held_out(settings: Reasoning, pictures: int | None = None) -> Iterator[Batch]:
    """Pictures that no run is trained on, with ten questions each.

    Args:
        settings: say how large the pictures are and what is asked: as in the last lesson.
        pictures: only so many of them.
    """
    recipe = settings.lessons[-1].recipe
    recipe = replace(recipe, seed=recipe.seed + 1, questions_per_image=10)
    pool = PoolSource(cached_pool(recipe, settings.held_out), images_per_batch=1)
    return pool.in_order(AT_ONCE, pictures=pictures)


MEASURES = {name: f"questions whose program ends in {name}" for name in QUESTION_TYPES}
MEASURES |= {"turned": "share of further questions about a picture that get their own answer"}


def measure(
    network: nn.Module,
    batches: Iterable[Batch],
    change: Callable[[Batch], Batch] | None = None,
) -> Measurement:
    """Accuracy by question type; ``change`` is done to what the network sees, not to the truth.

    "turned" is the share of pairs of successive questions about one picture, with different true
    answers and the first answered right, where asking the second gets the second's answer.
    """
    tally, turned = Tally(), []
    device = next(network.parameters(), torch.empty(0)).device
    for batch in batches:
        asked = (batch if change is None else change(batch)).to(device)
        predicted = network(asked).logits.argmax(1).cpu()
        tally.add(predicted, batch)
        right = predicted == batch.answers
        pair = (batch.image_index[1:] == batch.image_index[:-1]) & right[:-1]
        pair &= batch.answers[1:] != batch.answers[:-1]
        turned.append(right[1:][pair])
    counts = {name: c for name, c in tally.by_type().items() if c.asked}
    overall = tally.overall()
    return Measurement(
        Proportion(overall.right, overall.asked),
        {name: Proportion(c.right, c.asked) for name, c in counts.items()},
        {"turned": torch.cat(turned).double().mean().nan_to_num().item()},
    )


def turns(results: Results) -> Verdict:
    """Whether another question about the same picture gets its own answer, in points."""
    measured = [trial.measured for trial in results.of("film")]
    return decide([100 * (m.number("turned") - m.number()) for m in measured], low=-5)
