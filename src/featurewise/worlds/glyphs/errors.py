"""Errors of the glyph world."""

from __future__ import annotations


class GlyphError(ValueError):
    """An argument of the glyph world is not valid."""


class TypefaceError(GlyphError):
    """Typefaces are missing, too few, or cannot be used."""
