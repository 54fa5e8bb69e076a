"""What can be wrong with files of pictures."""

from __future__ import annotations

from pathlib import Path


class FormatError(ValueError):
    """A file is not what its format promises. The message begins with the path."""

    @classmethod
    def at(cls, path: Path | str, problem: str, where: str = "") -> FormatError:
        """The error for ``problem`` in ``path``; ``where`` is the place inside the file."""
        return cls(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")
