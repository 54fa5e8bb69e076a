"""Files that appear whole or not at all, and the folder where what was made once is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file that appears at once with all its content, even if the power fails."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(content: Mapping[str, Any]) -> bytes:
    """``content`` as JSON for people to read."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def cache_folder() -> Path:
    """``$FEATUREWISE_CACHE``, else ``featurewise`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("FEATUREWISE_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "featurewise"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Waits until no other process is in here; the system lets go of the lock when one dies.

    Where the system has no such locks (Windows), nobody waits.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
