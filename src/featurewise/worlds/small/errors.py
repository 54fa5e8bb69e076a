"""What can go wrong in the small world."""

from __future__ import annotations


class SmallWorldError(ValueError):
    """The small world was asked for something it cannot give."""


class MissingPackageError(SmallWorldError, ImportError):
    """A package that holds the data is not installed."""
