"""What can go wrong in the CLEVR world."""

from __future__ import annotations

from pathlib import Path


class WorldError(ValueError):
    """The CLEVR world was asked for something it cannot give, or was given something wrong."""


class FormatError(WorldError):
    """A file is not what its format promises. The message begins with the path."""

    @classmethod
    def at(cls, path: Path | str, problem: str, where: str = "") -> FormatError:
        """The error for ``problem`` in ``path``; ``where`` is the place inside the file."""
        return cls(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")


class SceneError(WorldError):
    """A scene is impossible, or no scene with the wanted properties could be found."""
