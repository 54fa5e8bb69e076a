"""Questions as indices of words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.worlds.vqa.errors import VqaError

_WORD: Final = re.compile(r"[a-z0-9']+")


def words_of(question: str) -> list[str]:
    """The words of a question in lower case, without punctuation."""
    return _WORD.findall(question.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words by index. Index 0 is padding, 1 any other word.

    Attributes:
        words: the words from index 2 on, each once.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, questions: Iterable[str]) -> Vocabulary:
        """The words of some questions, in alphabetical order."""
        return cls(tuple(sorted({word for text in questions for word in words_of(text)})))

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(
        self, questions: Sequence[str], length: int | None = None
    ) -> tuple[Int64[Tensor, "Q T"], Int64[Tensor, " Q"]]:
        """Indices of words, padded with 0, and the number of words of each question.

        Args:
            questions: at least one.
            length: T, words of the longest question that is accepted; default: of the longest
                question.

        Raises:
            VqaError: no question, one without a word, or one that is longer than ``length``.
        """
        rank = {word: index for index, word in enumerate(self.words, 2)}
        rows = [[rank.get(word, 1) for word in words_of(text)] for text in questions]
        if not rows:
            raise VqaError("there are no questions to encode; pass at least one")
        longest = max(map(len, rows))
        for text, row in zip(questions, rows, strict=True):
            if not row or len(row) > (length or longest):
                raise VqaError(
                    f"{text!r} has {len(row)} words; a question has 1 to {length or longest}"
                )
        indices = torch.zeros(len(rows), length or longest, dtype=torch.int64)
        for index, row in enumerate(rows):
            indices[index, : len(row)] = torch.tensor(row)
        return indices, torch.tensor([len(row) for row in rows])
