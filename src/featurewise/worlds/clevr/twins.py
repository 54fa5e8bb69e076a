"""Pairs of questions that differ only in the spatial relation: the twin test.

Two objects of the same shape and of different colours are on opposite sides of an object with a
unique description. "What color is the cube left of the small metal ball?" and the same question
with "right of" have different answers, so a model must use the relation to answer both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import UInt8
from torch import Tensor

from featurewise.worlds.clevr.batch import TwinBatch, collate
from featurewise.worlds.clevr.errors import FormatError
from featurewise.worlds.clevr.families.options import DESCRIPTIONS
from featurewise.worlds.clevr.formats import ClevrFolder, iter_scenes
from featurewise.worlds.clevr.images import load_image
from featurewise.worlds.clevr.objects import Object, Scene
from featurewise.worlds.clevr.vocabulary import ANSWERS, ATTRIBUTES, RELATIONS, SHAPES
from featurewise.worlds.clevr.words import encode

EVAL_PAIRS: Final = 250
"""Pairs of questions that are evaluated at a time."""

#: Relations that are each other's opposite.
OPPOSITES: Final = (("left", "right"), ("front", "behind"))
_WORDS: Final = {
    "left": "left of",
    "right": "right of",
    "front": "in front of",
    "behind": "behind",
}
#: Descriptions of an object, those with the fewest words first.
_SHORT_FIRST: Final = sorted(
    DESCRIPTIONS[1:], key=lambda description: sum(value is not None for value in description)
)


@dataclass(frozen=True, slots=True)
class TwinPair:
    """Two questions about one scene that differ only in the relation.

    Attributes:
        relations: one of ``OPPOSITES``.
        questions: the question with each relation.
        answers: the answer to each question, a colour.
    """

    relations: tuple[str, str]
    questions: tuple[str, str]
    answers: tuple[str, str]


def twin_pairs(scene: Scene) -> list[TwinPair]:
    """All pairs of twin questions about a scene, often an empty list."""
    return [pair for relations in OPPOSITES for pair in _pairs(scene, relations)]


def _pairs(scene: Scene, relations: tuple[str, str]) -> Iterator[TwinPair]:
    sides = [scene.related(relation) for relation in relations]
    for index, anchor in enumerate(scene.objects):
        described = _description(anchor, scene)
        if described is None:
            continue
        for shape in SHAPES:
            found = [
                [scene.objects[i] for i in side[index] if scene.objects[i].shape == shape]
                for side in sides
            ]
            if [len(some) for some in found] != [1, 1]:
                continue
            first, second = (some[0].color for some in found)
            if first != second:
                one, other = (_question(shape, relation, described) for relation in relations)
                yield TwinPair(relations, (one, other), (first, second))


def _question(shape: str, relation: str, described: str) -> str:
    return f"What color is the {shape} {_WORDS[relation]} the {described}?"


def _description(thing: Object, scene: Scene) -> str | None:
    """The shortest description that fits only this object; None if there is none."""
    for description in _SHORT_FIRST:
        fitting = [
            other
            for other in scene.objects
            if all(
                value is None or getattr(other, name) == value
                for name, value in zip(ATTRIBUTES, description, strict=True)
            )
        ]
        if len(fitting) == 1 and fitting[0] is thing:
            *values, shape = description
            return " ".join([value for value in values if value] + [shape or "thing"])
    return None


def twin_batches(
    shown: Iterable[tuple[UInt8[Tensor, "I 3 H W"], Sequence[Scene]]],
) -> Iterator[TwinBatch]:
    """The twin test in batches.

    Args:
        shown: images, and the scenes that they show.
    """
    before = 0
    for images, scenes in shown:
        pairs = [(row, pair) for row, scene in enumerate(scenes) for pair in twin_pairs(scene)]
        for start in range(0, len(pairs), EVAL_PAIRS):
            yield _twin_batch(images, pairs[start : start + EVAL_PAIRS], before)
        before += len(scenes)


def _twin_batch(
    images: UInt8[Tensor, "I 3 H W"], pairs: Sequence[tuple[int, TwinPair]], before: int
) -> TwinBatch:
    rows = sorted({row for row, _ in pairs})
    index = [rows.index(row) for row, _ in pairs for _ in range(2)]
    tokens = [encode(question) for _, pair in pairs for question in pair.questions]
    answers = [ANSWERS.index(answer) for _, pair in pairs for answer in pair.answers]
    batch = collate(images[rows], index, tokens, answers, [-1] * len(index))
    relations = [RELATIONS.index(name) for _, pair in pairs for name in pair.relations]
    shown = [before + row for row, _ in pairs for _ in range(2)]
    return TwinBatch(batch, torch.tensor(relations), torch.tensor(shown))


def folder_twin_batches(
    folder: Path, split: str, width: int, height: int, limit: int | None = None
) -> Iterator[TwinBatch]:
    """The twin test on a data set in the layout of CLEVR v1.0.

    Args:
        folder: the data set; its scenes file says what images show.
        split: of the data set.
        width: width of the images in a batch, in pixels.
        height: height of the images in a batch, in pixels.
        limit: only the first so many images.

    Raises:
        FormatError: a file is missing or not what the format promises.
    """
    place = ClevrFolder(folder, split)
    if not place.scenes.is_file():
        raise FormatError.at(place.scenes, "not found; the twin test needs it")

    def shown() -> Iterator[tuple[UInt8[Tensor, "1 3 H W"], list[Scene]]]:
        for number, record in enumerate(iter_scenes(place.scenes)):
            if number == limit:
                return
            image = load_image(place.image(record.image_filename), width, height)
            yield image.unsqueeze(0), [record.scene]

    return twin_batches(shown())
