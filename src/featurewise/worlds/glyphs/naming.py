"""Names of letters in Unicode: descriptions in words, for text conditions."""

from __future__ import annotations

import unicodedata

from featurewise.worlds.glyphs.errors import GlyphError


def names(letters: str) -> tuple[str, ...]:
    """The Unicode name of each letter, such as ``LATIN SMALL LETTER E WITH ACUTE``.

    Raises:
        GlyphError: a character without a name.
    """
    found = tuple(unicodedata.name(letter, "") for letter in letters)
    if nameless := [letter for letter, name in zip(letters, found, strict=True) if not name]:
        raise GlyphError(f"Unicode has no name for {nameless!r}")
    return found


def words(letters: str) -> tuple[tuple[str, ...], ...]:
    """The words of each letter's name, in order; a hyphenated word is one word."""
    return tuple(tuple(name.split()) for name in names(letters))


def vocabulary(letters: str) -> tuple[str, ...]:
    """All words of the letters' names, in alphabetical order."""
    return tuple(sorted({word for name in words(letters) for word in name}))
