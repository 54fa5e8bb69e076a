"""Versions of everything that a corpus depends on."""

from __future__ import annotations

import platform

from featurewise.worlds.packages import installed_versions
from featurewise.worlds.text.corpus import DOCUMENTS, CorpusName, digest
from featurewise.worlds.text.novels import NOVELS_PACKAGE


def text_versions(name: CorpusName) -> dict[str, str]:
    """Name -> version of what a corpus is read from, and the SHA-256 of its text.

    Raises:
        MissingTextError: its package is not installed.
        TextFileError: one of its files is malformed.
    """
    found = {f"text of {name}": f"SHA-256 {digest(DOCUMENTS[name]())}"}
    if name == "novels":
        return {**installed_versions((NOVELS_PACKAGE,)), **found}
    return {"Python": platform.python_version(), **found} if name == "library" else found
