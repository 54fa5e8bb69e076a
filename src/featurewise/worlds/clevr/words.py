"""Words of questions: tokens and their indices.

Tokens follow the published baselines: lower case, split on spaces, "?" and "." dropped, ";" and ","
kept as tokens.
"""

from __future__ import annotations

import re
from typing import Final

PAD: Final = "<pad>"
UNKNOWN: Final = "<unk>"

#: Index -> token. The order is a contract: indices are stored in data sets and trained weights.
VOCABULARY: Final[tuple[str, ...]] = (
    PAD,
    UNKNOWN,
    ";",
    ",",
    "a",
    "an",
    "and",
    "another",
    "any",
    "anything",
    "are",
    "as",
    "ball",
    "balls",
    "behind",
    "big",
    "block",
    "blocks",
    "blue",
    "both",
    "brown",
    "color",
    "cube",
    "cubes",
    "cyan",
    "cylinder",
    "cylinders",
    "do",
    "does",
    "either",
    "else",
    "equal",
    "fewer",
    "front",
    "gray",
    "greater",
    "green",
    "has",
    "have",
    "how",
    "in",
    "is",
    "it",
    "its",
    "large",
    "left",
    "less",
    "made",
    "many",
    "material",
    "matte",
    "metal",
    "metallic",
    "more",
    "number",
    "object",
    "objects",
    "of",
    "on",
    "or",
    "other",
    "purple",
    "red",
    "right",
    "rubber",
    "same",
    "shape",
    "shiny",
    "side",
    "size",
    "small",
    "sphere",
    "spheres",
    "than",
    "that",
    "the",
    "there",
    "thing",
    "things",
    "tiny",
    "to",
    "visible",
    "what",
    "yellow",
)

_INDEX: Final = {word: index for index, word in enumerate(VOCABULARY)}
_TOKEN: Final = re.compile(r"[;,]|[^\s;,?.!:\"()]+")


def tokenize(text: str) -> list[str]:
    """Tokens of a text; punctuation may be glued to words ("thing;" gives "thing", ";")."""
    return _TOKEN.findall(text.lower())


def encode(text: str) -> list[int]:
    """Indices in `VOCABULARY` of a text's tokens; words outside it become that of "<unk>"."""
    return [_INDEX.get(token, 1) for token in tokenize(text)]


def unknown_words(text: str) -> list[str]:
    """Tokens of a text that are outside the vocabulary, in order of appearance."""
    return [token for token in tokenize(text) if token not in _INDEX]
