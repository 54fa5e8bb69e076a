"""Corpora: documents as three texts of tokens, with a vocabulary of the training text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeAlias

from jaxtyping import Int64
from torch import Tensor

from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.library import docstrings
from featurewise.worlds.text.made import sums
from featurewise.worlds.text.novels import Document, novels, of_part
from featurewise.worlds.text.vocabulary import Vocabulary, characters, words

CorpusName: TypeAlias = Literal["novels", "library", "sums"]
"""``novels`` of Jane Austen; documentation of Python's ``library``; made ``sums``."""

Unit: TypeAlias = Literal["word", "character"]
"""What a token is."""

DOCUMENTS: Final[Mapping[CorpusName, Callable[[], Sequence[Document]]]] = {
    "novels": novels,
    "library": docstrings,
    "sums": sums,
}


@dataclass(frozen=True)
class Corpus:
    """Three texts that share no document.

    Attributes:
        vocabulary: of the training text.
        train: numbers of its tokens.
        validation: likewise.
        test: likewise.
        documents: number of test documents.
    """

    vocabulary: Vocabulary
    train: Int64[Tensor, " N"]
    validation: Int64[Tensor, " V"]
    test: Int64[Tensor, " T"]
    documents: int


def corpus(name: CorpusName, unit: Unit, largest: int = 10_000, least: int = 1) -> Corpus:
    """A corpus by name.

    Args:
        name: see `CorpusName`.
        unit: see `Unit`.
        largest: tokens of the vocabulary, at most.
        least: how often a token of it must occur in the training text.

    Raises:
        TextError: there is no such corpus or unit.
        MissingTextError: its files are missing.
        TextFileError: one of its files is malformed.
    """
    return _corpus(name, unit, largest, least)


@cache
def _corpus(name: CorpusName, unit: Unit, largest: int, least: int) -> Corpus:
    if name not in DOCUMENTS or unit not in ("word", "character"):
        raise TextError(f"no corpus {name!r} of {unit!r}: there is {', '.join(DOCUMENTS)}")
    split = words if unit == "word" else characters
    documents = DOCUMENTS[name]()
    train, validation, test = (
        [token for document in of_part(documents, part) for token in split(document)]
        for part in ("train", "validation", "test")
    )
    vocabulary = Vocabulary.of(train, largest, least)
    return Corpus(
        vocabulary,
        vocabulary.encode(train),
        vocabulary.encode(validation),
        vocabulary.encode(test),
        len(of_part(documents, "test")),
    )


def digest(documents: Sequence[Document]) -> str:
    """SHA-256 of all paragraphs, in hexadecimal."""
    lines = (f"{each.name}\n" + "\n".join(each.paragraphs) for each in documents)
    return hashlib.sha256("\n\n".join(lines).encode()).hexdigest()
