"""Locks that keep other processes and other threads out, and that die with their holder.

They are those of filelock: a lock belongs to an open file, so neither another thread of the same
process gets it, nor does it end when something else opens and closes the file. Processes that are
forked meanwhile do not keep it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from featurewise.common.opening import require_regular


class LockedError(OSError):
    """Another process or thread holds the lock."""


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock file until left; it is created when missing, and stays, empty.

    Args:
        path: of the lock file, which is never written to; its folder exists.
        wait: waits for another holder to leave, instead of raising.

    Raises:
        LockedError: it is held by another, and `wait` is false.
        NotRegularError: the path names a symbolic link, or no file. What a link leads to is left
            alone.
        OSError: the file cannot be made.
    """
    with suppress(FileNotFoundError):
        require_regular(path, follow=False)
    # Entered in one thread, it may be left in another: a generator is closed by whoever drops it.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=wait, poll_interval=0.02)
    except Timeout:
        raise LockedError(errno.EAGAIN, "another process or thread holds it", str(path)) from None
    try:
        yield
    finally:
        lock.release()
