"""Errors of the small world."""

from __future__ import annotations


class SmallWorldError(ValueError):
    """An argument of the small world is not valid."""


class MissingPackageError(SmallWorldError, ImportError):
    """A package that contains the data is not installed."""
