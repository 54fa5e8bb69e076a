"""Files and folders that appear whole or not at all, and their digests."""

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
_HERE: Final = -100  # AT_FDCWD: names are seen from the current folder


def sha256(*parts: bytes | bytearray | memoryview) -> str:
    """The SHA-256 of these bytes one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal.

    Raises:
        OSError: if it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: str | Path) -> Iterator[BufferedWriter]:
    """A file to be filled, which takes its name when all went well: whole or not at all.

    The bytes go to a hidden sibling, which is synced and then takes the name; a reader sees the
    old file or the new one. The file gets the permissions that the umask leaves. A name that is
    a link is replaced, not what it points to.

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
    """Write a file in one step, see ``writing``.

    Args:
        path: the file.
        content: all of it, or piece by piece.

    Raises:
        OSError: if the folder is missing or cannot be written to.
    """
    with writing(path) as file:
        for piece in [content] if isinstance(content, bytes) else content:
            file.write(piece)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of ``content``; one ``os.write`` may take only a part (at most 2 GiB)."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_new(path: Path, content: bytes) -> None:
    """Make a file, and return once its content is on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_folder(folder: str | Path, files: Mapping[str, bytes], *, replace: bool = True) -> None:
    """Write a folder in one step: a reader sees the whole folder or the old one.

    The files go to a hidden sibling, each synced, which then takes the name. Where the system can
    exchange two folders at once (Linux) there is no moment without one; else a process killed
    just then leaves both beside, and ``recovered`` finishes what it began.

    Args:
        folder: the folder; everything in an older one of that name is replaced.
        files: name -> content.
        replace: whether there may be an older one.

    Raises:
        OSError: if the parent is missing or cannot be written to, or there is an older one that
            may not be replaced. The old folder stays.
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
    """The folder; where a writer was killed while replacing it, what it wrote takes the name.

    Args:
        folder: there or not.

    Returns:
        Where the folder is: the complete sibling itself, where it cannot be renamed.
    """
    folder = Path(folder)
    if folder.name in ("", "..") or os.path.lexists(folder):
        return folder
    with suppress(OSError):
        pattern = re.compile(re.escape(f".{folder.name}.") + r"[0-9a-f]{16}\.old")
        for old in [path for path in folder.parent.iterdir() if pattern.fullmatch(path.name)]:
            new = old.with_suffix(".part")
            # Both are there only between the two renames, when the new folder is complete.
            if old.is_dir() and new.is_dir():
                try:
                    new.rename(folder)
                except OSError:
                    return folder if folder.is_dir() else new
                shutil.rmtree(old, ignore_errors=True)
                break
    return folder


def _take_name(new: Path, folder: Path, old: Path) -> None:
    """Let ``new`` take the name of ``folder``; what is there goes, by way of ``old``."""
    if not os.path.lexists(folder):
        new.rename(folder)
        return
    if _exchanged(new, folder):
        return  # and the old one is removed under the name of the new
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if not folder.is_dir():  # else a reader has finished it
            old.rename(folder)
            raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the system exchanged two names in one step."""
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
    """Return once the names in ``folder`` are on the disk, where the system can tell."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
