"""One way to open files: regular files only, and never one that makes the reader wait.

A named pipe blocks whoever opens it until somebody writes, a device may never end, and a link can
lead to either. What is not a regular file is therefore refused before it is opened; the open
itself does not block, and what was opened is checked again, as the name may have been given to
something else in between.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """A path names a pipe, a device, a socket or a link where a regular file must be."""


class TooLargeError(OSError):
    """A file holds more bytes than its reader allows."""


def require_regular(path: Path | str, *, follow: bool = True) -> None:
    """Checks a path without opening it: for libraries that open the file themselves.

    Args:
        path: of the file.
        follow: whether a symbolic link to a regular file will do.

    Raises:
        NotRegularError: it names something else than a regular file.
        OSError: there is nothing of that name, or it cannot be looked at.
    """
    _check(path, Path(path).stat(follow_symlinks=follow).st_mode)


def open_regular(path: Path | str, *, follow: bool = True) -> BufferedReader:
    """Opens a regular file for reading; never waits, whatever the path names.

    Args:
        path: of the file.
        follow: whether a symbolic link to a regular file is followed.

    Raises:
        NotRegularError: it names something else than a regular file.
        OSError: there is nothing of that name, or it cannot be read.
    """
    require_regular(path, follow=follow)
    flags = os.O_RDONLY | (0 if follow else _NO_LINK)
    return os.fdopen(_opened(path, flags), "rb")


def read_bytes(path: Path | str, *, limit: int | None = None, follow: bool = True) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: the most bytes it may hold; None for any number.
        follow: as for `open_regular`.

    Raises:
        TooLargeError: it holds more than `limit` bytes; they are not read.
        OSError: as for `open_regular`.
    """
    with open_regular(path, follow=follow) as file:
        if limit is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
        if max(size, len(content)) > limit:
            raise TooLargeError(errno.EFBIG, f"is longer than {limit:,} bytes", str(path))
        return content


def open_for_writing(path: Path | str, flags: int = 0) -> int:
    """Opens, or creates, a file that the library keeps for itself: a log, say.

    A symbolic link in its place is refused, not followed: its target is somebody else's file.

    Args:
        path: of the file.
        flags: of `os.open`, in addition, such as ``os.O_APPEND``; not ``os.O_TRUNC``, which would
            empty a file before it is known to be regular.

    Returns:
        The descriptor.

    Raises:
        NotRegularError: there is something else than a regular file.
        OSError: it cannot be written.
    """
    with suppress(FileNotFoundError):
        require_regular(path, follow=False)
    return _opened(path, os.O_WRONLY | os.O_CREAT | _NO_LINK | flags)


def open_emptied(path: Path | str) -> BufferedWriter:
    """Opens, or creates, a file of the library's own to write it from its beginning.

    Args:
        path: of the file; what it holds is lost.

    Raises:
        OSError: as for `open_for_writing`; nothing is emptied then.
    """
    file = os.fdopen(open_for_writing(path), "wb")
    file.truncate()
    return file


def _opened(path: Path | str, flags: int) -> int:
    descriptor = os.open(path, flags | _FLAGS | _WITHOUT_WAITING, 0o666)
    try:
        _check(path, os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path | str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise NotRegularError(errno.EINVAL, f"is no regular file but {kind}", str(path))
