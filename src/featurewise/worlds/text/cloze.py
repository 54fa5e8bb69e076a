"""Cloze questions: a document, a sentence with a blank, and candidates, one of which fills it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.vocabulary import Vocabulary

BLANK: Final = "@placeholder"
"""The token of the missing word in a query, as in the official files of CNN and Daily Mail."""

ABSENT: Final = -1
"""Number of a candidate that a question lacks, where others of its batch have more."""


@dataclass(frozen=True)
class Cloze:
    """A question in tokens.

    Attributes:
        document: what is read.
        query: a sentence in which one token is `BLANK`.
        candidates: tokens, each once.
        answer: the candidate that was removed from the query.

    Raises:
        TextError: the document is empty; the query has not one blank; there are fewer than two
            candidates, or one of them twice; or the answer is none of them.
    """

    document: tuple[str, ...]
    query: tuple[str, ...]
    candidates: tuple[str, ...]
    answer: str

    def __post_init__(self) -> None:
        if not self.document:
            raise TextError("the document of a question is empty")
        if (blanks := self.query.count(BLANK)) != 1:
            raise TextError(f"a query has one {BLANK}, got {blanks} in {' '.join(self.query)!r}")
        if len(set(self.candidates)) < max(2, len(self.candidates)):
            raise TextError(
                f"a question has two or more candidates, each once, got {self.candidates}"
            )
        if self.answer not in self.candidates:
            raise TextError(f"the answer {self.answer!r} is none of {self.candidates}")


@dataclass(frozen=True)
class ClozeBatch:
    """Questions in numbers, padded with 0 after their ends.

    Attributes:
        document: numbers of tokens.
        document_lengths: how many each document has.
        query: numbers of tokens.
        query_lengths: how many each query has.
        blank: where in its query `BLANK` is.
        candidates: numbers of tokens; `ABSENT` where a question has no more.
        labels: which candidate is the answer.
    """

    document: Int64[Tensor, "B T"]
    document_lengths: Int64[Tensor, " B"]
    query: Int64[Tensor, "B Q"]
    query_lengths: Int64[Tensor, " B"]
    blank: Int64[Tensor, " B"]
    candidates: Int64[Tensor, "B C"]
    labels: Int64[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Int64[Tensor, " N"] | slice) -> ClozeBatch:
        """Some questions, without the padding that none of them needs."""
        found = ClozeBatch(*(getattr(self, each.name)[index] for each in fields(self)))
        return replace(
            found,
            document=found.document[:, : int(found.document_lengths.max())],
            query=found.query[:, : int(found.query_lengths.max())],
        )


def encode_questions(questions: Sequence[Cloze], vocabulary: Vocabulary) -> ClozeBatch:
    """All questions in numbers.

    Args:
        questions: one or more.
        vocabulary: with `BLANK` and all candidates.

    Raises:
        TextError: there are no questions, or the vocabulary lacks `BLANK` or a candidate.
    """
    if not questions:
        raise TextError("there are no questions to encode")
    known = set(vocabulary.tokens)
    needed = [BLANK, *(each for one in questions for each in one.candidates)]
    if unknown := [each for each in needed if each not in known]:
        raise TextError(f"the vocabulary lacks {unknown[0]!r}, which must not be <unk>")

    def padded(texts: Sequence[Sequence[str]], value: int) -> Tensor:
        rows = [vocabulary.encode(each) for each in texts]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    def numbers(found: Sequence[int]) -> Tensor:
        return torch.tensor(found, dtype=torch.int64)

    return ClozeBatch(
        document=padded([each.document for each in questions], 0),
        document_lengths=numbers([len(each.document) for each in questions]),
        query=padded([each.query for each in questions], 0),
        query_lengths=numbers([len(each.query) for each in questions]),
        blank=numbers([each.query.index(BLANK) for each in questions]),
        candidates=padded([each.candidates for each in questions], ABSENT),
        labels=numbers([each.candidates.index(each.answer) for each in questions]),
    )


def mentions(batch: ClozeBatch) -> Tensor:
    """Whether a candidate is the token at a place of its document, (B, C, T)."""
    places = torch.arange(batch.document.shape[1])
    inside = places < batch.document_lengths[:, None]
    return (batch.candidates[:, :, None] == batch.document[:, None]) & inside[:, None]


def last_mention(batch: ClozeBatch) -> Float[Tensor, "B C"]:
    """A score of each candidate: the place of its last mention; -1 where there is none."""
    places = torch.arange(batch.document.shape[1], dtype=torch.float32)
    return torch.where(mentions(batch), places, -1.0).amax(2)


def most_mentions(batch: ClozeBatch) -> Float[Tensor, "B C"]:
    """A score of each candidate: how often it is mentioned; of equals the last one is above."""
    share = last_mention(batch) / (batch.document.shape[1] + 1)
    return mentions(batch).sum(2) + share


def share_right(scores: Float[Tensor, "B C"], batch: ClozeBatch) -> float:
    """Share of questions whose answer has the largest score; of equals the first counts."""
    return (scores.argmax(1) == batch.labels).double().mean().item()


def majority(batch: ClozeBatch) -> float:
    """Share of questions that have the most frequent answer: the best that one answer can do."""
    answers = batch.candidates[torch.arange(len(batch)), batch.labels]
    return answers.bincount().max().item() / len(batch)
