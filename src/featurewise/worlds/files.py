"""JSON files, and a cache of JSON values on disk."""

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
    """``content`` as indented JSON.

    Raises:
        ValueError: a number is not finite.
    """
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def disk_cache(folder: str, key: Any, compute: Callable[[], Any]) -> Any:
    """The result of ``compute``, cached on disk; computed again if the cached file is damaged.

    If the cache cannot be written, the result is computed each time.

    Args:
        folder: name of a folder in the cache.
        key: everything that the result depends on, as JSON values; among it a version number of
            the code of ``compute``, to be increased when that code changes.
        compute: returns JSON values.
    """
    identity = json.dumps(key)
    path = cache_folder() / folder / f"{_sha256(identity)[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        cached = json.loads(read_bytes(path))
        if cached["of"] == identity and cached["sha256"] == _sha256(json.dumps(cached["found"])):
            return cached["found"]
    result = compute()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"of": identity, "sha256": _sha256(json.dumps(result)), "found": result}
        write_bytes(path, as_json(content))
    return result


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
