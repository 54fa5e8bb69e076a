"""Writing that survives a power cut, and a folder that one thread at a time writes to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from featurewise.common.locks import LockedError, file_lock
from featurewise.lab.errors import LabError, OccupiedError, StorageError


def write_file(path: Path, content: bytes) -> None:
    """Creates a new file and returns once its content is on the disk (mode obeys umask)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears at once with all its content, in place of what was there.

    Of several processes that write it, the last one's stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # of a process of this number that was killed
    try:
        write_file(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_all(descriptor: int, content: bytes) -> None:
    """Writes all of `content`; one `os.write` may take only a part (at most 2 GiB)."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


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
        LabError: ``.lock`` is a link or no file, or cannot be made.
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
            raise LabError(f"{folder / '.lock'}: cannot be locked: {reason}") from error
        yield
