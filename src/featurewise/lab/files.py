"""What hinders writing, said in words, and a folder that one process at a time writes to."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurewise.lab.errors import LabError, StorageError


@contextmanager
def storage_errors(path: Path, remedy: str) -> Iterator[None]:
    """Turns the system's write errors into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else (error.strerror or str(error))
        raise StorageError(f"{path}: could not be written: {reason}. {remedy}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of `folder` until left; the system unlocks when we die.

    Where the system has no such locks (Windows), nothing is kept out.

    Raises:
        LabError: another process is in there.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("w") as file:
        # A record lock: worker processes forked from here do not inherit it and so cannot
        # keep it when we are killed.
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabError(f"{folder}: another process is training here") from error
        yield
