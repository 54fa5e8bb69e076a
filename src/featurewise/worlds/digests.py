"""SHA-256 of files, cached on disk so that unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from featurewise.common.files import file_sha256, write_bytes
from featurewise.common.opening import read_bytes

#: Least age of a file's last change, in nanoseconds, for its digest to be cached: a later change
#: within the resolution of the file system's clock would not change its times.
_AT_REST: Final = 2_000_000_000


def content_digests(files: Sequence[Path], cache_file: Path) -> list[str]:
    """The SHA-256 of each file, in hexadecimal.

    A file is read unless its digest is cached and its size, inode number, modification time and
    change time are the same. Programs can set the modification time, but not the change time.

    Args:
        files: regular files, or links to regular files.
        cache_file: JSON file of the cached digests, written when they change; if it cannot be
            written, all files are read each time.

    Raises:
        OSError: a file is missing or not a regular file.
    """
    cached = _read(cache_file)
    found = {str(path): _entry(path, cached.get(str(path))) for path in files}
    lasting = {name: entry for name, (entry, lasts) in found.items() if lasts}
    if lasting != cached:
        with suppress(OSError):
            cache_file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(lasting)
            write_bytes(
                cache_file, json.dumps({"sha256": _sha256(text), "files": lasting}).encode()
            )
    return [found[str(path)][0][-1] for path in files]


def _entry(path: Path, cached: list[Any] | None) -> tuple[list[Any], bool]:
    """Size, inode and times of a file with its SHA-256, and whether they may be cached."""
    status = path.stat()
    facts = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
    if cached is not None and cached[:-1] == facts:
        return cached, True
    lasts = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _AT_REST
    return [*facts, file_sha256(path)], lasts


def _read(cache_file: Path) -> dict[str, list[Any]]:
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(read_bytes(cache_file))
        files: dict[str, list[Any]] = content["files"]
        if content["sha256"] == _sha256(json.dumps(files)):
            return files
    return {}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
