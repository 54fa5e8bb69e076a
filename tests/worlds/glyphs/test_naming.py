"""Unicode names of letters."""

from __future__ import annotations

import pytest

from featurewise.worlds.glyphs import GlyphError, names, vocabulary, words


def test_names_and_words() -> None:
    assert names("aé") == ("LATIN SMALL LETTER A", "LATIN SMALL LETTER E WITH ACUTE")
    assert words("é") == (("LATIN", "SMALL", "LETTER", "E", "WITH", "ACUTE"),)
    assert vocabulary("a7") == ("A", "DIGIT", "LATIN", "LETTER", "SEVEN", "SMALL")


def test_a_character_without_a_name() -> None:
    with pytest.raises(GlyphError, match=r"no name for \['\\x07'\]"):
        names("a\a")
