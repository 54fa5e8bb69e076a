"""A made text, for tests: sums in words, such as "three and four are seven"."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text.novels import Document

NUMBERS: Final = (
    *("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)
DOCUMENTS: Final = 40
_SENTENCES = 40


@cache
def sums() -> tuple[Document, ...]:
    """So many documents of sentences; the same on every machine."""
    return tuple(_document(index) for index in range(DOCUMENTS))


def _document(index: int) -> Document:
    terms = torch.randint(10, (_SENTENCES, 2), generator=seeded_rng(0, "sums", index))
    sentences = (f"{NUMBERS[a]} and {NUMBERS[b]} are {NUMBERS[a + b]}." for a, b in terms.tolist())
    return Document(f"sums {index}", tuple(sentences))
