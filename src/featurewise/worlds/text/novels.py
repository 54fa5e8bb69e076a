"""The six novels of Jane Austen, by chapter, from the files of the R package janeaustenr."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from featurewise.common.cache import cache_folder
from featurewise.worlds.text.errors import MissingTextError, TextError, TextFileError
from featurewise.worlds.text.rdata import read_character_vectors

Part: TypeAlias = Literal["train", "validation", "test"]
"""A part of a corpus."""

PARTS: Final = ("train", "validation", "test")

NOVELS_STEM: Final = Path("/usr/lib/R/site-library/janeaustenr/data/Rdata")
"""Where Debian's package keeps the novels: the path of two files, without their endings."""

NOVELS_PACKAGE: Final = "r-cran-janeaustenr"

NOVELS_FOLDER: Final = "novels"
"""Where the cache folder may have the two files, ``Rdata.rdb`` and ``Rdata.rdx``."""

NOVELS: Final = {
    "sensesensibility": "Sense and Sensibility",
    "prideprejudice": "Pride and Prejudice",
    "mansfieldpark": "Mansfield Park",
    "emma": "Emma",
    "northangerabbey": "Northanger Abbey",
    "persuasion": "Persuasion",
}
"""Name of an object in the package -> title, in the order of publication."""

_HEADING = re.compile(r"\s*chapter\s+(?:[ivxlc]+|\d+)\.?\s*", re.IGNORECASE)
_NO_PROSE = re.compile(r"\s*(?:volume\s+[ivx]+|the end|finis|end of .*)\.?\s*", re.IGNORECASE)
_TEST, _VALIDATION, _EVERY = 9, 4, 10


@dataclass(frozen=True)
class Document:
    """A chapter, or another text that is whole in one part of its corpus.

    Attributes:
        name: where it is from, such as ``Emma, chapter 3``.
        paragraphs: one line each, without the white space around them.
    """

    name: str
    paragraphs: tuple[str, ...]


def part_of(index: int) -> Part:
    """The part of the document of this index: of each ten the fifth validates, the last tests."""
    found: dict[int, Part] = {_TEST: "test", _VALIDATION: "validation"}
    return found.get(index % _EVERY, "train")


def of_part(documents: Sequence[Document], part: Part) -> tuple[Document, ...]:
    """The documents of a part, in their order; no document is in two.

    Raises:
        TextError: there is no such part.
    """
    if part not in PARTS:
        raise TextError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    return tuple(each for i, each in enumerate(documents) if part_of(i) == part)


def novels_stem() -> Path:
    """Where the novels are: in the cache folder, if they are there, else in Debian's package."""
    own = cache_folder() / NOVELS_FOLDER / NOVELS_STEM.name
    return own if Path(f"{own}.rdb").is_file() else NOVELS_STEM


def novels(stem: Path | str = "") -> tuple[Document, ...]:
    """All chapters of the six novels.

    Args:
        stem: of the files of the package, see `read_character_vectors`; empty: see `novels_stem`.

    Raises:
        MissingTextError: the files are missing; the message says how to get them.
        TextFileError: a file is malformed, or a novel is missing or has no chapters.
    """
    return _novels(Path(stem) if stem else novels_stem())


@cache
def _novels(stem: Path) -> tuple[Document, ...]:
    if not Path(f"{stem}.rdb").is_file():
        raise MissingTextError(
            f"{stem}.rdb is missing; on Debian: apt-get install {NOVELS_PACKAGE}; elsewhere: "
            'install.packages("janeaustenr") in R, and copy Rdata.rdb and Rdata.rdx of the '
            f"folder data of that package to {cache_folder() / NOVELS_FOLDER}"
        )
    found = read_character_vectors(stem)
    if missing := [name for name in NOVELS if name not in found]:
        raise TextFileError(f"{stem}.rdb: has no novel called {missing[0]}, only {sorted(found)}")
    return tuple(
        document for name, title in NOVELS.items() for document in _of(found[name], title, stem)
    )


def _of(lines: Sequence[str], title: str, stem: Path) -> list[Document]:
    chapters = [tuple(paragraphs(each)) for each in _chapters(lines)]
    if not chapters:
        raise TextFileError(f"{stem}.rdb: {title} has no line such as 'CHAPTER 1'")
    return [
        Document(f"{title}, chapter {number}", each)
        for number, each in enumerate(chapters, start=1)
        if each
    ]


def _chapters(lines: Sequence[str]) -> list[list[str]]:
    """Lines of each chapter, without the heading; what stands before the first is left out."""
    chapters: list[list[str]] = []
    for line in lines:
        if _HEADING.fullmatch(line):
            chapters.append([])
        elif chapters and not _NO_PROSE.fullmatch(line):
            chapters[-1].append(line)
    return chapters


def paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """Each run of lines that are not blank as one line, with single spaces.

    Underscores, which mark emphasis, are left out.
    """
    words: list[str] = []
    for line in (*lines, ""):
        words += line.replace("_", "").split()
        if not line.strip() and words:
            yield " ".join(words)
            words = []
