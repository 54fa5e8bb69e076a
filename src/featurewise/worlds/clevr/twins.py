"""Pairs of questions that differ only in the spatial relation: the twin test.

Two objects of the same shape and of different colours are on opposite sides of an object with a
unique description. "What color is the cube left of the small metal ball?" and the same question
with "right of" have different answers, so a model must use the relation to answer both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from featurewise.worlds.clevr.families.options import DESCRIPTIONS
from featurewise.worlds.clevr.objects import Object, Scene
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, SHAPES

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
