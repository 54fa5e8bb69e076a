"""Words: tokens, the vocabulary's contract, coverage of official and own questions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurewise.worlds.clevr.families import FAMILIES
from featurewise.worlds.clevr.families.options import DESCRIPTIONS
from featurewise.worlds.clevr.families.patterns import SYNONYMS
from featurewise.worlds.clevr.words import PAD, UNKNOWN, VOCABULARY, encode, tokenize, unknown_words

OFFICIAL = Path(__file__).parents[4] / "shared/data/clevr_blender"


def test_the_order_of_the_vocabulary_is_a_contract():
    digest = hashlib.sha256("\n".join(VOCABULARY).encode()).hexdigest()
    assert digest == "d3c889b03f03a7db3c8128048f871641789299cb66392602ff0c1ed9c79f5966"
    assert (VOCABULARY[0], VOCABULARY[1]) == (PAD, UNKNOWN)
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 84


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("What size is it?", ["what", "size", "is", "it"]),
        ("How big; is it?", ["how", "big", ";", "is", "it"]),
        ("A cube ;is", ["a", "cube", ";", "is"]),
        ("Red, or blue?  Neither.", ["red", ",", "or", "blue", "neither"]),
        ('"Is it" (red)!?', ["is", "it", "red"]),
        ("don't know", ["don't", "know"]),
        ("", []),
        (" ?. ", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


def test_encoding():
    assert encode("Cube; zebra?") == [VOCABULARY.index("cube"), VOCABULARY.index(";"), 1]
    assert unknown_words("Cube; zebra, quux?") == ["zebra", "quux"]


@given(st.lists(st.sampled_from(VOCABULARY[2:])))
def test_every_word_comes_back(words):
    assert [VOCABULARY[i] for i in encode(" ".join(words))] == words


def _words_we_can_say() -> set[str]:
    """Every token any pattern can produce."""
    said = set()
    for family in FAMILIES:
        for pattern in family.patterns:
            text = "".join(c if c not in "[]" else " " for c in pattern.text)
            said.update(word for word in tokenize(text) if not word.startswith("<"))
    for value in {v for d in DESCRIPTIONS for v in d if v} | {
        "thing",
        "left",
        "right",
        "behind",
        "front",
    }:
        for synonym in SYNONYMS.get(value, (value,)):
            said.update(tokenize(synonym))
    nouns = {"cube", "block", "sphere", "ball", "cylinder", "thing", "object"}
    return said | {f"{noun}s" for noun in nouns}


def test_the_vocabulary_holds_what_we_can_say_and_nothing_else():
    assert _words_we_can_say() == set(VOCABULARY) - {PAD, UNKNOWN, ","}


def test_official_questions_use_the_same_words():
    if not OFFICIAL.is_dir():
        pytest.skip(f"official-generator data not found at {OFFICIAL}")
    official = set()
    for path in (OFFICIAL / "questions").iterdir():
        for question in json.loads(path.read_text())["questions"]:
            official.update(tokenize(question["question"]))
            assert unknown_words(question["question"]) == []
    assert _words_we_can_say() == official
