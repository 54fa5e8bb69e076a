"""Combinations of a color and a shape that questions name, and known ones in their place.

CLEVR-CoGenT (Johnson et al. 2017) has combinations that never occur in condition A, such as cyan
cubes. Perez et al. 2018 (section 4.5) answer a question about one of them by three others that name
known combinations: cyan spheres, yellow cubes, yellow spheres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from featurewise.worlds.clevr.vocabulary import COGENT_COLORS, COLORS, SHAPES, VOCABULARY

NOUNS: Final[dict[str, tuple[str, ...]]] = {
    "cube": ("cube", "cubes", "block", "blocks"),
    "sphere": ("sphere", "spheres", "ball", "balls"),
    "cylinder": ("cylinder", "cylinders"),
}
"""Shape -> its nouns in questions."""

_OTHER: Final[dict[str, str]] = {"A": "B", "B": "A"}
_BETWEEN: Final = (
    *("rubber", "matte", "metal", "metallic", "shiny"),
    *("large", "big", "small", "tiny"),
)
"""Words that may stand between a color and its noun: "cyan metal cube", "blue big cylinder"."""


def _positions(words: dict[str, int]) -> Int64[Tensor, " V"]:
    return torch.tensor([words.get(word, -1) for word in VOCABULARY])


_COLOR: Final = _positions({color: index for index, color in enumerate(COLORS)})
_SHAPE: Final = _positions(
    {noun: index for index, shape in enumerate(SHAPES) for noun in NOUNS[shape]}
)
_IS_BETWEEN: Final = _positions(dict.fromkeys(_BETWEEN, 1)) > 0
_COLOR_TOKENS: Final = torch.tensor([VOCABULARY.index(color) for color in COLORS])


def _spheres() -> Int64[Tensor, " V"]:
    """Token -> the noun of spheres in the same number, for nouns of cubes and cylinders."""
    found = torch.arange(len(VOCABULARY))
    for nouns in NOUNS.values():
        for noun, other in zip(nouns, NOUNS["sphere"], strict=False):  # cylinders have two nouns
            found[VOCABULARY.index(noun)] = VOCABULARY.index(other)
    return found


_SPHERES: Final = _spheres()


@dataclass(frozen=True)
class Swaps:
    """Questions that name one unknown combination, and known ones in its place.

    Attributes:
        rows: which of the questions these are.
        color: the questions with another color, which the shape is known in.
        shape: with spheres in place of the shape, which are known in every color.
        both: with the other color and with spheres.
    """

    rows: Int64[Tensor, "P"]
    color: Int64[Tensor, "P T"]
    shape: Int64[Tensor, "P T"]
    both: Int64[Tensor, "P T"]


def named_combinations(
    questions: Int64[Tensor, "Q T"],
) -> tuple[Int64[Tensor, "Q T"], Int64[Tensor, "Q T"], Int64[Tensor, "Q T"]]:
    """Of every noun: its color and shape, and where the word of its color stands.

    Args:
        questions: token ids.

    Returns:
        Positions in ``COLORS`` and ``SHAPES``, both -1 where no noun with a color stands; and
        positions in the question.
    """
    shape = _SHAPE[questions]
    color, where = torch.full_like(questions, -1), torch.zeros_like(questions)
    place = torch.arange(questions.shape[1]).expand_as(questions)
    reached = shape >= 0
    for distance in (1, 2, 3):
        before = (place - distance).clamp_min(0)
        reached = reached & (place >= distance)
        found = reached & (_COLOR[questions].gather(1, before) >= 0)
        color = torch.where(found, _COLOR[questions].gather(1, before), color)
        where = torch.where(found, before, where)
        reached = reached & _IS_BETWEEN[questions].gather(1, before)
    return color, torch.where(color >= 0, shape, -1), where


def known_combinations(condition: Literal["A", "B"]) -> Bool[Tensor, "8 3"]:
    """Whether objects of a color (row) and shape (column) occur in a condition of CoGenT."""
    palettes = COGENT_COLORS[condition]
    return torch.tensor([[color in palettes[shape] for shape in SHAPES] for color in COLORS])


def swaps(questions: Int64[Tensor, "Q T"], known: Literal["A", "B"] = "A", turn: int = 0) -> Swaps:
    """Known combinations in place of the unknown one, for all questions that name just one.

    Args:
        questions: token ids, padded with 0.
        known: condition whose combinations are known.
        turn: 0 replaces a color by the one that stands at its place in the shape's other palette;
            1 to 3 by those after it.
    """
    color, shape, where = named_combinations(questions)
    novel = (shape >= 0) & ~known_combinations(known)[color, shape]
    rows = (novel.sum(1) == 1).nonzero()[:, 0]
    noun = novel[rows].int().argmax(1, keepdim=True)
    # Row of a color and column of a shape -> the token of the color in its place.
    table = torch.zeros(len(COLORS), len(SHAPES), dtype=torch.int64)
    for column, name in enumerate(SHAPES):
        palette = COGENT_COLORS[known][name]
        for index, each in enumerate(COGENT_COLORS[_OTHER[known]][name]):
            other = palette[(index + turn) % len(palette)]
            table[COLORS.index(each), column] = _COLOR_TOKENS[COLORS.index(other)]
    chosen = questions[rows]
    other_color = table[color[rows].gather(1, noun), shape[rows].gather(1, noun)]
    by_color = chosen.scatter(1, where[rows].gather(1, noun), other_color)
    sphere = _SPHERES[chosen.gather(1, noun)]
    return Swaps(rows, by_color, chosen.scatter(1, noun, sphere), by_color.scatter(1, noun, sphere))
