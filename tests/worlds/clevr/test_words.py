"""Words: tokens, the order of the vocabulary, the words of official and generated questions."""

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
from featurewise.worlds.clevr.vocabulary import PAD, UNKNOWN, VOCABULARY
from featurewise.worlds.clevr.words import (
    VARIANTS,
    encode,
    has_known_word,
    near_words,
    tokenize,
    unknown_words,
)

OFFICIAL = Path(__file__).parents[4] / "shared/data/clevr_blender"


def test_the_order_of_the_vocabulary_does_not_change():
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
        ("Don\u2019t \u2018know\u2019", ["don't", "know"]),
        ("\u201cRed\u201d\u00a0\u00abcube\u00bb\u2026", ["red", "cube"]),
        ("\uff32\uff45\uff44", ["red"]),
        ("", []),
        (" ?. ", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


def test_encoding():
    assert encode("Cube; zebra?") == [VOCABULARY.index("cube"), VOCABULARY.index(";"), 1]
    assert unknown_words("Cube; zebra, quux?") == ["zebra", "quux"]


def test_special_tokens_are_no_words():
    assert encode("<pad> <unk>") == [1, 1] and unknown_words("<pad>") == ["<pad>"]


@pytest.mark.parametrize(
    ("variant", "plain"),
    [
        ("What colour is the grey cube?", "what color is the gray cube"),
        ("What\u2019s the COLOUR of it", "what is the color of it"),
        ("There's a thing; how's its shape?", "there is a thing; how is its shape"),
    ],
)
def test_known_variants_are_read(variant, plain):
    assert encode(variant) == encode(plain) and unknown_words(variant) == []


def test_no_variant_is_a_word_and_all_lead_to_words():
    assert not VARIANTS.keys() & set(VOCABULARY)
    assert {word for words in VARIANTS.values() for word in words} <= set(VOCABULARY[4:])


@pytest.mark.parametrize(
    ("word", "near"),
    [("colr", "color"), ("metl", "metal"), ("shpere", "sphere"), ("cilinder", "cylinder")],
)
def test_near_words_are_found(word, near):
    assert near_words(word)[0] == near_words(word.upper())[0] == near


def test_far_words_have_none_near():
    assert [near_words(word) for word in ("zeppelin", "wie", "xyz", "")] == [[], [], [], []]


def test_a_text_of_unknown_words_has_no_known_one():
    assert not any(map(has_known_word, ("", " ?! ", ";,", "zebra; quux, <pad>", "colr")))
    assert has_known_word("zebra cube") and has_known_word("grey")


@given(st.lists(st.sampled_from(VOCABULARY[2:])))
def test_encoded_words_decode_to_themselves(words):
    assert [VOCABULARY[i] for i in encode(" ".join(words))] == words


def _words_of_patterns() -> set[str]:
    """All tokens that patterns can generate."""
    found = set()
    for family in FAMILIES:
        for pattern in family.patterns:
            text = "".join(c if c not in "[]" else " " for c in pattern.text)
            found.update(word for word in tokenize(text) if not word.startswith("<"))
    for value in {v for d in DESCRIPTIONS for v in d if v} | {
        "thing",
        "left",
        "right",
        "behind",
        "front",
    }:
        for synonym in SYNONYMS.get(value, (value,)):
            found.update(tokenize(synonym))
    nouns = {"cube", "block", "sphere", "ball", "cylinder", "thing", "object"}
    return found | {f"{noun}s" for noun in nouns}


def test_the_vocabulary_has_exactly_the_words_of_the_patterns():
    assert _words_of_patterns() == set(VOCABULARY) - {PAD, UNKNOWN, ","}


def test_official_questions_use_the_same_words():
    if not OFFICIAL.is_dir():
        pytest.skip(f"official-generator data not found at {OFFICIAL}")
    official = set()
    for path in (OFFICIAL / "questions").iterdir():
        for question in json.loads(path.read_text())["questions"]:
            official.update(tokenize(question["question"]))
            assert unknown_words(question["question"]) == []
    assert _words_of_patterns() == official
