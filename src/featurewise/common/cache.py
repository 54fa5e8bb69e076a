"""The folder where what was made once is kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``$FEATUREWISE_CACHE``, else where the system keeps caches.

    That is ``$XDG_CACHE_HOME/featurewise`` or ``~/.cache/featurewise`` on Linux,
    ``~/Library/Caches/featurewise`` on macOS.
    """
    if chosen := os.environ.get("FEATUREWISE_CACHE"):
        return Path(chosen)
    return platformdirs.user_cache_path("featurewise", appauthor=False)
