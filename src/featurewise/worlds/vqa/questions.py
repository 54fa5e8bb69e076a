"""Questions about images, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.vqa.errors import VqaError
from featurewise.worlds.vqa.words import Vocabulary


@dataclass(frozen=True)
class ImageQuestion:
    """A question about an image, and its answer.

    Attributes:
        text: the question.
        answer: one of those of the data set.
        image: number of the image, its row among the images.
    """

    text: str
    answer: str
    image: int


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """Images of equal size with questions about them.

    Attributes:
        images: RGB of 8 bits.
        questions: at least one, each about one of the images.
        answers: all answers of the data set, in a fixed order.

    Raises:
        VqaError: no question, or one about an image or with an answer that is not there.
    """

    images: UInt8[Tensor, "I 3 H W"]
    questions: tuple[ImageQuestion, ...]
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.questions:
            raise VqaError("a set of questions needs at least one")
        for each in self.questions:
            if not 0 <= each.image < len(self.images):
                raise VqaError(
                    f"{each.text!r} is about image {each.image}; there are images 0 to "
                    f"{len(self.images) - 1}"
                )
            if each.answer not in self.answers:
                raise VqaError(
                    f"{each.answer!r} is the answer to {each.text!r}, and none of "
                    f"{', '.join(self.answers)}"
                )

    def about(self, first: int, last: int) -> QuestionSet:
        """The questions about the images ``first`` to ``last``, ``last`` excluded.

        Raises:
            VqaError: there are none.
        """
        chosen = tuple(
            ImageQuestion(each.text, each.answer, each.image - first)
            for each in self.questions
            if first <= each.image < last
        )
        return QuestionSet(self.images[first:last], chosen, self.answers)

    def resized(self, size: int) -> QuestionSet:
        """The same with square images of another size (bilinear, antialiased).

        Raises:
            VqaError: a size below 1.
        """
        if size < 1:
            raise VqaError(f"the size must be at least 1 pixel, got {size}")
        if self.images.shape[2:] == (size, size):
            return self
        made = F.interpolate(self.images.float(), (size, size), mode="bilinear", antialias=True)
        return QuestionSet(made.round().clamp(0, 255).byte(), self.questions, self.answers)

    @cached_property
    def image_index(self) -> Int64[Tensor, " Q"]:
        """Row of the image of each question."""
        return torch.tensor([each.image for each in self.questions])

    @cached_property
    def labels(self) -> Int64[Tensor, " Q"]:
        """Index of each answer in ``answers``."""
        rank = {answer: index for index, answer in enumerate(self.answers)}
        return torch.tensor([rank[each.answer] for each in self.questions])

    def encoded(
        self, vocabulary: Vocabulary, length: int
    ) -> tuple[Int64[Tensor, "Q T"], Int64[Tensor, " Q"]]:
        """All questions as indices of words; see `Vocabulary.encode`."""
        return vocabulary.encode([each.text for each in self.questions], length)


def random_questions(count: int, seed: int, index: int, of: int) -> Int64[Tensor, " N"]:
    """Numbers of the questions of a batch, with replacement.

    Args:
        count: N, of the batch.
        seed: of the source.
        index: of the batch.
        of: number of questions that there are.
    """
    return torch.randint(of, (count,), generator=seeded_rng(seed, "questions", index))


def is_yes_or_no(answers: Sequence[str], labels: Int64[Tensor, " Q"]) -> Tensor:
    """Which answers are "yes" or "no"."""
    closed = torch.tensor([answer in ("yes", "no") for answer in answers])
    return closed[labels]
