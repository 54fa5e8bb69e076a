"""Combinations of color and shape in questions, against their words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from featurewise.worlds.clevr import VOCABULARY, Recipe, collate, encode
from featurewise.worlds.clevr.combinations import (
    known_combinations,
    named_combinations,
    swaps,
)
from featurewise.worlds.clevr.vocabulary import COGENT_COLORS, COLORS, SHAPES

NO_IMAGE = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)


def tokens(*texts: str) -> Tensor:
    count = len(texts)
    rows = [encode(text) for text in texts]
    return collate(NO_IMAGE, [0] * count, rows, [0] * count, [0] * count).questions


def words(row: Tensor) -> str:
    return " ".join(VOCABULARY[index] for index in row.tolist() if index)


@pytest.mark.parametrize(
    ("text", "color", "shape", "both"),
    [
        (
            "How many cyan cubes are there?",
            "how many yellow cubes are there",
            "how many cyan spheres are there",
            "how many yellow spheres are there",
        ),
        (
            "What is the blue big cylinder made of?",  # the paper's figure 10
            "what is the green big cylinder made of",
            "what is the blue big sphere made of",
            "what is the green big sphere made of",
        ),
        (
            "What is the big blue metal cylinder made of?",
            "what is the big green metal cylinder made of",
            "what is the big blue metal sphere made of",
            "what is the big green metal sphere made of",
        ),
        (
            "Are there any red shiny blocks?",
            "are there any gray shiny blocks",
            "are there any red shiny balls",
            "are there any gray shiny balls",
        ),
        (
            "red cube",
            "gray cube",
            "red sphere",
            "gray sphere",
        ),
    ],
)
def test_three_known_questions_stand_in(text: str, color: str, shape: str, both: str) -> None:
    found = swaps(tokens(text, "How many red things that are left of the gray cube are there?"))
    assert found.rows.tolist() == [0]
    assert [words(part[0]) for part in (found.color, found.shape, found.both)] == [
        color,
        shape,
        both,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "How many gray cubes are there?",  # known
        "How many cyan things are there?",  # no shape
        "What color is the cube?",
        "Are there more cyan cubes than red cubes?",  # two
        "Is the cyan ball left of the cube?",
    ],
)
def test_other_questions_are_left_out(text: str) -> None:
    assert not len(swaps(tokens(text)).rows)


def test_the_other_condition_is_the_mirror() -> None:
    found = swaps(tokens("How many gray cubes are there?", "How many cyan cubes are there?"), "B")
    assert found.rows.tolist() == [0]
    assert words(found.color[0]) == "how many red cubes are there"


def test_turns_give_each_known_color_once() -> None:
    question = tokens("Is there a purple block?")
    found = [words(swaps(question, turn=turn).color[0]).split()[3] for turn in range(4)]
    assert sorted(found) == sorted(COGENT_COLORS["A"]["cube"])
    assert len({words(swaps(question, turn=turn).shape[0]) for turn in range(4)}) == 1


def test_known_combinations_are_the_palettes() -> None:
    table = known_combinations("A")
    for row, color in enumerate(COLORS):
        for column, shape in enumerate(SHAPES):
            assert bool(table[row, column]) is (color in COGENT_COLORS["A"][shape])


def test_in_generated_questions_words_and_positions_agree() -> None:
    """On questions about scenes: a color and a shape that stand in one description."""
    recipe = Recipe(seed=1, questions_per_image=30, max_objects=4)
    scenes = recipe.scenes(0, 4)
    texts = [question.text for some in recipe.questions(0, scenes) for question in some]
    given = tokens(*texts)
    color, shape, where = named_combinations(given)
    pairs = 0
    for row in range(len(texts)):
        spoken = words(given[row]).split()
        for place, word in enumerate(spoken):
            if int(shape[row, place]) >= 0:
                pairs += 1
                assert spoken[int(where[row, place])] == COLORS[int(color[row, place])]
                assert place - int(where[row, place]) in (1, 2)  # size stands before color
                noun = SHAPES[int(shape[row, place])]
                assert word.rstrip("s") in {noun, "block", "ball"}
    assert pairs > 10
    found = swaps(given)
    for part in (found.color, found.shape, found.both):
        assert not len(swaps(part).rows)  # nothing unknown is left
