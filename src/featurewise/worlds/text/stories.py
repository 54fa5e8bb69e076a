"""Made stories in which people take things and enter places, with questions on who is where.

Each person has two sentences, one after the other, in either order: one on a thing that they take,
one on the place that they enter; the second calls them "they". Where a sentence names both the
person or thing of a question and its place, the answer takes one step; else two: "anna took the
key . they entered the hall ." says where the key is, but neither sentence does. The people of a
story are in random order, so that no place in the text is the answer more often than others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text.cloze import BLANK, ClozeBatch
from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.vocabulary import UNKNOWN, Vocabulary

PEOPLE: Final = ("anna", "ben", "clara", "david", "ella", "frank", "grace", "henry")
THINGS: Final = ("apple", "book", "coin", "drum", "flute", "key", "lamp", "map")
PLACES: Final = ("attic", "barn", "cellar", "garden", "hall", "kitchen", "library", "tower")
_OTHER: Final = (BLANK, "they", "took", "entered", "the", "is", "in", ".")

STORY_VOCABULARY: Final = Vocabulary((UNKNOWN, *_OTHER, *PEOPLE, *THINGS, *PLACES))

_LENGTH = 5  # tokens of a sentence


@dataclass(frozen=True)
class Stories:
    """Questions on stories, one each.

    Attributes:
        questions: documents, queries, and the places that a story names as candidates.
        two_steps: whether no sentence names both who or what the question is on, and the answer.
    """

    questions: ClozeBatch
    two_steps: Bool[Tensor, " B"]


def stories(rng: torch.Generator, count: int, people: int = 5) -> Stories:
    """So many stories; half of the questions, in expectation, are on things.

    Args:
        rng: of all random numbers.
        count: of stories, 1 or more.
        people: in a story, 2 or more.

    Raises:
        TextError: a number is too small, or there are not so many people.
    """
    if count < 1 or not 2 <= people <= len(PEOPLE):
        raise TextError(f"a story has 2 to {len(PEOPLE)} people, got {people}; {count} stories")
    who, what, where = (
        _numbers(each)[torch.rand(count, len(each), generator=rng).argsort(1)[:, :people]]
        for each in (PEOPLE, THINGS, PLACES)
    )
    takes_first = torch.rand(count, people, generator=rng) < 0.5
    they = _numbers(("they",)).expand(who.shape)
    takes = _sentences(torch.where(takes_first, who, they), "took", what)
    enters = _sentences(torch.where(takes_first, they, who), "entered", where)
    in_order = takes_first[:, :, None]
    document = torch.cat(
        (torch.where(in_order, takes, enters), torch.where(in_order, enters, takes)), 2
    )
    subject = torch.randint(people, (count, 1), generator=rng)
    of_thing = torch.rand(count, generator=rng) < 0.5
    query = _queries(who.gather(1, subject), what.gather(1, subject), of_thing)
    blank = (query == _numbers((BLANK,))).long().argmax(1)
    candidates = where.sort(1).values
    answer = where.gather(1, subject)
    found = ClozeBatch(
        document=document.flatten(1),
        document_lengths=torch.full((count,), 2 * _LENGTH * people),
        query=query,
        query_lengths=blank + 2,
        blank=blank,
        candidates=candidates,
        labels=(candidates == answer).long().argmax(1),
    )
    return Stories(found, of_thing | takes_first.gather(1, subject).squeeze(1))


def _numbers(tokens: tuple[str, ...]) -> Int64[Tensor, " N"]:
    return STORY_VOCABULARY.encode(tokens)


def _sentences(who: Tensor, verb: str, what: Tensor) -> Int64[Tensor, "*B 5"]:
    """Such as "anna took the key ."."""
    did, the, end = (_numbers((each,)).expand(who.shape) for each in (verb, "the", "."))
    return torch.stack((who, did, the, what, end), -1)


def _queries(
    who: Int64[Tensor, "B 1"], what: Int64[Tensor, "B 1"], thing: Bool[Tensor, " B"]
) -> Int64[Tensor, "B 7"]:
    """Such as "anna is in the @placeholder ." and "the key is in the @placeholder ."."""
    rest = _numbers(("is", "in", "the", BLANK, ".")).expand(len(who), -1)
    the, end = (_numbers((each,)).expand(len(who), 1) for each in ("the", UNKNOWN))
    of_person, of_thing = torch.cat((who, rest, end), 1), torch.cat((the, what, rest), 1)
    return torch.where(thing[:, None], of_thing, of_person)


@dataclass(frozen=True)
class StorySource:
    """Batches of questions on stories.

    Attributes:
        seed: of the stories, 0 or more.
        batch_size: questions in a batch.
        people: see `stories`.
    """

    seed: int
    batch_size: int
    people: int = 5

    def batch(self, index: int, /) -> ClozeBatch:
        """The batch with this index, which depends on the seed and on the index only."""
        rng = seeded_rng(self.seed, "stories", index)
        return stories(rng, self.batch_size, self.people).questions
