"""What hinders writing, said in words, and a folder that one thread at a time writes to."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from featurewise.common.locks import LockedError, file_lock
from featurewise.training.errors import ExperimentError, OccupiedError, StorageError


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
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps other processes and threads out of `folder` until left; the lock dies with us.

    Args:
        folder: exists; its file ``.lock`` is what is locked.
        wait: waits for whoever is in there to leave, instead of raising.

    Raises:
        OccupiedError: another process or thread is in there, and `wait` is false.
        ExperimentError: ``.lock`` is a link or no file, or cannot be made.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(folder / ".lock", wait=wait))
        except LockedError as error:
            raise OccupiedError(
                f"{folder}: another process is training here, or another thread of this one"
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise ExperimentError(f"{folder / '.lock'}: cannot be locked: {reason}") from error
        yield
