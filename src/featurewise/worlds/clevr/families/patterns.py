"""Patterns: the wording of questions, and the words of descriptions and relations.

A pattern is a text with placeholders:

- ``<2>`` / ``<2s>``: the plan's second description, singular or plural;
- ``<R1>``: the plan's first relation;
- ``<thing>`` / ``<things>``: the word of a description without attributes;
- ``[that is]``: optional words, used with probability 1/2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Final

from featurewise.worlds.clevr.families.options import DESCRIPTIONS

#: Value -> its synonyms; a value that is not listed has only its own name.
SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "thing": ("thing", "object"),
    "sphere": ("sphere", "ball"),
    "cube": ("cube", "block"),
    "large": ("large", "big"),
    "small": ("small", "tiny"),
    "metal": ("metallic", "metal", "shiny"),
    "rubber": ("rubber", "matte"),
    "left": ("left of", "to the left of", "on the left side of"),
    "right": ("right of", "to the right of", "on the right side of"),
    "front": ("in front of",),
}

_PLACE: Final = re.compile(r"(<\w+>|\[[^\]]*\])")

#: Description code -> the synonyms of each of its words, in the order of the words.
_WORDS: Final = tuple(
    tuple(
        SYNONYMS.get(word, (word,))
        for word in (*(w for w in description[:-1] if w), description[-1] or "thing")
    )
    for description in DESCRIPTIONS
)


class Pattern:
    """One wording of a family's questions; the module docstring explains its syntax.

    Args:
        text: The pattern, without capital letter and question mark.
        exclusive: Whether the family has exactly two descriptions and no relation. Then the word
            "other" is used only where both descriptions could fit the same object.
    """

    def __init__(self, text: str, *, exclusive: bool = False) -> None:
        self.text = text
        self.exclusive = exclusive
        self._parts = tuple(part for part in _PLACE.split(text) if part)

    def fill(self, descriptions: Sequence[int], relations: Sequence[str], rng: Random) -> str:
        """The question in words.

        Args:
            descriptions: Codes of the plan's descriptions, in order.
            relations: The plan's relations, in order.
            rng: Samples synonyms and optional words.
        """
        texts: list[str] = []
        for part in self._parts:
            if part[0] == "[":
                texts.append(part[1:-1] if rng.random() < 0.5 else "")
            elif part[0] != "<":
                texts.append(part)
            elif part[1] == "R":
                word = relations[int(part[2:-1]) - 1]
                texts.append(_sample(SYNONYMS.get(word, (word,)), rng))
            else:
                plural = part.endswith("s>")
                name = part[1:-2] if plural else part[1:-1]
                code = 0 if name == "thing" else descriptions[int(name) - 1]
                words = " ".join([_sample(synonyms, rng) for synonyms in _WORDS[code]])
                texts.append(words + "s" if plural else words)
        words = " ".join("".join(texts).split()) + "?"
        if self.exclusive and _contradict(descriptions[0], descriptions[1]):
            words = words.replace(" other ", " ").replace(" another ", " a ")
        return words[0].upper() + words[1:]


def _sample(synonyms: tuple[str, ...], rng: Random) -> str:
    return synonyms[int(rng.random() * len(synonyms))] if len(synonyms) > 1 else synonyms[0]


def _contradict(first: int, second: int) -> bool:
    """Whether two descriptions name different values of an attribute (no shape is "thing")."""
    *a, shape_a = DESCRIPTIONS[first]
    *b, shape_b = DESCRIPTIONS[second]
    return shape_a != shape_b or any(x and y and x != y for x, y in zip(a, b, strict=True))


def chain(hops: int, *, plural: bool = False, start: int = 1, relation: int = 1) -> str:
    """A description with a chain of relations: "<2> [that is] <R1> the <1>" for one hop.

    Args:
        hops: Number of relations.
        plural: Whether the outermost noun is plural.
        start: Number of the innermost description.
        relation: Number of the innermost relation.
    """
    noun = f"<{start + hops}{'s' if plural else ''}>"
    if hops == 0:
        return noun
    inner = chain(hops - 1, start=start, relation=relation)
    copula = "that are" if plural else "that is"
    return f"{noun} [{copula}] <R{relation + hops - 1}> the {inner}"


def ask_value(attribute: str, noun: str, *, pronoun: bool = True) -> tuple[str, ...]:
    """Wordings of a query of an attribute of "the `noun`"; with `pronoun`, also in two clauses."""
    direct = [
        f"what {attribute} is the {noun}",
        f"what is the {attribute} of the {noun}",
        f"the {noun} is what {attribute}",
    ]
    clauses = [f"what {attribute} is it", f"what is its {attribute}"]
    if attribute == "size":
        direct.append(f"how big is the {noun}")
        clauses.append("how big is it")
    elif attribute == "material":
        direct[2] = f"the {noun} is made of what material"
        direct.append(f"what is the {noun} made of")
        clauses[0] += " [made of]"
        clauses.append("what is it made of")
    if not pronoun:
        return (*direct, f"the {noun} has what {attribute}")
    return (*direct, *(f"there is a {noun}; {clause}" for clause in clauses))


def ask_count(nouns: str, where: str) -> tuple[str, ...]:
    """Wordings of "how many `nouns` are `where`"."""
    return (f"how many {nouns} are {where}", f"what number of {nouns} are {where}")


def ask_exist(noun: str, nouns: str, where: str) -> tuple[str, ...]:
    """Wordings of "is there a `noun` (plural `nouns`) `where`"."""
    return (f"is there a {noun} [that is] {where}", f"are there any {nouns} [that are] {where}")


def ask_numbers(function: str, first: str, second: str) -> tuple[str, ...]:
    """Wordings of a comparison of the numbers of two plural nouns."""
    if function == "equal_integer":
        return (
            f"are there an equal number of {first} and {second}",
            f"are there the same number of {first} and {second}",
            f"is the number of {first} the same as the number of {second}",
        )
    word, comparative = {"less_than": ("less", "fewer"), "greater_than": ("greater", "more")}[
        function
    ]
    return (
        f"are there {comparative} {first} than {second}",
        f"is the number of {first} {word} than the number of {second}",
    )


def ask_equal(attribute: str, first: str, second: str) -> tuple[str, ...]:
    """Wordings of "do two nouns have the same value of an attribute"."""
    same = f"the same {attribute} as the {second}"
    being = f"made of {same}" if attribute == "material" else same
    forms = [
        f"is the {first} {being}",
        f"does the {first} have {same}",
        f"do the {first} and the {second} have the same {attribute}",
        f"is the {attribute} of the {first} the same as the {second}",
        f"there is a {first}; is it {being}",
        f"there is a {first}; does it have {same}",
        f"there is a {first}; is its {attribute} the same as the {second}",
    ]
    if attribute == "material":
        forms.append(f"are the {first} and the {second} made of the same material")
    return tuple(forms)
