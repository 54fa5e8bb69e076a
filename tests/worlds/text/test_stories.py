"""Made stories: each answer against a reading of its sentences, one by one."""

from __future__ import annotations

import pytest
import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text import (
    ABSENT,
    BLANK,
    STORY_VOCABULARY,
    StorySource,
    TextError,
    held_out_questions,
    stories,
)
from featurewise.worlds.text.stories import PEOPLE, PLACES, THINGS


def read(document: list[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Who took each thing, where each person is in the end, and all places in their order."""
    owner: dict[str, str] = {}
    place: dict[str, str] = {}
    named = []
    for start in range(0, len(document), 5):
        who, verb, the, what, end = document[start : start + 5]
        assert who in PEOPLE and the == "the" and end == "."
        if verb == "took":
            assert what in THINGS and what not in owner
            owner[what] = who
        else:
            assert verb == "entered" and what in PLACES
            place[who] = what
            named.append(what)
    return owner, place, named


@pytest.mark.parametrize(("people", "moves"), [(3, 1), (2, 3), (8, 1), (1, 2)])
def test_answers_follow_from_the_stories(people: int, moves: int) -> None:
    found = stories(seeded_rng(1, "test"), 200, people, moves)
    questions = found.questions
    for i in range(200):
        assert questions.document_lengths[i] == 5 * people * (moves + 1)
        document = STORY_VOCABULARY.decode(questions.document[i].tolist())
        owner, place, named = read(document)
        assert len(owner) == len(set(owner.values())) == len(place) == people
        assert len(named) == people * moves
        query = STORY_VOCABULARY.decode(
            questions.query[i, : int(questions.query_lengths[i])].tolist()
        )
        assert query[int(questions.blank[i])] == BLANK and query[-1] == "."
        if found.two_steps[i]:
            subject = owner[query[1]]
            assert query == ["the", query[1], "is", "in", "the", BLANK, "."]
        else:
            subject = query[0]
            assert query == [subject, "is", "in", "the", BLANK, "."]
        candidates = questions.candidates[i][questions.candidates[i] != ABSENT].tolist()
        assert len(candidates) == len(set(candidates))
        assert set(STORY_VOCABULARY.decode(candidates)) == set(named)
        answer = STORY_VOCABULARY.decode([candidates[int(questions.labels[i])]])
        assert answer == [place[subject]]
    assert 60 < int(found.two_steps.sum()) < 140


def test_stories_depend_on_seed_and_index() -> None:
    source = StorySource(3, 16)
    batch = source.batch(2)
    assert batch.document.shape == (16, 30)
    assert torch.equal(batch.document, StorySource(3, 16).batch(2).document)
    for other in (source.batch(3), StorySource(4, 16).batch(2)):
        assert not torch.equal(batch.document, other.document)
    for wrong in ((0, 3, 1), (1, 9, 1), (1, 0, 1), (1, 3, 0)):
        with pytest.raises(TextError, match="1 to 8 people"):
            stories(seeded_rng(0, "test"), *wrong)


def test_held_out_stories_are_others() -> None:
    test, validation = (held_out_questions("stories", part) for part in ("test", "validation"))
    assert len(test.questions) == len(validation.questions) == 1000
    rows = {
        name: {tuple(each) for each in batch.document.tolist()}
        for name, batch in {
            "test": test.questions,
            "validation": validation.questions,
            "train": StorySource(0, 1000).batch(0),
        }.items()
    }
    assert not rows["test"] & rows["validation"] and not rows["test"] & rows["train"]
    assert test.two_steps is not None and 400 < int(test.two_steps.sum()) < 600
