"""Errors of the world of visual questions."""

from __future__ import annotations

from pathlib import Path


class VqaError(ValueError):
    """An argument of the world of visual questions is not valid."""


class FormatError(VqaError):
    """A file does not follow its format. The message begins with the path."""

    @classmethod
    def at(cls, path: Path | str, problem: str, where: str = "") -> FormatError:
        """The error for ``problem`` in ``path``; ``where`` is the position inside the file."""
        return cls(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")


class MissingDataError(VqaError):
    """A package of data is not installed; the message says how to do it."""
