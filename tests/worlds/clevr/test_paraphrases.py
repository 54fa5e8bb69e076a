"""The made language: it keeps the meaning, and its words are new."""

from __future__ import annotations

from random import Random

import pytest
import torch

from featurewise.worlds.clevr import QUESTION_TYPES, VOCABULARY, OnlineSource, encode
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.paraphrases import (
    FRAMES,
    NEW_WORDS,
    SYNONYMS,
    Paraphrased,
    described,
    known_words_only,
    paraphrase,
    paraphrased,
)
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES
from featurewise.worlds.clevr.words import UNKNOWN_INDEX, encode_with, frequent_unknown_words

ZERO_HOP = tuple(range(84, 90))
WORDS = (*VOCABULARY, *NEW_WORDS)
VALUE = {word: value for value, words in SYNONYMS.items() for word in words}


def source(**changes: object) -> OnlineSource:
    options = {
        "seed": 3,
        "width": 12,
        "height": 8,
        "samples": 1,
        "images_per_batch": 12,
        "questions_per_image": 6,
        "max_objects": 4,
        "families": ZERO_HOP,
    }
    return OnlineSource(**{**options, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (
            "How big is the red matte block?",
            {"color": "red", "material": "rubber", "shape": "cube"},
        ),
        ("Are there any big things?", {"size": "large"}),
        ("What is the shape of the tiny object?", {"size": "small"}),
        ("How many shiny balls are there?", {"material": "metal", "shape": "sphere"}),
        ("What number of cylinders are there?", {"shape": "cylinder"}),
        ("The cyan thing is made of what material?", {"color": "cyan"}),
    ],
)
def test_a_description_is_what_a_question_names(text: str, values: dict[str, str]) -> None:
    assert described([*encode(text), 0, 0]) == values


@pytest.mark.parametrize(
    "text", ["Is the cube left of the ball?", "What color is it?", "How many cubes or red balls?"]
)
def test_other_questions_are_refused(text: str) -> None:
    with pytest.raises(WorldError, match="describes"):
        described(encode(text))
    with pytest.raises(WorldError, match="no frame for questions of type 'equal_size'"):
        paraphrase("equal_size", {}, Random(0))


def test_meaning_stays_and_kinds_have_frames_of_their_own() -> None:
    batch = source().batch(0)
    found = paraphrased(batch, 5, 0)
    singular = {"boxes": "box"}
    heads: dict[str, set[str]] = {}
    for row in range(len(batch.lengths)):
        words = [WORDS[index] for index in found.questions[row].tolist() if index]
        assert len(words) == int(found.lengths[row])
        assert "<unk>" not in words
        plain = [singular.get(w, w if w in VALUE else w.removesuffix("s")) for w in words]
        values = [VALUE[word] for word in plain if word in VALUE]
        wanted = described(batch.questions[row].tolist())
        assert sorted(values) == sorted(
            [*wanted.values(), *([] if "shape" in wanted else ["thing"])]
        )
        kind = QUESTION_TYPES[int(batch.types[row])]
        frame = " ".join(w for w, p in zip(words, plain, strict=True) if p not in VALUE)
        for filler in ("please", "well", "so", "hey", "now"):
            frame = frame.removeprefix(f"{filler} ")
        heads.setdefault(kind, set()).add(frame)
    assert set(heads) <= set(FRAMES)
    shared = [one & other for k, one in heads.items() for j, other in heads.items() if k < j]
    assert not any(shared)
    for name in ("images", "image_index", "answers", "types"):
        assert torch.equal(getattr(found, name), getattr(batch, name))


def test_most_of_its_words_are_new() -> None:
    assert not set(NEW_WORDS) & set(VOCABULARY)
    assert list(NEW_WORDS) == sorted(set(NEW_WORDS))
    found = paraphrased(source().batch(1), 5, 1).questions
    real = found[found > 0]
    assert (real >= len(VOCABULARY)).double().mean() > 0.4
    only = known_words_only(found)
    assert int(only.max()) < len(VOCABULARY)
    assert torch.equal(only == UNKNOWN_INDEX, found >= len(VOCABULARY))


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    one, again = (Paraphrased(source(), 5) for _ in range(2))
    for index in (4, 2):
        assert torch.equal(one.batch(index).questions, again.batch(index).questions)
    other = Paraphrased(source(), 6).batch(2)
    assert not torch.equal(other.lengths, one.batch(2).lengths)


def test_every_value_has_words_and_every_frame_a_description() -> None:
    assert set(SYNONYMS) == {v for values in ATTRIBUTES.values() for v in values} | {"thing"}
    for frames in FRAMES.values():
        assert all(("{d}" in frame) != ("{ds}" in frame) for frame in frames)


def test_words_get_a_place_after_the_vocabulary() -> None:
    base = len(VOCABULARY)
    assert encode_with("red zebra hue cube", ["hue", "orb"]) == [
        VOCABULARY.index("red"),
        UNKNOWN_INDEX,
        base,
        VOCABULARY.index("cube"),
    ]


def test_frequent_unknown_words_are_counted() -> None:
    texts = ["an orb, an orb", "hue of the orb", "hue of the box", "a cube"]
    assert frequent_unknown_words(texts, at_least=2) == ["orb", "hue"]
    assert frequent_unknown_words(texts, at_least=1) == ["orb", "hue", "box"]
    assert frequent_unknown_words(texts) == []
