"""Made stories in which people take things and go to places, with questions on who is where.

The place of a person is the last that the story names. The place of a thing takes two steps: who
took it, and where that person is; no sentence names both. Sentences are in random order, so that
neither the last place nor the most frequent one is the answer more often than others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text.cloze import ABSENT, BLANK, ClozeBatch
from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.vocabulary import UNKNOWN, Vocabulary

PEOPLE: Final = ("anna", "ben", "clara", "david", "ella", "frank", "grace", "henry")
THINGS: Final = ("apple", "book", "coin", "drum", "flute", "key", "lamp", "map")
PLACES: Final = ("attic", "barn", "cellar", "garden", "hall", "kitchen", "library", "tower")
_OTHER: Final = (BLANK, "took", "entered", "the", "is", "in", ".")

STORY_VOCABULARY: Final = Vocabulary((UNKNOWN, *_OTHER, *PEOPLE, *THINGS, *PLACES))

_LENGTH = 5  # tokens of a sentence


@dataclass(frozen=True)
class Stories:
    """Questions on stories, one each.

    Attributes:
        questions: documents, queries, and the places that a story names as candidates.
        two_steps: whether the question is on a thing.
    """

    questions: ClozeBatch
    two_steps: Bool[Tensor, " B"]


def stories(rng: torch.Generator, count: int, people: int = 3, moves: int = 1) -> Stories:
    """So many stories; half of the questions, in expectation, are on things.

    Args:
        rng: of all random numbers.
        count: of stories, 1 or more.
        people: in a story, each of whom takes one thing.
        moves: places that each of them goes to.

    Raises:
        TextError: a number is less than 1, or there are not so many people.
    """
    if min(count, people, moves) < 1 or people > len(PEOPLE):
        raise TextError(
            f"a story has 1 to {len(PEOPLE)} people and 1 or more moves, got {people} people and "
            f"{moves} moves, {count} times"
        )
    who = _numbers(PEOPLE)[torch.rand(count, len(PEOPLE), generator=rng).argsort(1)[:, :people]]
    what = _numbers(THINGS)[torch.rand(count, len(THINGS), generator=rng).argsort(1)[:, :people]]
    place = torch.randint(len(PLACES), (count, people, moves), generator=rng)
    where = _numbers(PLACES)[place]
    takes = _sentences(who, "took", what)
    goes = _sentences(who[:, :, None].expand(where.shape), "entered", where).flatten(1, 2)
    order = torch.rand(count, people * (moves + 1), generator=rng).argsort(1)
    document = torch.cat((takes, goes), 1).gather(1, order[:, :, None].expand(-1, -1, _LENGTH))
    when = order.argsort(1)[:, people:].unflatten(1, (people, moves))  # place in the story
    last = place.gather(2, when.argmax(2, keepdim=True)).squeeze(2)
    subject = torch.randint(people, (count, 1), generator=rng)
    two_steps = torch.rand(count, generator=rng) < 0.5
    candidates, labels = _candidates(place.flatten(1), last.gather(1, subject).squeeze(1))
    query = _queries(who.gather(1, subject), what.gather(1, subject), two_steps)
    blank = (query == STORY_VOCABULARY.encode([BLANK])).long().argmax(1)
    lengths = torch.full((count,), document.shape[1] * _LENGTH)
    found = ClozeBatch(document.flatten(1), lengths, query, blank + 2, blank, candidates, labels)
    return Stories(found, two_steps)


def _numbers(tokens: tuple[str, ...]) -> Int64[Tensor, " N"]:
    return STORY_VOCABULARY.encode(tokens)


def _sentences(who: Tensor, verb: str, what: Tensor) -> Int64[Tensor, "*B 5"]:
    """Such as "anna took the key ."."""
    did, the, end = (_numbers((each,)).expand(who.shape) for each in (verb, "the", "."))
    return torch.stack((who, did, the, what, end), -1)


def _queries(
    who: Int64[Tensor, "B 1"], what: Int64[Tensor, "B 1"], two_steps: Bool[Tensor, " B"]
) -> Int64[Tensor, "B 7"]:
    """Such as "anna is in the @placeholder ." and "the key is in the @placeholder ."."""
    rest = _numbers(("is", "in", "the", BLANK, ".")).expand(len(who), -1)
    the, end = (_numbers((each,)).expand(len(who), 1) for each in ("the", UNKNOWN))
    of_person, of_thing = torch.cat((who, rest, end), 1), torch.cat((the, what, rest), 1)
    return torch.where(two_steps[:, None], of_thing, of_person)


def _candidates(
    places: Int64[Tensor, "B N"], answer: Int64[Tensor, " B"]
) -> tuple[Int64[Tensor, "B C"], Int64[Tensor, " B"]]:
    """The places of each story, each once, and which of them is the answer."""
    named = torch.zeros(len(places), len(PLACES), dtype=torch.bool).scatter_(1, places, True)
    order = (~named).long().argsort(stable=True, dim=1)[:, : places.shape[1]]
    candidates = torch.where(named.gather(1, order), _numbers(PLACES)[order], ABSENT)
    return candidates, (order == answer[:, None]).long().argmax(1)


@dataclass(frozen=True)
class StorySource:
    """Batches of questions on stories.

    Attributes:
        seed: of the stories, 0 or more.
        batch_size: questions in a batch.
        people: see `stories`.
        moves: see `stories`.
    """

    seed: int
    batch_size: int
    people: int = 3
    moves: int = 1

    def batch(self, index: int, /) -> ClozeBatch:
        """The batch with this index, which depends on the seed and on the index only."""
        rng = seeded_rng(self.seed, "stories", index)
        return stories(rng, self.batch_size, self.people, self.moves).questions
