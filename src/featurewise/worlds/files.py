"""Files that appear whole or not at all, and what was found once and is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurewise.common.cache import cache_folder
from featurewise.common.opening import open_regular, read_bytes


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file that appears at once with all its content, even if the power fails."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            for piece in [content] if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(content: Mapping[str, Any]) -> bytes:
    """``content`` as JSON for people to read."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def remembered(kind: str, of: Any, find: Callable[[], Any]) -> Any:
    """What ``find`` finds, kept in the cache; found anew when what is kept is damaged.

    Where the cache cannot be written, it is found each time.

    Args:
        kind: name of a folder in the cache.
        of: all that the answer depends on, as JSON values; the code that finds it included, as a
            number that counts up with its changes.
        find: gives JSON values.
    """
    asked = json.dumps(of)
    place = cache_folder() / kind / f"{_sha256(asked)[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(read_bytes(place))
        if kept["of"] == asked and kept["sha256"] == _sha256(json.dumps(kept["found"])):
            return kept["found"]
    found = find()
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        content = {"of": asked, "sha256": _sha256(json.dumps(found)), "found": found}
        write_whole(place, as_json(content))
    return found


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
