"""Safe opening of files: regular files only, without blocking.

Opening a named pipe blocks until another process writes, reading a device may never end, and a link
can point to either. Therefore a path that is not a regular file raises an error before it is
opened. The file is opened without blocking and checked again afterwards, since the path may have
changed in between.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_NONBLOCKING = getattr(os, "O_NONBLOCK", 0)
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
    """A file is larger than the limit."""


def require_regular(path: Path | str, *, follow: bool = True) -> None:
    """Check a path without opening it: for libraries that open the file themselves.

    Args:
        path: of the file.
        follow: whether a symbolic link to a regular file is accepted.

    Raises:
        NotRegularError: it is not a regular file.
        OSError: it does not exist, or its status cannot be read.
    """
    _check(path, Path(path).stat(follow_symlinks=follow).st_mode)


def open_regular(path: Path | str, *, follow: bool = True) -> BufferedReader:
    """Open a regular file for reading, without blocking.

    Args:
        path: of the file.
        follow: whether a symbolic link to a regular file is followed.

    Raises:
        NotRegularError: it is not a regular file.
        OSError: it does not exist, or cannot be read.
    """
    require_regular(path, follow=follow)
    flags = os.O_RDONLY | (0 if follow else _NO_LINK)
    return os.fdopen(_opened(path, flags), "rb")


def read_bytes(path: Path | str, *, limit: int | None = None, follow: bool = True) -> bytes:
    """The content of a regular file.

    Args:
        path: of the file.
        limit: largest size in bytes; None for no limit.
        follow: as for `open_regular`.

    Raises:
        TooLargeError: it is larger than `limit` bytes; it is not read.
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
    """Open or create a file that belongs to the library, such as a log.

    A symbolic link raises an error and is not followed: its target may belong to someone else.

    Args:
        path: of the file.
        flags: additional flags of `os.open`, such as ``os.O_APPEND``, or ``os.O_RDWR`` to read as
            well; not ``os.O_TRUNC``, which would empty a file before the check.

    Returns:
        The descriptor.

    Raises:
        NotRegularError: it is not a regular file.
        OSError: it cannot be written.
    """
    with suppress(FileNotFoundError):
        require_regular(path, follow=False)
    mode = 0 if flags & os.O_RDWR else os.O_WRONLY
    return _opened(path, mode | os.O_CREAT | _NO_LINK | flags)


def open_emptied(path: Path | str) -> BufferedWriter:
    """Open or create a file that belongs to the library, and empty it.

    Args:
        path: of the file; its content is lost.

    Raises:
        OSError: as for `open_for_writing`; the file is not emptied then.
    """
    file = os.fdopen(open_for_writing(path), "wb")
    file.truncate()
    return file


def _opened(path: Path | str, flags: int) -> int:
    descriptor = os.open(path, flags | _FLAGS | _NONBLOCKING, 0o666)
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
        kind = _KINDS.get(stat.S_IFMT(mode), "a file of another type")
        raise NotRegularError(errno.EINVAL, f"is no regular file but {kind}", str(path))
