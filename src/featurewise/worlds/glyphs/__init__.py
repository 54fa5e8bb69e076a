"""Letters of real typefaces: pictures, how their faces look, what Unicode calls them.

:func:`find_typefaces` finds faces, :func:`split_typefaces` parts them by family, :func:`glyphs`
draws them, :class:`GlyphSource` gives batches, :func:`judge` a network that reads what others
drew.
:func:`scripts` groups the letters of the world's scripts into classes for few-shot learning.
"""

from __future__ import annotations

from featurewise.worlds.glyphs.attributes import ATTRIBUTES
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import DEBIAN_PACKAGES
from featurewise.worlds.glyphs.judging import Judge, Training, coverage, judge
from featurewise.worlds.glyphs.naming import names, vocabulary, words
from featurewise.worlds.glyphs.render import Glyphs, Script, glyphs, scripts
from featurewise.worlds.glyphs.source import GlyphBatch, GlyphSource, as_ink, jittered
from featurewise.worlds.glyphs.typefaces import (
    DIGITS,
    LETTERS,
    LOWERCASE,
    UPPERCASE,
    Split,
    Survey,
    Typeface,
    find_typefaces,
    split_typefaces,
    survey,
)

__all__ = [
    "ATTRIBUTES",
    "DEBIAN_PACKAGES",
    "DIGITS",
    "LETTERS",
    "LOWERCASE",
    "UPPERCASE",
    "GlyphBatch",
    "GlyphError",
    "GlyphSource",
    "Glyphs",
    "Judge",
    "Script",
    "Split",
    "Survey",
    "Training",
    "Typeface",
    "TypefaceError",
    "as_ink",
    "coverage",
    "find_typefaces",
    "glyphs",
    "jittered",
    "judge",
    "names",
    "scripts",
    "split_typefaces",
    "survey",
    "vocabulary",
    "words",
]
