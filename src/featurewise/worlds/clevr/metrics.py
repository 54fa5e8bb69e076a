"""Accuracy by question type, grouped as in the published tables (Johnson et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.worlds.clevr.data import Batch
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.vocabulary import QUESTION_TYPES

#: The five groups of the published tables -> their question types (13 in all).
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "count": ("count",),
    "exist": ("exist",),
    "compare integer": ("equal_integer", "less_than", "greater_than"),
    "query attribute": ("query_size", "query_color", "query_material", "query_shape"),
    "compare attribute": ("equal_size", "equal_color", "equal_material", "equal_shape"),
}


@dataclass(frozen=True, slots=True)
class Count:
    """Number of correct answers and of questions.

    Attributes:
        correct: questions with a correct answer.
        total: all questions.
    """

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Proportion of correct answers, 0 to 1; NaN without questions."""
        return self.correct / self.total if self.total else float("nan")

    def __add__(self, other: Count) -> Count:
        return Count(self.correct + other.correct, self.total + other.total)


class Tally:
    """Counts of correct answers by question type, accumulated over batches."""

    def __init__(self) -> None:
        self._correct = torch.zeros(len(QUESTION_TYPES) + 1, dtype=torch.int64)
        self._total = torch.zeros_like(self._correct)

    def add(self, predicted: Int64[Tensor, " Q"], batch: Batch) -> None:
        """Count the answers to one batch.

        Args:
            predicted: index in ``ANSWERS`` for each question.
            batch: the questions with their true answers.

        Raises:
            WorldError: if there are not as many answers as questions, or a true answer is unknown.
        """
        if predicted.shape != batch.answers.shape:
            raise WorldError(
                f"{len(batch.answers)} questions, but answers of shape {tuple(predicted.shape)}"
            )
        if bool((batch.answers < 0).any()):
            raise WorldError("a question has no known answer, so it cannot be counted")
        correct = (predicted == batch.answers).to(torch.int64)
        types = batch.types % len(self._total)  # an unknown type, -1, has the last index
        self._correct.index_add_(0, types, correct)
        self._total.index_add_(0, types, torch.ones_like(correct))

    def by_type(self) -> dict[str, Count]:
        """Counts of the 13 question types."""
        return {name: self._count([i]) for i, name in enumerate(QUESTION_TYPES)}

    def by_group(self) -> dict[str, Count]:
        """Counts of the five groups of ``GROUPS``."""
        return {
            group: self._count([QUESTION_TYPES.index(name) for name in names])
            for group, names in GROUPS.items()
        }

    def overall(self) -> Count:
        """Counts of all questions, including those of unknown type."""
        return self._count(range(len(self._total)))

    def _count(self, indices: Iterable[int]) -> Count:
        types = list(indices)
        return Count(int(self._correct[types].sum()), int(self._total[types].sum()))
