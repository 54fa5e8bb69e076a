"""Versions of everything that the images depend on."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress

import PIL

from featurewise.worlds.packages import installed_versions
from featurewise.worlds.pictures.packages import DEBIAN_PACKAGES


def picture_versions() -> dict[str, str]:
    """Name -> version of Pillow, and of the packages of images that are installed."""
    found = {"Pillow": PIL.__version__, **installed_versions(DEBIAN_PACKAGES)}
    with suppress(importlib.metadata.PackageNotFoundError):
        found["scikit-learn"] = importlib.metadata.version("scikit-learn")
    return found
