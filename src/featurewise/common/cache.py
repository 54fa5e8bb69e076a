"""The cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``$FEATUREWISE_CACHE``, else the cache folder of the platform.

    The latter is ``$XDG_CACHE_HOME/featurewise`` or ``~/.cache/featurewise`` on Linux,
    ``~/Library/Caches/featurewise`` on macOS.
    """
    if chosen := os.environ.get("FEATUREWISE_CACHE"):
        return Path(chosen)
    return platformdirs.user_cache_path("featurewise", appauthor=False)
