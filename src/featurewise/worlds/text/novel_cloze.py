"""Cloze questions of the novels: twenty sentences, and the next one without a name.

They are made as the named entities of the Children's Book Test were (Hill et al. 2016): a name
of the sentence after twenty others is the answer, if they name it too; candidates are names of
the twenty. Names are anonymous, as in the questions of CNN and Daily Mail (Hermann et al. 2015):
each question numbers its own, so that nothing but its text says who is who. Books share no part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text.cloze import BLANK, Cloze
from featurewise.worlds.text.errors import TextError
from featurewise.worlds.text.novels import NOVELS, PARTS, Document, Part, novels
from featurewise.worlds.text.vocabulary import WORD

SENTENCES: Final = 20
"""Sentences of a document."""

CANDIDATES: Final = 10
"""Candidates of a question, at most: it has fewer where its document has fewer names."""

ENTITIES: Final = 40
"""Names in a question, at most."""

LONGEST: Final = 700
"""Tokens of a document, at most."""

BOOKS: Final[dict[Part, tuple[str, ...]]] = {
    "train": ("sensesensibility", "prideprejudice", "mansfieldpark", "emma"),
    "validation": ("northangerabbey",),
    "test": ("persuasion",),
}
"""Part -> novels, as `NOVELS` calls them."""

_TITLES = "Mr Mrs Miss Misses Messrs Lady Lord Sir Dr Captain Colonel Admiral St"
_OTHERS = (
    "God Heaven Heavens Christmas Michaelmas Easter English French Sunday Monday Tuesday Wednesday "
    "Thursday Friday Saturday January February March April May June July August September October "
    "November December"
)
_NO_NAMES = frozenset(f"{_TITLES} {_OTHERS}".split())
_ABBREVIATED = re.compile(r"\b(Mr|Mrs|Messrs|Dr|St)\.")
_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'”’]))\s+(?=[\"'“‘(]?[A-Z])")
_MID_SENTENCE = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+\b")
_LEAST, _SHARE = 5, 0.2  # mentions of a name; share of them that may be in lower case


def entity(number: int) -> str:
    """The token of a name, such as ``@entity3``."""
    return f"@entity{number}"


def sentences(document: Document) -> tuple[str, ...]:
    """The sentences of a chapter: they end at a mark before a capital letter or a paragraph."""
    return tuple(
        sentence
        for paragraph in document.paragraphs
        for sentence in _END.split(_ABBREVIATED.sub(r"\1", paragraph))
        if re.search(r"\w", sentence)
    )


def names_of(documents: Sequence[Document]) -> frozenset[str]:
    """Names of a book: words with a capital letter within sentences, which hardly occur without.

    Titles, days and months are none.
    """
    text = _ABBREVIATED.sub(
        r"\1", " ".join(each for document in documents for each in document.paragraphs)
    )
    capital = Counter(_MID_SENTENCE.findall(text))
    lower = Counter(re.findall(r"\b[a-z]+\b", text))
    return frozenset(
        name
        for name, count in capital.items()
        if count >= _LEAST and lower[name.lower()] <= _SHARE * count and name not in _NO_NAMES
    )


def novel_questions(part: Part) -> tuple[Cloze, ...]:
    """The questions of the books of a part, in the order of the text; one for a sentence at most.

    Raises:
        TextError: there is no such part.
        MissingTextError: see `novels`.
        TextFileError: see `novels`.
    """
    if part not in PARTS:
        raise TextError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
    return _novel_questions(part)


@cache
def _novel_questions(part: Part) -> tuple[Cloze, ...]:
    chapters = novels()
    titles = [NOVELS[book] for book in BOOKS[part]]
    books = [[each for each in chapters if each.name.startswith(f"{title},")] for title in titles]
    return tuple(
        question
        for book in books
        for chapter in book
        for question in chapter_questions(chapter, names_of(book))
    )


def chapter_questions(chapter: Document, names: frozenset[str]) -> Iterator[Cloze]:
    """The questions of a chapter.

    Args:
        chapter: its text.
        names: of its book.
    """
    tokens = [WORD.findall(each) for each in sentences(chapter)]
    for last in range(SENTENCES, len(tokens)):
        before = [token for each in tokens[last - SENTENCES : last] for token in each]
        rng = seeded_rng(0, chapter.name, last)
        if question := _question(before, tokens[last], names, rng):
            yield question


def _question(
    before: Sequence[str], sentence: Sequence[str], names: frozenset[str], rng: torch.Generator
) -> Cloze | None:
    """A question of the sentence after others; None where it names nobody that they name."""
    known = sorted(names.intersection(before))
    removable = [i for i, token in enumerate(sentence) if token in known]
    everybody = sorted(names.intersection((*before, *sentence)))
    long = len(before) > LONGEST or len(everybody) > ENTITIES
    if not removable or len(known) < 2 or long:
        return None
    place = removable[int(torch.randint(len(removable), (1,), generator=rng))]
    answer = sentence[place]
    others = [name for name in known if name != answer]
    order = torch.randperm(len(others), generator=rng)[: CANDIDATES - 1].tolist()
    numbers = torch.randperm(len(everybody), generator=rng).tolist()
    called = {name: entity(n) for name, n in zip(everybody, numbers, strict=True)}
    called[BLANK] = BLANK

    def anonymous(tokens: Sequence[str]) -> tuple[str, ...]:
        return tuple(called.get(each, each.lower()) for each in tokens)

    query = (*sentence[:place], BLANK, *sentence[place + 1 :])
    candidates = sorted((answer, *(others[i] for i in order)))
    return Cloze(anonymous(before), anonymous(query), anonymous(candidates), called[answer])
