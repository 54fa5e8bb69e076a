"""How well the questions are answered, the control that must fail, and what is claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from featurewise.common.cache import cache_folder
from featurewise.study.claims import decide
from featurewise.study.results import Measurement, Proportion, Results
from featurewise.study.system import Verdict
from featurewise.systems.reasoning.film.counting import NUMBERS
from featurewise.systems.reasoning.film.settings import Folder, Reasoning
from featurewise.systems.reasoning.film.twins import TWINS
from featurewise.training.source import Source
from featurewise.worlds.clevr import (
    QUESTION_TYPES,
    Batch,
    ClevrFolder,
    DiskSource,
    PoolSource,
    WorldError,
)
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.disk import read_queries
from featurewise.worlds.clevr.metrics import Tally
from featurewise.worlds.clevr.progress import reading_images

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


@dataclass(frozen=True)
class Unlabelled:
    """Batches of a data set on disk; where it does not tell what pictures show, nothing is said."""

    source: PoolSource

    def batch(self, index: int, /) -> Batch:
        """The batch of this index, its objects None where no picture has any."""
        found = self.source.batch(index)
        known = found.objects is not None and bool((found.objects >= 0).any())
        return found if known else replace(found, objects=None)


def shuffled(batch: Batch) -> Batch:
    """The batch with its questions moved on by half a batch."""
    half = len(batch.lengths) // 2
    return replace(batch, questions=batch.questions.roll(half, 0), lengths=batch.lengths.roll(half))


def held_out(settings: Reasoning, pictures: int | None = None) -> Iterator[Batch]:
    """Pictures that no run is trained on, with ten questions each.

    Args:
        settings: say how large the pictures are and what is asked: as in the last lesson; or the
            folder, of which the validation split is taken, or the last tenth where it has none.
        pictures: only so many of them.
    """
    if settings.folder is not None:
        source = folder_source(settings, settings.folder, measuring=True)
        return source.in_order(AT_ONCE, images=pictures)
    recipe = settings.lessons[-1].recipe
    recipe = replace(recipe, seed=recipe.seed + 1, questions_per_image=10)
    # The first pictures of a pool do not depend on how many there are: no more are drawn.
    size = min(settings.held_out, pictures or settings.held_out)
    return PoolSource(cached_pool(recipe, size), images_per_batch=1).in_order(AT_ONCE)


def folder_source(
    settings: Reasoning, folder: Folder, *, measuring: bool = False, seed: int = 0
) -> PoolSource:
    """Batches of a data set on disk, to train on or to measure on.

    Raises:
        FormatError: a file is missing or not what the format promises.
        WorldError: it has too few pictures, or no answers.
    """
    apart = folder.validation
    split = apart if measuring and apart else folder.split
    place = ClevrFolder(Path(folder.path), split)
    (first,) = read_queries(place, limit=1).values()  # before all images are read
    if first[0].answer < 0:
        raise WorldError(f"{place.questions}: has no answers to learn from or to measure by")
    part = (0.9, 1.0) if measuring else (0.0, 0.9)
    recipe = settings.lessons[-1].recipe
    with reading_images() as progress:
        source = DiskSource(
            folder.path,
            split,
            width=recipe.width,
            height=recipe.height,
            labels=place.scenes.is_file() and not measuring,
            cache=cache_folder() / "clevr",
            on_progress=progress,
            seed=seed,
            images_per_batch=1,
            questions_per_image=None if measuring else settings.questions,
            share=(0.0, 1.0) if apart else part,
        )
    source.images_per_batch = min(settings.pictures, len(source.image_range))
    return source


MEASURES = {name: f"questions whose program ends in {name}" for name in QUESTION_TYPES}
MEASURES |= {"turned": "share of further questions about a picture that get their own answer"}
MEASURES |= {
    name: f"count questions with the answer {name[6:].replace('_up', ' or more')}"
    for name in NUMBERS
}
MEASURES |= TWINS


def measure(
    network: nn.Module,
    batches: Iterable[Batch],
    change: Callable[[Batch], Batch] | None = None,
    on_answers: Callable[[Batch, Tensor], None] | None = None,
) -> Measurement:
    """Accuracy by question type; ``change`` is done to what the network sees, not to the truth.

    "turned" is the share of pairs of successive questions about one picture, with different true
    answers and the first answered right, where asking the second gets the second's answer.

    Args:
        network: of any arm.
        batches: what it is measured on; those without answers do not count.
        change: of what the network sees.
        on_answers: called with every batch and the positions in ``ANSWERS`` of its answers.
    """
    tally, turned = Tally(), []
    device = next(network.parameters(), torch.empty(0)).device
    for batch in batches:
        asked = (batch if change is None else change(batch)).to(device)
        predicted = network(asked).logits.argmax(1).cpu()
        if on_answers is not None:
            on_answers(batch, predicted)
        if bool((batch.answers == -1).all()):
            continue
        tally.add(predicted, batch)
        right = predicted == batch.answers
        pair = (batch.image_index[1:] == batch.image_index[:-1]) & right[:-1]
        pair &= batch.answers[1:] != batch.answers[:-1]
        turned.append(right[1:][pair])
    counts = {name: c for name, c in tally.by_type().items() if c.total}
    overall = tally.overall()
    return Measurement(
        Proportion(overall.correct, overall.total) if overall.total else None,
        {name: Proportion(c.correct, c.total) for name, c in counts.items()},
        {"turned": torch.cat(turned).double().mean().nan_to_num().item()} if turned else {},
    )


def turns(results: Results) -> Verdict:
    """Whether another question about the same picture gets its own answer, in points."""
    measured = [trial.measured for trial in results.of("film")]
    return decide([100 * (m.number("turned") - m.number()) for m in measured], low=-5)
