"""Accuracy by question type, in the rows of the published tables (Johnson et al. 2017)."""

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

#: The five rows of papers, as sums of the thirteen types.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "count": ("count",),
    "exist": ("exist",),
    "compare integer": ("equal_integer", "less_than", "greater_than"),
    "query attribute": ("query_size", "query_color", "query_material", "query_shape"),
    "compare attribute": ("equal_size", "equal_color", "equal_material", "equal_shape"),
}


@dataclass(frozen=True, slots=True)
class Count:
    """How many questions were asked, and how many were answered right."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share answered right; NaN when none was asked."""
        return self.correct / self.total if self.total else float("nan")

    def __add__(self, other: Count) -> Count:
        return Count(self.correct + other.correct, self.total + other.total)


class Tally:
    """Right answers by question type, gathered batch by batch."""

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
        right = (predicted == batch.answers).to(torch.int64)
        types = batch.types % len(self._total)  # an unknown type, -1, is counted in the last place
        self._correct.index_add_(0, types, right)
        self._total.index_add_(0, types, torch.ones_like(right))

    def by_type(self) -> dict[str, Count]:
        """The thirteen question types."""
        return {name: self._count([i]) for i, name in enumerate(QUESTION_TYPES)}

    def by_group(self) -> dict[str, Count]:
        """The five rows of papers."""
        return {
            group: self._count([QUESTION_TYPES.index(name) for name in names])
            for group, names in GROUPS.items()
        }

    def overall(self) -> Count:
        """All questions, those of unknown type included."""
        return self._count(range(len(self._total)))

    def _count(self, indices: Iterable[int]) -> Count:
        rows = list(indices)
        return Count(int(self._correct[rows].sum()), int(self._total[rows].sum()))
