"""Answers to count questions, told apart by the true number."""

from __future__ import annotations

import torch
from torch import Tensor

from featurewise.study.results import Proportion
from featurewise.worlds.clevr import ANSWERS, QUESTION_TYPES, Batch

NUMBERS = {**{f"count_{n}": (n, n + 1) for n in range(7)}, "count_7_up": (7, 11)}
"""Name -> the true numbers that it stands for: the first, and that after the last."""


class CountsByNumber:
    """Right answers to count questions, by the true number."""

    def __init__(self) -> None:
        self._counts = torch.zeros(2, 11, dtype=torch.int64)

    def add(self, batch: Batch, predicted: Tensor) -> None:
        """Counts the answers to one batch, positions in ``ANSWERS``."""
        asked = (batch.types == QUESTION_TYPES.index("count")) & (batch.answers >= 0)
        numbers = batch.answers[asked] - ANSWERS.index("0")
        right = (predicted == batch.answers)[asked]
        self._counts += torch.stack(
            [torch.bincount(each, minlength=11) for each in (numbers[right], numbers)]
        )

    def by_type(self) -> dict[str, Proportion]:
        """The proportions of ``NUMBERS``; without numbers that were no answer."""
        found = {n: self._counts[:, slice(*ends)].sum(1).tolist() for n, ends in NUMBERS.items()}
        return {name: Proportion(*counts) for name, counts in found.items() if counts[1]}
