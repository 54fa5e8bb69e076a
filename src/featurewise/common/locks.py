"""File locks between processes and threads, which are released when their holder exits.

They are those of filelock. A lock belongs to an open file: another thread of the same process
cannot acquire it, and opening and closing the file elsewhere does not release it. Forked processes
do not inherit it.
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
    """Hold a lock file while the block runs; it is created if missing, and stays, empty.

    Args:
        path: of the lock file, which is never written to; its folder must exist.
        wait: wait until another holder releases the lock, instead of raising.

    Raises:
        LockedError: another process or thread holds the lock, and `wait` is false.
        NotRegularError: the path is a symbolic link or not a regular file. The target of a link is
            not opened.
        OSError: the file cannot be created.
    """
    with suppress(FileNotFoundError):
        require_regular(path, follow=False)
    # Not per thread: a generator that holds the lock may be closed in another thread.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=wait, poll_interval=0.02)
    except Timeout:
        raise LockedError(errno.EAGAIN, "another process or thread holds it", str(path)) from None
    try:
        yield
    finally:
        lock.release()
