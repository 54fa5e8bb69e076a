"""Made stories: each answer against a reading of its sentences, one by one."""

from __future__ import annotations

import pytest
import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text import (
    BLANK,
    STORY_VOCABULARY,
    StorySource,
    TextError,
    held_out_questions,
    last_mention,
    stories,
)
from featurewise.worlds.text.stories import PEOPLE, PLACES, THINGS


def read(document: list[str]) -> tuple[dict[str, str], dict[str, str], set[tuple[str, str]]]:
    """Who took each thing, where each person is, and what a sentence names with its place."""
    owner: dict[str, str] = {}
    place: dict[str, str] = {}
    together = set()
    last = ""
    for start in range(0, len(document), 5):
        who, verb, the, what, end = document[start : start + 5]
        assert the == "the" and end == "."
        subject = last if who == "they" else who
        assert subject in PEOPLE and (start % 10 == 5) == (who == "they")
        if verb == "took":
            assert what in THINGS and what not in owner
            owner[what] = subject
        else:
            assert verb == "entered" and what in PLACES and what not in place.values()
            place[subject] = what
            together.add((who, what))
        last = subject
    return owner, place, together


@pytest.mark.parametrize("people", [5, 2, 8])
def test_answers_follow_from_the_stories(people: int) -> None:
    found = stories(seeded_rng(1, "test"), 400, people)
    questions = found.questions
    of_things, first = 0, 0
    for i in range(400):
        assert questions.document_lengths[i] == 10 * people
        document = STORY_VOCABULARY.decode(questions.document[i].tolist())
        owner, place, together = read(document)
        assert len(owner) == len(set(owner.values())) == len(place) == people
        query = STORY_VOCABULARY.decode(
            questions.query[i, : int(questions.query_lengths[i])].tolist()
        )
        assert query[int(questions.blank[i])] == BLANK and query[-1] == "."
        if of_thing := query[0] == "the":
            named, subject = query[1], owner[query[1]]
            assert query == ["the", named, "is", "in", "the", BLANK, "."]
        else:
            named = subject = query[0]
            assert query == [subject, "is", "in", "the", BLANK, "."]
        candidates = STORY_VOCABULARY.decode(questions.candidates[i].tolist())
        assert sorted(candidates) == candidates and set(candidates) == set(place.values())
        assert candidates[int(questions.labels[i])] == place[subject]
        assert found.two_steps[i] == ((named, place[subject]) not in together)
        of_things += of_thing
        first += document[0:2] == [document[0], "took"]
    assert 150 < of_things < 250 and 150 < first < 250, "half, in expectation"
    assert 250 < int(found.two_steps.sum()) < 350, "three in four, in expectation"


def test_no_place_in_a_story_is_the_answer_more_often() -> None:
    questions = stories(seeded_rng(2, "test"), 5000, 5).questions
    places = last_mention(questions).gather(1, questions.labels[:, None]).flatten()
    counts = (places // 10).long().bincount(minlength=5)
    assert counts.sum() == 5000 and ((counts - 1000).abs() < 4 * 30).all()


def test_stories_depend_on_seed_and_index() -> None:
    source = StorySource(3, 16)
    batch = source.batch(2)
    assert batch.document.shape == (16, 50)
    assert torch.equal(batch.document, StorySource(3, 16).batch(2).document)
    for other in (source.batch(3), StorySource(4, 16).batch(2)):
        assert not torch.equal(batch.document, other.document)
    for wrong in ((0, 3), (1, 9), (1, 1)):
        with pytest.raises(TextError, match="2 to 8 people"):
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
    assert test.two_steps is not None and 650 < int(test.two_steps.sum()) < 850
