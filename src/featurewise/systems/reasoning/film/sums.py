"""A + B - C of questions (Dumoulin et al. 2018, Distill, the section on the task representation).

Where γ and β of questions add up, those of "How many red things are there?" and "How many blue
cubes are there?", less those of "How many blue things are there?", are about red cubes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import UInt8
from torch import Tensor

from featurewise.core import TaskRepresentation
from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film.network import FilmNetwork, image_features
from featurewise.worlds.clevr import ANSWERS, Object, Scene, collate, encode


@dataclass(frozen=True)
class ImageQuestion:
    """A question about an image.

    Attributes:
        text: the question.
        image: number of the image.
        kind: type of the question.
        answer: the true answer.
    """

    text: str
    image: int
    kind: str
    answer: str


@dataclass(frozen=True)
class Sum:
    """Questions A, B and C about one image whose A + B - C is another question.

    A counts things of one color, B objects of another color and a shape, C things of that
    color: the result should count objects of the first color and the shape.

    Attributes:
        questions: A, B and C.
        result: the question that the result should stand for.
    """

    questions: tuple[ImageQuestion, ImageQuestion, ImageQuestion]
    result: ImageQuestion


def sums(scenes: Sequence[Scene]) -> list[Sum]:
    """At most one sum a scene, whose true answer is none of those of A, B and C.

    Of the possible sums of a scene, one with the answer that was taken least so far; and of the
    most frequent answer no more sums than of the second most frequent: no answer fits most.
    """
    found: list[Sum] = []
    taken: Counter[str] = Counter()
    for number, scene in enumerate(scenes):
        possible = [
            each
            for one, other in permutations(scene.objects, 2)
            if (each := _sum(number, scene, one.color, other)) is not None
        ]
        if possible:
            found.append(min(possible, key=lambda each: taken[each.result.answer]))
            taken[found[-1].result.answer] += 1
    if len(taken) > 1:
        (most, _), (_, limit) = taken.most_common(2)
        frequent = [each for each in found if each.result.answer == most]
        found = [each for each in found if each not in frequent[limit:]]
    return found


def _sum(number: int, scene: Scene, color: str, other: Object) -> Sum | None:
    def counting(color: str, shape: str | None) -> ImageQuestion:
        count = sum(
            each.color == color and shape in (None, each.shape) for each in scene.objects
        )
        what = "things" if shape is None else f"{shape}s"
        text = f"How many {color} {what} are there?"
        return ImageQuestion(text, number, "count", str(count))

    questions = (
        counting(color, None),
        counting(other.color, other.shape),
        counting(other.color, None),
    )
    result = counting(color, other.shape)
    known = [each.answer for each in questions]
    if color == other.color or result.answer in known:
        return None
    return Sum(questions, result)


@dataclass(frozen=True)
class SumAccuracy:
    """How often an answer is that of the question that A + B - C should stand for.

    Attributes:
        direct: accuracy on that question itself.
        summed: accuracy of A + B - C.
        unrelated: the same where C is about another color: the control.
        constant: share of the most frequent true answer.
        nearest: share of sums of whose task representation that of the question is nearer than
            those of A, B and C are.
    """

    direct: Proportion
    summed: Proportion
    unrelated: Proportion
    constant: Proportion
    nearest: Proportion


def sum_accuracy(
    network: FilmNetwork, images: UInt8[Tensor, "I 3 H W"], found: Sequence[Sum]
) -> SumAccuracy:
    """Accuracy of A + B - C, of its question, and of the control.

    Args:
        network: in eval mode.
        images: of the scenes.
        found: sums, with at least three colors in their questions C.
    """
    rows = torch.tensor([each.result.image for each in found])
    answers = torch.tensor([ANSWERS.index(each.result.answer) for each in found])
    with torch.no_grad():
        features = image_features(network.stem, images)[rows]

        def represent(questions: Sequence[ImageQuestion]) -> TaskRepresentation:
            none = [-1] * len(questions)
            tokens = [encode(each.text) for each in questions]
            batch = collate(images[:1], [0] * len(none), tokens, none, none)
            return network.trunk.represent((batch.questions, batch.lengths))

        def accuracy(task: TaskRepresentation) -> Proportion:
            logits: Tensor = network.answer(network.trunk(features, task=task))
            return Proportion.of(logits.argmax(1) == answers)

        a, b, c = (
            represent([each.questions[part] for each in found]) for part in range(3)
        )
        result = represent([each.result for each in found])
        total = a + b - c
        distances = [(total.flat - each.flat).norm(dim=1) for each in (result, a, b, c)]
        other = c[[_other_color(found, number) for number in range(len(found))]]
        return SumAccuracy(
            accuracy(result),
            accuracy(total),
            accuracy(a + b - other),
            Proportion.of(answers == answers.mode().values),
            Proportion.of(torch.stack(distances).argmin(0) == 0),
        )


def _other_color(found: Sequence[Sum], number: int) -> int:
    """The next sum whose C is about another color than A, B and C of this one."""
    colors = {_color(question) for question in found[number].questions}
    for step in range(1, len(found)):
        other = (number + step) % len(found)
        if _color(found[other].questions[2]) not in colors:
            return other
    raise ValueError("the sums are of too few colors")


def _color(question: ImageQuestion) -> str:
    """The third word: How many red things are there?"""
    return question.text.split()[2]
