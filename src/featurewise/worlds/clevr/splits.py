"""Data of a system that answers questions: what it is trained on, tested on and twin-tested on.

The data are rendered once and cached, or come from files in the layout of CLEVR v1.0. No split
shares an image with another: each is rendered with a seed of its own, or is a split of the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.common.dataset import DatasetFacts
from featurewise.common.ranges import require_settings
from featurewise.worlds.clevr.batch import Batch, TwinBatch, collate
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.data import PoolSource, Source
from featurewise.worlds.clevr.disk import DiskSource, read_queries
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.formats import ClevrFolder
from featurewise.worlds.clevr.generate import Recipe
from featurewise.worlds.clevr.progress import reading_images
from featurewise.worlds.clevr.scene import Scene
from featurewise.worlds.clevr.twins import twin_batches
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES
from featurewise.worlds.clevr.words import encode

CLEVR: Final = DatasetFacts(
    "Scenes, images and questions of the built-in CLEVR world, rendered by this library.",
    "made by this library, Apache-2.0",
)
"""What a reader of results has to know of the world."""

ALL_QUESTIONS: Final = Recipe(seed=2018, width=120, height=80, samples=4, questions_per_image=20)
"""Scenes of 3 to 10 objects, all question families."""

NO_RELATIONS: Final = replace(
    ALL_QUESTIONS, seed=2020, max_objects=6, questions_per_image=6, families=tuple(range(84, 90))
)
"""Scenes of 3 to 6 objects; count, exist and query questions without relations."""

SMALL_IMAGES: Final = replace(
    NO_RELATIONS, seed=2030, width=60, height=40, samples=1, max_objects=4
)
"""Scenes of 3 to 4 objects in images of half the size, questions without relations."""

TINY_IMAGES: Final = replace(SMALL_IMAGES, seed=2040, width=30, height=20)
"""The same in images of a quarter of the size, for tests."""

PAPER_SIZE: Final = replace(ALL_QUESTIONS, width=224, height=224, questions_per_image=10)
"""Images of 224 x 224 pixels, all question families."""

TWIN_SCENES: Final = 250
"""Scenes of the twin test; they hold about 400 pairs of questions for each direction."""

EVERYTHING: Final = "How many things are there?"
"""The question about the number of all objects."""

EVAL_BATCH: Final = 50
"""Images that are evaluated at a time."""


@dataclass(frozen=True, kw_only=True)
class CurriculumStage:
    """A set of images with questions, and for how many steps it is trained on.

    Attributes:
        recipe: how images and questions are generated.
        images: number of images.
        steps: training steps of this stage; the last stage lasts until the end.
        questions_per_image: questions about each image of a batch; None: as many as in the
            stages that say nothing.

    Raises:
        WorldError: a value is not of its type or out of its range.
    """

    recipe: Recipe
    images: int
    steps: int
    questions_per_image: int | None = None

    def __post_init__(self) -> None:
        require_settings(self, WorldError)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Data in the layout of CLEVR v1.0 or CLEVR-CoGenT, in place of rendered images.

    Attributes:
        path: of the data set.
        split: to train on, such as ``train`` or ``trainA``.
    """

    path: str
    split: str

    @property
    def validation(self) -> str | None:
        """The validation split that belongs to it, such as ``val`` or ``valA``, if any."""
        other = self.split.replace("train", "val", 1)
        there = other != self.split and ClevrFolder(Path(self.path), other).questions.is_file()
        return other if there else None


@dataclass(frozen=True)
class Curriculum:
    """One source after another, each for a number of batches; the last until the end.

    Attributes:
        sources: of the stages.
        steps: of each stage.
    """

    sources: Sequence[Source]
    steps: Sequence[int]

    def batch(self, index: int, /) -> Batch:
        """The batch of this index, counted over all stages."""
        for source, steps in zip(self.sources[:-1], self.steps, strict=False):
            if index < steps:
                return source.batch(index)
            index -= steps
        return self.sources[-1].batch(index)


@dataclass(frozen=True)
class WithCounts:
    """Batches in which some questions are replaced by how many things there are.

    The generator asks this seldom, and hardly ever about many things.

    Attributes:
        source: of the batches; the objects of its images must be known.
        every: one of so many questions is replaced.
    """

    source: Source
    every: int

    def batch(self, index: int, /) -> Batch:
        """The batch of this index: always the same one."""
        found = self.source.batch(index)
        rows = torch.arange(self.every - 1, len(found.lengths), self.every)
        tokens = torch.tensor(encode(EVERYTHING))
        width = max(found.questions.shape[1], len(tokens))
        questions = found.questions.new_zeros(len(found.lengths), width)
        questions[:, : found.questions.shape[1]] = found.questions
        questions[rows] = 0
        questions[rows, : len(tokens)] = tokens
        numbers = torch.tensor(numbers_of_things(found))[found.image_index[rows]]
        zero = ANSWERS.index("0")  # followed by the other numbers
        return replace(
            found,
            questions=questions,
            lengths=found.lengths.index_fill(0, rows, len(tokens)),
            answers=found.answers.index_copy(0, rows, zero + numbers),
            types=found.types.index_fill(0, rows, QUESTION_TYPES.index("count")),
        )


def numbers_of_things(batch: Batch) -> list[int]:
    """How many objects each image of a batch shows.

    Raises:
        WorldError: they are not known of every image.
    """
    if batch.objects is None:
        raise WorldError("the objects of these images are not known; they cannot be counted")
    numbers: list[int] = (batch.objects[:, :, 0] >= 0).sum(1).tolist()
    if 0 in numbers:  # as in a batch of files of which only some have labels
        raise WorldError(
            f"the objects of image {numbers.index(0)} of the batch are not known; they cannot be "
            "counted"
        )
    return numbers


@dataclass(frozen=True)
class _LabelledWhereKnown:
    """Batches of files; ``objects`` is None where no image of a batch has labels."""

    source: PoolSource

    def batch(self, index: int, /) -> Batch:
        found = self.source.batch(index)
        known = found.objects is not None and bool((found.objects >= 0).any())
        return found if known else replace(found, objects=None)


def training_batches(
    stages: Sequence[CurriculumStage],
    folder: Folder | None,
    *,
    images_per_batch: int,
    questions_per_image: int,
    seed: int,
    features: Callable[[Path], Tensor] | None = None,
) -> Source:
    """Batches to train on, stage by stage, or those of files.

    Args:
        stages: of the curriculum; with a folder, the last says how large images are.
        folder: files in place of the stages.
        images_per_batch: images in a batch.
        questions_per_image: questions about each of them, where the stage does not say.
        seed: of the order.
        features: folder of a pool -> maps of features that stand in for its images; not with
            files.

    Raises:
        FormatError: a file is missing or not what the format promises.
        WorldError: the files hold too few images, or no answers.
    """
    if folder is not None:
        source = _folder_source(
            stages[-1].recipe,
            folder,
            images_per_batch=images_per_batch,
            questions_per_image=questions_per_image,
            seed=seed,
        )
        return _LabelledWhereKnown(source)
    folders = [cached_pool(stage.recipe, stage.images) for stage in stages]
    pools = [
        PoolSource(
            pool,
            seed=seed,
            images_per_batch=images_per_batch,
            questions_per_image=stage.questions_per_image or questions_per_image,
            features=None if features is None else features(pool),
        )
        for stage, pool in zip(stages, folders, strict=True)
    ]
    return Curriculum(pools, [stage.steps for stage in stages])


def held_out_batches(
    recipe: Recipe, images: int, folder: Folder | None = None, limit: int | None = None
) -> Iterator[Batch]:
    """Images that no run is trained on, with ten questions each.

    Args:
        recipe: that of the last stage, whose seed is changed.
        images: number of test images.
        folder: files in place of rendered images, of which the validation split is taken, or the
            last tenth where it has none.
        limit: only the first so many images.

    Raises:
        FormatError: a file is missing or not what the format promises.
        WorldError: the files hold too few images, or no answers.
    """
    if folder is not None:
        return _folder_source(recipe, folder, test=True).in_order(EVAL_BATCH, images=limit)
    recipe = replace(recipe, seed=recipe.seed + 1, questions_per_image=10)
    # The first images of a pool do not depend on how many there are: no more are rendered.
    pool = cached_pool(recipe, min(images, limit or images))
    return PoolSource(pool, images_per_batch=1).in_order(EVAL_BATCH)


def has_relations(recipe: Recipe) -> bool:
    """Whether some questions of a recipe are about where one object is from another."""
    without = NO_RELATIONS.families or ()
    return recipe.families is None or not set(recipe.families) <= set(without)


def twin_test(recipe: Recipe, limit: int | None = None) -> Iterator[TwinBatch]:
    """The twin test on images that no run is trained or tested on otherwise.

    Args:
        recipe: that of the last stage, whose seed is changed.
        limit: only the first so many images.
    """
    recipe = replace(recipe, seed=recipe.seed + 10_000, questions_per_image=1, families=None)
    count = min(TWIN_SCENES, limit or TWIN_SCENES)
    pool = PoolSource(cached_pool(recipe, count), images_per_batch=1).pool
    return twin_batches([(torch.from_numpy(pool.images.copy()), _scenes(recipe, count))])


def count_test(recipe: Recipe, images: int) -> Iterator[Batch]:
    """The question how many things there are, about the images of `held_out_batches`.

    Args:
        recipe: that of the last stage, whose seed is changed.
        images: number of test images.
    """
    tokens = encode(EVERYTHING)
    for batch in held_out_batches(recipe, images):
        answers = [ANSWERS.index(str(number)) for number in numbers_of_things(batch)]
        rows = list(range(len(batch.images)))
        yield collate(batch.images, rows, [tokens] * len(rows), answers, [-1] * len(rows))


@lru_cache(maxsize=2)
def _scenes(recipe: Recipe, count: int) -> Sequence[Scene]:
    return recipe.scenes(0, count)


def _folder_source(
    recipe: Recipe,
    folder: Folder,
    *,
    test: bool = False,
    images_per_batch: int = 1,
    questions_per_image: int | None = None,
    seed: int = 0,
) -> PoolSource:
    """Batches of files, to train on or to test on."""
    split = (folder.validation if test else None) or folder.split
    place = ClevrFolder(Path(folder.path), split)
    (first,) = read_queries(place, limit=1).values()  # before all images are read
    if first[0].answer < 0:
        raise WorldError(f"{place.questions}: has no answers to train on or to test by")
    own_split = folder.validation is not None
    share = (0.0, 1.0) if own_split else (0.9, 1.0) if test else (0.0, 0.9)
    with reading_images() as progress:
        source = DiskSource(
            folder.path,
            split,
            width=recipe.width,
            height=recipe.height,
            labels=place.scenes.is_file() and not test,
            cache=cache_folder() / "clevr",
            on_progress=progress,
            seed=seed,
            images_per_batch=1,
            questions_per_image=questions_per_image,
            share=share,
        )
    source.images_per_batch = min(images_per_batch, len(source.image_range))
    return source
