"""Training batches: generated online or from a pool on disk; :mod:`.disk` has those from files.

For every source, ``batch(step)`` is a pure function of the source's seed and the step. So the order
of the batches is the same with any number of worker processes, and a run that was interrupted after
step n resumes with step n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featurewise.common.processes import HINT, can_spawn, exit_if_unguarded, is_dead_loader
from featurewise.common.rng import derive_seed
from featurewise.worlds.clevr import pool
from featurewise.worlds.clevr.batch import Batch, collate
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.generate import BALANCE_BLOCK, Recipe
from featurewise.worlds.clevr.pool import Block, Plan, Pool, Progress
from featurewise.worlds.clevr.programs import Program, question_type
from featurewise.worlds.clevr.scene import Scene
from featurewise.worlds.clevr.vocabulary import ANSWERS, ATTRIBUTES, QUESTION_TYPES
from featurewise.worlds.clevr.words import encode


@runtime_checkable
class Source(Protocol):
    """Where batches come from."""

    def batch(self, step: int) -> Batch:
        """The batch of a step: always the same one."""
        ...


class _Steps(Dataset[Batch]):
    """A source in the form ``DataLoader`` takes; an index is a step."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, step: int) -> Batch:
        return self.source.batch(step)


def stream(source: Source, start: int, stop: int, *, workers: int = 0) -> Iterator[Batch]:
    """The batches of the steps from ``start`` up to ``stop``, prefetched by worker processes.

    Args:
        source: where the batches come from.
        start: first step.
        stop: the step after the last.
        workers: processes to make batches in; 0 makes them in this one. The order is the same.

    Raises:
        WorldError: a worker process died; raised within seconds.
    """
    if workers:
        exit_if_unguarded()
    workers = workers if can_spawn() else 0
    context = "spawn" if workers else None
    loader: DataLoader[Batch] = DataLoader(
        _Steps(source),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        multiprocessing_context=context,
    )
    batches = iter(loader)
    try:
        yield from batches
    except (RuntimeError, OSError, EOFError) as error:
        if not is_dead_loader(error) or not workers:
            raise
        raise WorldError(
            f"a process that makes batches died ({error}). Most often it ran out of memory: use "
            f"fewer workers or smaller batches. {HINT}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class OnlineSource(Recipe):
    """Batches of new images and questions, generated on request and never repeated.

    Batch ``step`` is block ``step`` of the recipe (see :class:`Recipe` for its settings), so the
    counters that balance questions and answers are reset in every batch.

    Args:
        images_per_batch: images in a batch.
    """

    images_per_batch: int = 16

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        if self.images_per_batch < 1:
            raise WorldError(f"images_per_batch must be at least 1, got {self.images_per_batch}")

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            WorldError: if ``step`` is negative.
        """
        _require_step(step)
        block = make_block(self, step, self.images_per_batch)
        rows = np.repeat(np.arange(len(block.counts)), block.counts).tolist()
        images = torch.from_numpy(block.images)
        batch = collate(images, rows, block.tokens, block.answers, block.types)
        return replace(batch, objects=torch.from_numpy(block.objects).long())


def make_block(recipe: Recipe, index: int, size: int) -> Block:
    """Block number ``index`` of a recipe, ``size`` images, as arrays."""
    scenes = recipe.scenes(index, size)
    questions_by_image = recipe.questions(index, scenes)
    questions = [question for about_one in questions_by_image for question in about_one]
    return Block(
        images=recipe.images(scenes).numpy(),
        objects=object_table(scenes),
        counts=[len(about_one) for about_one in questions_by_image],
        tokens=[encode(question.text) for question in questions],
        answers=[ANSWERS.index(question.answer) for question in questions],
        types=[type_index(question.program) for question in questions],
    )


def object_table(scenes: Sequence[Scene]) -> NDArray[np.int16]:
    """The objects of scenes, as ``Block.objects``; an object without ``pixel`` is left out."""
    table = np.full((len(scenes), 10, 6), -1, dtype=np.int16)
    for row, scene in zip(table, scenes, strict=True):
        placed = [thing for thing in scene.objects if thing.pixel is not None]
        for cells, thing in zip(row, placed, strict=False):
            values = [words.index(getattr(thing, name)) for name, words in ATTRIBUTES.items()]
            cells[:] = [*values, *(thing.pixel or ())[:2]]
    return table


def type_index(program: Program) -> int:
    """Index of a program's question type in ``QUESTION_TYPES``."""
    return QUESTION_TYPES.index(question_type(program))


def build_pool(
    folder: Path | str,
    recipe: Recipe,
    *,
    images: int,
    workers: int = 0,
    on_progress: Progress | None = None,
) -> Path:
    """Make a pool of images and questions, for :class:`PoolSource`.

    After an interruption, the same call resumes with the first missing block; the result does not
    depend on the interruption or on the number of workers.

    Args:
        folder: where to put it; made if missing.
        recipe: settings of the images and questions. Questions are balanced in blocks of 250
            images. If it names no renderer, a pool that was begun is resumed with its own.
        images: number of images.
        workers: processes to render in (each uses one thread); 0 renders in this process.
        on_progress: called after each block with the images made so far and ``images``.

    Returns:
        The folder.

    Raises:
        WorldError: if ``images`` is not positive, the folder holds something else, the renderer is
            not installed, or a worker process died.
    """
    if images < 1:
        raise WorldError(f"a pool needs at least 1 image, got {images}")
    begun = pool.begun_settings(Path(folder))
    if recipe.renderer is None and begun is not None:
        recipe = replace(recipe, renderer=begun["renderer"])
    recipe = recipe.resolved()  # once, not in every worker process
    plan = Plan(
        settings={**recipe.settings(), "images": images},
        shape=(images, 3, recipe.height, recipe.width),
        block_size=BALANCE_BLOCK,
        make=partial(make_block, recipe),
    )
    if workers and not pool.is_finished(Path(folder)):
        recipe.prepare()
    return pool.build(Path(folder), plan, workers=workers, on_progress=on_progress)


class PoolSource:
    """Batches from a pool, in a new random order every epoch.

    Every epoch has each image once, except for the last few, which do not fill a batch. With k
    questions per image out of n, each epoch has the next k of a random permutation of the n; when
    all n (or the multiple of k below it) were used, they are permuted again.

    Args:
        folder: a finished pool.
        seed: seed of the order; not negative.
        images_per_batch: images in a batch.
        questions_per_image: most questions about each image, or None for all of them.
        share: start and end of the images in use, as fractions of the pool.
        verify: compare the files' SHA-256 with the manifest first.
        features: bfloat16 (I, C, h, w), maps of features of the pool's I images, which the
            batches contain in place of the images.

    Raises:
        FormatError: if the pool is unfinished, altered or of another version.
        WorldError: if an argument is out of its range, or the pool is smaller than one batch.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        seed: int = 0,
        images_per_batch: int = 16,
        questions_per_image: int | None = None,
        share: tuple[float, float] = (0.0, 1.0),
        verify: bool = True,
        features: Tensor | None = None,
    ) -> None:
        self.pool = Pool(Path(folder), verify=verify)
        if features is not None and len(features) != len(self.pool):
            raise WorldError(f"{len(features)} maps of features for {len(self.pool)} images")
        self.features = features
        if seed < 0:
            raise WorldError(f"seed must not be negative, got {seed}")
        if not 0 <= share[0] < share[1] <= 1:
            raise WorldError(f"share must rise and lie in 0..1, got {share}")
        self.image_range = range(*(int(end * len(self.pool)) for end in share))
        if not 1 <= images_per_batch <= len(self.image_range):
            raise WorldError(
                f"images_per_batch must lie in 1..{len(self.image_range)}, the images of {folder}, "
                f"got {images_per_batch}"
            )
        if questions_per_image is not None and questions_per_image < 1:
            raise WorldError(f"questions_per_image must be at least 1, got {questions_per_image}")
        self.seed = seed
        self.images_per_batch = images_per_batch
        self.questions_per_image = questions_per_image
        self._order: tuple[int, NDArray[np.int64]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.image_range) // self.images_per_batch

    def batch(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            WorldError: if ``step`` is negative.
        """
        _require_step(step)
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.images_per_batch
        images = self._shuffled(epoch)[start : start + self.images_per_batch]
        return self._gather(images, [self._choose(int(p), epoch) for p in images])

    def in_order(
        self, images_per_batch: int | None = None, *, images: int | None = None
    ) -> Iterator[Batch]:
        """Every image once with all its questions, in the pool's order: for evaluation.

        Args:
            images_per_batch: images in a batch; default: as in training. The last batch may be
                smaller.
            images: most images; default: all of them.
        """
        size = images_per_batch or self.images_per_batch
        images_in_use = self.image_range[:images]
        for start in range(0, len(images_in_use), size):
            some = np.asarray(images_in_use[start : start + size])
            yield self._gather(some, [self._all(int(p)) for p in some])

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        # One tuple, read and replaced in one operation, so that threads may share a source.
        order = self._order
        if order is None or order[0] != epoch:
            rng = np.random.default_rng(derive_seed(self.seed, 0, epoch))
            order = (epoch, self.image_range.start + rng.permutation(len(self.image_range)))
            self._order = order
        return order[1]

    def _all(self, image: int) -> NDArray[np.int64]:
        return np.arange(self.pool.first[image], self.pool.first[image + 1])

    def _choose(self, image: int, epoch: int) -> NDArray[np.int64]:
        questions = self._all(image)
        wanted = self.questions_per_image
        if wanted is None or wanted >= len(questions):
            return questions
        cycle, part = divmod(epoch, len(questions) // wanted)
        rng = np.random.default_rng(derive_seed(self.seed, 1, image, cycle))
        return rng.permutation(questions)[part * wanted : (part + 1) * wanted]

    def _gather(self, images: NDArray[np.int64], chosen: list[NDArray[np.int64]]) -> Batch:
        questions = np.concatenate(chosen)
        rows = np.repeat(np.arange(len(images)), [len(some) for some in chosen])
        batch = collate(
            torch.from_numpy(self.pool.images[images])
            if self.features is None
            else self.features[torch.from_numpy(images)],
            rows.tolist(),
            [self.pool.tokens(int(question)) for question in questions],
            self.pool.answers[questions].tolist(),
            self.pool.types[questions].tolist(),
        )
        return replace(batch, objects=torch.from_numpy(self.pool.objects[images]).long())


def _require_step(step: int) -> None:
    if step < 0:
        raise WorldError(f"step must not be negative, got {step}")
