"""A sample of questions, and what one network makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from featurewise.analysis import ParameterTable, parameter_table
from featurewise.core import TaskRepresentation
from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film.network import FilmNetwork, image_features
from featurewise.worlds.clevr import ANSWERS, Recipe, collate, encode, render
from featurewise.worlds.clevr.data import type_index
from featurewise.worlds.clevr.generate import BALANCE_BLOCK
from featurewise.worlds.clevr.programs import queried_objects
from featurewise.worlds.clevr.questions import Question

ROWS_AT_ONCE = 250
"""Questions that a network answers at a time."""


@dataclass(frozen=True)
class Sample:
    """Questions about images that no run is trained or tested on, with all that is known of them.

    Attributes:
        images: the images.
        masks: index of the object that is seen at each pixel, -1 where it is the ground.
        questions: the questions.
        image_index: row of ``images`` that each question is about.
        queried: whether each object is one that the answer is about, see `queried_objects`.
        answers: position of each true answer in ``ANSWERS``.
        types: position of each question's type in ``QUESTION_TYPES``.
    """

    images: UInt8[Tensor, "I 3 H W"]
    masks: Int64[Tensor, "I H W"]
    questions: Sequence[Question]
    image_index: Int64[Tensor, "Q"]
    queried: Bool[Tensor, "Q 10"]
    answers: Int64[Tensor, "Q"]
    types: Int64[Tensor, "Q"]


def sample(recipe: Recipe, images: int = BALANCE_BLOCK) -> Sample:
    """Questions about the first scenes of a recipe.

    Args:
        recipe: of scenes and questions; its seed must be that of no other data.
        images: number of scenes, at most one block of them.
    """
    scenes = recipe.scenes(0, images)
    by_image = recipe.questions(0, scenes)
    # Few images are not worth the time that the renderer in numba takes to compile.
    shown = render(
        scenes,
        width=recipe.width,
        height=recipe.height,
        samples=recipe.samples,
        renderer="torch",
    )
    rows = [row for row, some in enumerate(by_image) for _ in some]
    questions = [question for some in by_image for question in some]
    queried = torch.zeros(len(questions), 10, dtype=torch.bool)
    for number, (row, question) in enumerate(zip(rows, questions, strict=True)):
        queried[number, list(queried_objects(question.program, scenes[row]))] = True
    return Sample(
        shown.images,
        shown.masks.long(),
        questions,
        torch.tensor(rows),
        queried,
        torch.tensor([ANSWERS.index(question.answer) for question in questions]),
        torch.tensor([type_index(question.program) for question in questions]),
    )


class Probe:
    """A network, and what it makes of a sample: features of images, γ and β of questions.

    Args:
        network: in eval mode.
        sample: the questions.
    """

    def __init__(self, network: FilmNetwork, sample: Sample) -> None:
        self.network = network
        self.sample = sample
        none = [-1] * len(sample.questions)
        tokens = [encode(question.text) for question in sample.questions]
        batch = collate(sample.images, sample.image_index.tolist(), tokens, none, none)
        with torch.no_grad():
            self.features = image_features(network.stem, sample.images)
            self.tasks = network.trunk.represent((batch.questions, batch.lengths))

    def table(self) -> ParameterTable:
        """γ and β of all questions."""
        return parameter_table(self.tasks)

    def maps(
        self, tasks: TaskRepresentation, rows: Int64[Tensor, "N"] | None = None
    ) -> Iterator[Float[Tensor, "n C h w"]]:
        """What the classifier gets, a few questions at a time.

        Args:
            tasks: γ and β, one of each row.
            rows: questions whose images are processed; default: all.
        """
        index = (
            self.sample.image_index if rows is None else self.sample.image_index[rows]
        )
        with torch.no_grad():
            for start in range(0, len(index), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                images = self.features[index[part]]
                yield self.network.trunk(images, task=tasks[part])

    def logits(
        self, tasks: TaskRepresentation, rows: Int64[Tensor, "N"] | None = None
    ) -> Float[Tensor, "N 28"]:
        """Logits of the answers; see `maps`."""
        with torch.no_grad():
            found = [self.network.answer(maps) for maps in self.maps(tasks, rows)]
        return torch.cat(found).float()

    def accuracy(self, tasks: TaskRepresentation) -> Proportion:
        """Share of the questions that are answered correctly with these γ and β."""
        right = self.logits(tasks).argmax(1) == self.sample.answers
        return Proportion.of(right, groups=self.sample.image_index)
