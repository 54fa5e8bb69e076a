"""Errors of the world of text."""

from __future__ import annotations


class TextError(ValueError):
    """An argument of the world of text is not valid."""


class TextFileError(TextError):
    """A file of text cannot be read or is malformed; the message begins with its path."""


class MissingTextError(TextError, ImportError):
    """A package that contains the text is not installed; the message says how to do it."""
