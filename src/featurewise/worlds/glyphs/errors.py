"""What can go wrong in the world of glyphs."""

from __future__ import annotations


class GlyphError(ValueError):
    """The world of glyphs was asked for something it cannot give."""


class TypefaceError(GlyphError):
    """Typefaces are missing, too few, or not what they should be."""
