"""What accuracy is measured on: questions by type, count questions by number, the twin test.

Each figure has a name, a definition and the questions (or pairs of twin questions) it counts, so
that whoever measures needs nothing but the answers.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from featurewise.worlds.clevr.twins import OPPOSITES
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES, RELATIONS

_NUMBERS: Final = {**{f"count {n}": (n, n + 1) for n in range(7)}, "count 7 or more": (7, 11)}
"""Name -> the true numbers that it stands for: the first, and that after the last."""

BY_TYPE: Final[dict[str, str]] = {
    **{
        kind.replace("_", " "): f"accuracy on questions whose program ends in {kind}"
        for kind in QUESTION_TYPES
    },
    **{
        name: f"accuracy on count questions with the answer {name.removeprefix('count ')}"
        for name in _NUMBERS
    },
}
"""Name -> definition of the accuracies by type, and of count questions by true number."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "count": ("count",),
    "exist": ("exist",),
    "compare integer": ("equal integer", "less than", "greater than"),
    "query attribute": ("query size", "query color", "query material", "query shape"),
    "compare attribute": ("equal size", "equal color", "equal material", "equal shape"),
}
"""The five rows of published tables (Johnson et al. 2017), as sums of the thirteen types."""

NUMBERS: Final = tuple(_NUMBERS)
"""Names of the accuracies by true number."""

_SIDES: Final = {pair: " ".join(pair) for pair in OPPOSITES}
TWINS: Final[dict[str, str]] = {
    **{
        f"twin {relation}": "twin test: accuracy on questions for the color of the object "
        f"{phrase} another"
        for relation, phrase in (
            ("left", "left of"),
            ("right", "right of"),
            ("front", "in front of"),
            ("behind", "behind"),
        )
    },
    **{
        f"twin {what} {sides}": f"twin test, {sides.replace(' ', ' and ')}: {definition}"
        for what, definition in (
            ("pair", "pairs of questions with two correct answers"),
            ("mirrored", "questions that are answered with the color of the twin opposite"),
            ("changed", "pairs of questions with two different answers"),
        )
        for sides in _SIDES.values()
    },
}
"""Name -> definition of the figures of the twin test; see `featurewise.worlds.clevr.twins`."""


def questions_by_type(
    answers: Int64[Tensor, "Q"], types: Int64[Tensor, "Q"]
) -> dict[str, Bool[Tensor, "Q"]]:
    """Which questions each name of `BY_TYPE` counts; names without questions are left out.

    Args:
        answers: position of each true answer in ``ANSWERS``.
        types: position of each question's type in ``QUESTION_TYPES``, -1 where unknown.
    """
    found = {kind.replace("_", " "): types == index for index, kind in enumerate(QUESTION_TYPES)}
    numbers = answers - ANSWERS.index("0")
    for name, (first, stop) in _NUMBERS.items():
        found[name] = found["count"] & (numbers >= first) & (numbers < stop)
    return {name: rows for name, rows in found.items() if rows.any()}


def twin_hits(
    predicted: Int64[Tensor, "Q"], answers: Int64[Tensor, "Q"], relations: Int64[Tensor, "Q"]
) -> dict[str, tuple[Bool[Tensor, "N"], Int64[Tensor, "N"]]]:
    """What each name of `TWINS` counts; names that no pair belongs to are left out.

    Args:
        predicted: position of each answer of a network in ``ANSWERS``; those to the questions of a
            pair stand in rows 2 i and 2 i + 1.
        answers: positions of the true answers.
        relations: positions in ``RELATIONS``.

    Returns:
        Name -> hits, and the row of the question (of a pair, its first) that each is about.
    """
    right = predicted == answers
    mirrored = predicted == answers.view(-1, 2).flip(1).flatten()
    rows = torch.arange(len(answers))
    found = {
        f"twin {name}": (right[relations == index], rows[relations == index])
        for index, name in enumerate(RELATIONS)
    }
    for pair, sides in _SIDES.items():
        of_pair = relations[::2] == RELATIONS.index(pair[0])
        both = right.view(-1, 2).all(1)[of_pair]
        changed = (predicted[::2] != predicted[1::2])[of_pair]
        of_question = of_pair.repeat_interleave(2)
        found[f"twin pair {sides}"] = both, rows[::2][of_pair]
        found[f"twin mirrored {sides}"] = mirrored[of_question], rows[of_question]
        found[f"twin changed {sides}"] = changed, rows[::2][of_pair]
    return {name: found[name] for name in TWINS if len(found[name][0])}
