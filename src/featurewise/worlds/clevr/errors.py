"""What can go wrong in the CLEVR world."""

from __future__ import annotations

from pathlib import Path


class WorldError(ValueError):
    """Base of the errors of this package: a wrong argument, or a worker process that died."""


class FormatError(WorldError):
    """A file violates its format. The message begins with the path."""

    @classmethod
    def at(cls, path: Path | str, problem: str, where: str = "") -> FormatError:
        """The error for ``problem`` in ``path``; ``where`` is the position inside the file."""
        return cls(f"{path}: {where}: {problem}" if where else f"{path}: {problem}")


class SceneError(WorldError):
    """A scene, or a setting of its sampling or rendering, is invalid."""
