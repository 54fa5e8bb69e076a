"""Errors of files of images."""

from __future__ import annotations

from pathlib import Path


class FormatError(ValueError):
    """A file does not follow its format. The message begins with the path."""

    @classmethod
    def at(cls, path: Path | str, problem: str, where: str = "") -> FormatError:
        """The error for ``problem`` in ``path``; ``where`` is the position inside the file."""
        return cls(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")
