"""Files that appear whole or not at all, and what was found once and is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from featurewise.common.cache import cache_folder
from featurewise.common.files import write_bytes
from featurewise.common.opening import read_bytes


def as_json(content: Mapping[str, Any]) -> bytes:
    """``content`` as JSON for people to read."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def disk_cache(kind: str, of: Any, find: Callable[[], Any]) -> Any:
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
        write_bytes(place, as_json(content))
    return found


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
