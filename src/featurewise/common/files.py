"""Atomic writing of files and folders, and digests."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path
from typing import Final

from featurewise.common.opening import open_regular

_EXCHANGE: Final = 2  # RENAME_EXCHANGE of Linux
_HERE: Final = -100  # AT_FDCWD: names are relative to the current folder


def sha256(*parts: bytes | bytearray | memoryview) -> str:
    """The SHA-256 of the concatenated bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal.

    Raises:
        OSError: if the file cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: str | Path) -> Iterator[BufferedWriter]:
    """A file opened for atomic writing: it gets its name only if the block ends without an error.

    The bytes go to a hidden temporary file in the same folder, which is synced and then renamed: a
    reader sees the old file or the new one. Permissions follow the umask. If the path is a link,
    the link is replaced, not its target.

    Args:
        path: the file; an older one of that name is replaced.

    Raises:
        OSError: if the folder is missing or cannot be written to.
    """
    path = Path(path)
    sibling = _sibling(path, secrets.token_hex(8), "part")
    try:
        with sibling.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        sibling.replace(path)
        sync_folder(path.parent)
    finally:
        sibling.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file atomically, see ``writing``.

    Args:
        path: the file.
        content: the bytes, or pieces of them.

    Raises:
        OSError: if the folder is missing or cannot be written to.
    """
    with writing(path) as file:
        for piece in [content] if isinstance(content, bytes) else content:
            file.write(piece)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of ``content``; a single ``os.write`` may write only a part (at most 2 GiB)."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_new(path: Path, content: bytes) -> None:
    """Create a file, and return when its content is on disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(folder: str | Path, files: Mapping[str, bytes], *, replace: bool = True) -> None:
    """Write a folder atomically: a reader sees the old folder or the complete new one.

    The files go to a hidden temporary folder, which is synced and then renamed. Linux can exchange
    two folders in one step. On other systems, a process that is killed between two renames leaves
    both temporary folders, and ``recovered`` completes the second rename.

    Args:
        folder: the folder; an existing one is replaced with all of its content.
        files: name -> content.
        replace: whether an existing folder may be replaced.

    Raises:
        OSError: if the parent is missing or cannot be written to, or if the folder exists and
            ``replace`` is false. The old folder is unchanged then.
    """
    folder = recovered(folder)
    mark = secrets.token_hex(8)
    sibling = _sibling(folder, mark, "part")
    try:
        sibling.mkdir()
        for name, content in files.items():
            _write_new(sibling / name, content)
        sync_folder(sibling)
        if not replace and folder.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        _take_name(sibling, folder, _sibling(folder, mark, "old"))
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def recovered(folder: str | Path) -> Path:
    """Complete the replacement of a folder whose writer was killed between two renames.

    Args:
        folder: the folder; it need not exist.

    Returns:
        Path of the folder; if the complete temporary folder cannot be renamed, its own path.
    """
    folder = Path(folder)
    if folder.name in ("", "..") or os.path.lexists(folder):
        return folder
    with suppress(OSError):
        pattern = re.compile(re.escape(f".{folder.name}.") + r"[0-9a-f]{16}\.old")
        for old in [path for path in folder.parent.iterdir() if pattern.fullmatch(path.name)]:
            new = old.with_suffix(".part")
            # Both exist only between the two renames, when the new folder is complete.
            if old.is_dir() and new.is_dir():
                try:
                    new.rename(folder)
                except OSError:
                    return folder if folder.is_dir() else new
                shutil.rmtree(old, ignore_errors=True)
                break
    return folder


def _take_name(new: Path, folder: Path, old: Path) -> None:
    """Rename ``new`` to ``folder``; an existing one is renamed to ``old`` first, then removed."""
    if not os.path.lexists(folder):
        new.rename(folder)
        return
    if _exchanged(new, folder):
        return  # the caller removes the old folder, which now has the name of the new one
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if not folder.is_dir():  # else a reader has completed the rename
            old.rename(folder)
            raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; false if the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)


def _sibling(path: Path, mark: str, kind: str) -> Path:
    return path.with_name(f".{path.name}.{mark}.{kind}")


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk, on POSIX systems."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
