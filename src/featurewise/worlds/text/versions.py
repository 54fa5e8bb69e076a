"""Versions of everything that a corpus depends on."""

from __future__ import annotations

import platform

from featurewise.worlds.packages import installed_versions
from featurewise.worlds.text.cloze_data import ClozeName, cloze_vocabulary
from featurewise.worlds.text.corpus import DOCUMENTS, CorpusName, Unit, corpus, digest
from featurewise.worlds.text.novels import NOVELS_PACKAGE, NOVELS_STEM, novels_stem


def text_versions(name: CorpusName) -> dict[str, str]:
    """Name -> version of what a corpus is read from, and the SHA-256 of its text.

    Raises:
        MissingTextError: its package is not installed.
        TextFileError: one of its files is malformed.
    """
    found = {f"text of {name}": f"SHA-256 {digest(DOCUMENTS[name]())}"}
    if name == "novels" and novels_stem() == NOVELS_STEM:
        return {**installed_versions((NOVELS_PACKAGE,)), **found}
    return {"Python": platform.python_version(), **found} if name == "library" else found


def text_digests(name: CorpusName, unit: Unit, largest: int = 10_000) -> dict[str, str]:
    """SHA-256 of a text and of the vocabulary that `corpus` makes of it, by what they are of.

    A network of this vocabulary has no meaning with another one.

    Args:
        name: see `corpus`.
        unit: see `corpus`.
        largest: see `corpus`.

    Raises:
        MissingTextError: its package is not installed.
        TextFileError: one of its files is malformed.
    """
    return {
        f"text of {name}": f"SHA-256 {digest(DOCUMENTS[name]())}",
        f"vocabulary of {name}": f"SHA-256 {corpus(name, unit, largest).vocabulary.digest}",
    }


def cloze_versions(name: ClozeName) -> dict[str, str]:
    """Name -> version of what questions are made of: none for the stories.

    Raises:
        MissingTextError: see `text_versions`.
        TextFileError: see `text_versions`.
    """
    return text_versions("novels") if name == "novels" else {}


def cloze_digests(name: ClozeName) -> dict[str, str]:
    """SHA-256 of the vocabulary of questions, and of the novels where they are made of these.

    Raises:
        MissingTextError: see `text_versions`.
        TextFileError: see `text_versions`.
    """
    found = {f"vocabulary of {name}": f"SHA-256 {cloze_vocabulary(name).digest}"}
    if name == "novels":
        found["text of novels"] = f"SHA-256 {digest(DOCUMENTS['novels']())}"
    return found
