"""Cloze questions by name: a vocabulary, batches to train on, and questions to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal, TypeAlias

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text.cloze import BLANK, Cloze, ClozeBatch, encode_questions
from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.novel_cloze import ENTITIES, entity, novel_questions
from featurewise.worlds.text.novels import Part
from featurewise.worlds.text.stories import STORY_VOCABULARY, StorySource, stories
from featurewise.worlds.text.vocabulary import UNKNOWN, Vocabulary

ClozeName: TypeAlias = Literal["stories", "novels"]
"""Made `stories`, or sentences of the `novels`."""

WORDS: Final = 3000
"""Tokens of the vocabulary of the novels, at most."""

TEST_STORIES: Final = 1000
_STREAM = {"validation": 1, "test": 2}  # seeds of the held-out stories
_FIRST = (UNKNOWN, BLANK, *map(entity, range(ENTITIES)))
_NAMES = (2, 2 + ENTITIES)  # where the names are in the vocabulary of the novels


@dataclass(frozen=True)
class HeldOutQuestions:
    """Questions to validate or to test on.

    Attributes:
        questions: all of them.
        two_steps: whether the answer takes two steps; None for the novels, where nothing says so.
    """

    questions: ClozeBatch
    two_steps: Bool[Tensor, " B"] | None


@dataclass(frozen=True)
class ClozeSource:
    """Batches of given questions, in which the numbers of anonymous names are permuted.

    So nothing is learned of a number: each time that a question occurs, its names have others.

    Attributes:
        questions: all of them.
        seed: of the choice and the permutations, 0 or more.
        batch_size: questions in a batch.
        names: numbers of the tokens of names, from the first to one after the last.
    """

    questions: ClozeBatch
    seed: int
    batch_size: int
    names: tuple[int, int]

    def batch(self, index: int, /) -> ClozeBatch:
        """The batch with this index, which depends on the seed and on the index only."""
        rng = seeded_rng(self.seed, "questions", index)
        chosen = torch.randint(len(self.questions), (self.batch_size,), generator=rng)
        return renamed(self.questions.select(chosen), self.names, rng)


def renamed(batch: ClozeBatch, names: tuple[int, int], rng: torch.Generator) -> ClozeBatch:
    """Questions whose names have other numbers, permuted in each question on its own.

    Args:
        batch: questions.
        names: see `ClozeSource`.
        rng: of the permutations.
    """
    first, end = names
    order = first + torch.rand(len(batch), end - first, generator=rng).argsort(1)

    def mapped(tokens: Int64[Tensor, "B N"]) -> Int64[Tensor, "B N"]:
        inside = (tokens >= first) & (tokens < end)
        return torch.where(
            inside, order.gather(1, (tokens - first).clamp(0, end - first - 1)), tokens
        )

    return replace(
        batch,
        document=mapped(batch.document),
        query=mapped(batch.query),
        candidates=mapped(batch.candidates),
    )


def cloze_vocabulary(name: ClozeName) -> Vocabulary:
    """The tokens of the training questions; of the novels the most frequent, and all names.

    Raises:
        TextError: there are no such questions.
        MissingTextError: their files are missing.
        TextFileError: one of these is malformed.
    """
    _check(name)
    return STORY_VOCABULARY if name == "stories" else _novels("train")[0]


def cloze_source(name: ClozeName, seed: int, batch_size: int) -> StorySource | ClozeSource:
    """Batches to train on.

    Args:
        name: of the questions.
        seed: of all that is random, 0 or more.
        batch_size: questions in a batch.

    Raises:
        TextError: see `cloze_vocabulary`, and so are others.
    """
    _check(name)
    if name == "stories":
        return StorySource(seed, batch_size)
    return ClozeSource(_novels("train")[1], seed, batch_size, _NAMES)


def held_out_questions(name: ClozeName, part: Literal["validation", "test"]) -> HeldOutQuestions:
    """All questions of a part; of the stories so many as `TEST_STORIES` says.

    Raises:
        TextError: there are no such questions or no such part, see `cloze_vocabulary` for others.
    """
    _check(name)
    if part not in _STREAM:
        raise TextError(f"part must be one of {', '.join(_STREAM)}, got {part!r}")
    if name == "novels":
        return HeldOutQuestions(_novels(part)[1], None)
    found = stories(seeded_rng(_STREAM[part], "held-out stories"), TEST_STORIES)
    return HeldOutQuestions(found.questions, found.two_steps)


def _check(name: str) -> None:
    if name not in ("stories", "novels"):
        raise TextError(f"no cloze questions {name!r}: there are stories and novels")


@cache
def _novels(part: Part) -> tuple[Vocabulary, ClozeBatch]:
    """The vocabulary of the training questions, and the questions of a part in its numbers."""
    vocabulary = question_vocabulary(novel_questions("train"), _FIRST, WORDS)
    return vocabulary, encode_questions(novel_questions(part), vocabulary)


def question_vocabulary(
    questions: Sequence[Cloze], first: Sequence[str], largest: int
) -> Vocabulary:
    """The most frequent tokens of questions, a document's once for each question that has it.

    Args:
        questions: to train on.
        first: tokens that it has in any case, ``<unk>`` before all others.
        largest: tokens, at most.
    """
    known = set(first)
    tokens = (
        token for each in questions for token in (*each.document, *each.query) if token not in known
    )
    frequent = Vocabulary.of(tokens, max(2, largest - len(first) + 1)).tokens[1:]
    return Vocabulary((*first, *frequent))
