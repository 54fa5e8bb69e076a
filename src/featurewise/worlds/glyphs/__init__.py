"""Letters of real typefaces: images, attributes of the typefaces, and Unicode names.

:func:`find_typefaces` finds typefaces, :func:`split_typefaces` splits them by family,
:func:`glyphs` renders them, :class:`GlyphSource` gives batches, and
:func:`evaluation_classifier` trains a classifier that evaluates generated letters.
:func:`scripts` groups the letters of the world's scripts into classes for few-shot learning.
"""

from __future__ import annotations

from featurewise.worlds.glyphs.attributes import ATTRIBUTES
from featurewise.worlds.glyphs.classifier import (
    Classifier,
    ClassifierConfig,
    evaluation_classifier,
)
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import DEBIAN_PACKAGES
from featurewise.worlds.glyphs.naming import names, vocabulary, words
from featurewise.worlds.glyphs.render import Glyphs, Script, glyphs, scripts
from featurewise.worlds.glyphs.sheets import mode_coverage
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
    "Classifier",
    "ClassifierConfig",
    "GlyphBatch",
    "GlyphError",
    "GlyphSource",
    "Glyphs",
    "Script",
    "Split",
    "Survey",
    "Typeface",
    "TypefaceError",
    "as_ink",
    "evaluation_classifier",
    "find_typefaces",
    "glyphs",
    "jittered",
    "mode_coverage",
    "names",
    "scripts",
    "split_typefaces",
    "survey",
    "vocabulary",
    "words",
]
