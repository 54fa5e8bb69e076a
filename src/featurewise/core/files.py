"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file in one step: a reader sees the old file or the new one, never a part.

    The bytes go to a hidden sibling, which then takes the name. The file gets the permissions
    that the umask leaves, as any file that ``open`` makes.

    Args:
        path: the file; an older one of that name is replaced.
        data: its content.

    Raises:
        OSError: if the folder is missing or cannot be written to.
    """
    path = Path(path)
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with sibling.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sibling.replace(path)
    finally:
        sibling.unlink(missing_ok=True)


def write_folder(folder: str | Path, files: Mapping[str, bytes]) -> None:
    """Write a folder in one step: a reader sees the whole folder, the old one, or none.

    The files go to a hidden sibling, each synced, which then takes the name. An older folder of
    that name is moved away first, and removed when the new one stands: a process killed just
    between the two leaves it beside, under a hidden name.

    Args:
        folder: the folder; everything in an older one of that name is replaced.
        files: name -> content.

    Raises:
        OSError: if the parent is missing or cannot be written to. The old folder stays.
    """
    folder = Path(folder)
    mark = secrets.token_hex(8)
    sibling = folder.with_name(f".{folder.name}.{mark}.part")
    old = folder.with_name(f".{folder.name}.{mark}.old")
    try:
        sibling.mkdir()
        for name, data in files.items():
            with (sibling / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(sibling)
        _exchange(sibling, folder, old)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def _exchange(new: Path, folder: Path, old: Path) -> None:
    """Let ``new`` take the name of ``folder``, which goes by ``old``."""
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Return once the names in ``folder`` are on the disk, where the system can tell."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
