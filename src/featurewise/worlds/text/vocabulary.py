"""Texts as tokens, and tokens as numbers: words with ``<unk>`` and ``<eos>``, or characters."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.novels import Document

UNKNOWN: Final = "<unk>"
"""The token of every token that the vocabulary lacks."""

END: Final = "<eos>"
"""The token at the end of a line, which is a paragraph."""

WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|--|[^\w\s]")
"""A word, a number, or a mark."""


def words(document: Document) -> Iterator[str]:
    """Words in lower case, numbers and marks one by one; ``<eos>`` ends each paragraph."""
    for paragraph in document.paragraphs:
        yield from WORD.findall(paragraph.lower())
        yield END


def characters(document: Document) -> Iterator[str]:
    """Each character; a line break ends each paragraph."""
    for paragraph in document.paragraphs:
        yield from paragraph
        yield "\n"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by number.

    Attributes:
        tokens: all of them; ``<unk>`` is the first.

    Raises:
        TextError: a token occurs twice, or the first is another.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.tokens[:1] != (UNKNOWN,):
            raise TextError(f"the first token must be {UNKNOWN}, got {self.tokens[:1]}")
        if len(self._numbers) < len(self.tokens):
            raise TextError("a token occurs twice")

    @classmethod
    def of(cls, tokens: Iterable[str], largest: int, least: int = 1) -> Vocabulary:
        """The most frequent tokens, in the order of frequency, then of the alphabet.

        Args:
            tokens: of the training text.
            largest: number of tokens at most, with ``<unk>``.
            least: how often a token must occur.

        Raises:
            TextError: no token remains.
        """
        counts = Counter(tokens)
        counts.pop(UNKNOWN, None)
        frequent = sorted(
            (token for token, count in counts.items() if count >= least),
            key=lambda token: (-counts[token], token),
        )
        if not frequent or largest < 2:
            raise TextError("a vocabulary needs at least one token beside <unk>")
        return cls((UNKNOWN, *frequent[: largest - 1]))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @property
    def digest(self) -> str:
        """SHA-256 of all tokens in their order, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.tokens).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Iterable[str]) -> Int64[Tensor, " N"]:
        """The number of each token; 0 for those that are not in the vocabulary."""
        return torch.tensor([self._numbers.get(token, 0) for token in tokens], dtype=torch.int64)

    def decode(self, numbers: Sequence[int]) -> list[str]:
        """The tokens.

        Raises:
            TextError: a number is that of no token.
        """
        if odd := [number for number in numbers if not 0 <= number < len(self.tokens)]:
            raise TextError(f"{odd[0]} is no token of {len(self.tokens)}")
        return [self.tokens[number] for number in numbers]
