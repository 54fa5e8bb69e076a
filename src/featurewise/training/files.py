"""Errors of writing files, and a lock that gives one thread exclusive use of a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from featurewise.common.locks import LockedError, file_lock
from featurewise.training.errors import ExperimentError, OccupiedError, StorageError


@contextmanager
def storage_errors(path: Path, remedy: str) -> Iterator[None]:
    """Converts an `OSError` into a `StorageError` that says what to do.

    Args:
        path: file or folder that is written.
        remedy: sentence that says what to do.

    Raises:
        StorageError: see above.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else (error.strerror or str(error))
        raise StorageError(f"{path}: could not be written: {reason}. {remedy}") from error


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Exclusive use of `folder` inside the context; released when the process ends in any way.

    Args:
        folder: exists; its file ``.lock`` is locked.
        wait: wait for the lock instead of raising.

    Raises:
        OccupiedError: another process or thread holds the lock, and `wait` is false.
        ExperimentError: ``.lock`` is a link or not a file, or cannot be created.
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
