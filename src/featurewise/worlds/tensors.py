"""A cache of tensors on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.common.files import write_bytes
from featurewise.common.locks import file_lock
from featurewise.common.opening import read_bytes
from featurewise.worlds.files import as_json


def tensor_cache(
    folder: str, identity: Mapping[str, Any], compute: Callable[[], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors that ``compute`` returns, cached on disk; computed again if they are damaged.

    They are in a safetensors file; beside it a JSON file has the identity and the SHA-256 of the
    file. Of several processes one computes them.

    Args:
        folder: name of a folder in the cache.
        identity: everything that the tensors depend on, as JSON values; among it a version number
            of the code of ``compute``, to be increased when that code changes.
        compute: returns tensors by name, with memory of their own.
    """
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    path = cache_folder() / folder / f"{key[:16]}.safetensors"
    tensors = _cached(path, identity)
    if tensors is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_suffix(".lock")):
            tensors = _cached(path, identity)
            if tensors is None:  # another process may have computed them meanwhile
                tensors = dict(compute())
                content = save(tensors)
                write_bytes(path, content)
                sha256 = hashlib.sha256(content).hexdigest()
                write_bytes(_manifest(path), as_json({**identity, "sha256": sha256}))
    return tensors


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")


def _cached(path: Path, identity: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The cached tensors; None if they are missing, damaged, or have another identity."""
    try:
        manifest = json.loads(read_bytes(_manifest(path)))
        content = read_bytes(path)
        sha256 = hashlib.sha256(content).hexdigest()
        return load(content) if manifest == {**identity, "sha256": sha256} else None
    except (OSError, ValueError, SafetensorError):
        return None
