"""Files that appear whole or not at all, and the folder where what was made once is kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from featurewise.common.files import file_sha256 as file_sha256
from featurewise.common.files import write_bytes

write_whole = write_bytes


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
        kept = json.loads(place.read_bytes())
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


def cache_folder() -> Path:
    """``$FEATUREWISE_CACHE``, else ``featurewise`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("FEATUREWISE_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "featurewise"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Waits until no other process is in here; the system lets go of the lock when one dies.

    Where the system has no such locks (Windows), nobody waits.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield
