"""Versions of everything that renders the letters: FreeType, Pillow and the fonts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import PIL
from PIL import features

from featurewise.common.files import file_sha256
from featurewise.worlds.glyphs.fontfiles import DEBIAN_PACKAGES, font_files
from featurewise.worlds.packages import installed_versions

#: How to install the typefaces of ``"debian"``, for the cards of systems.
NEEDS: Final = (
    f"the {len(DEBIAN_PACKAGES)} packages of Debian 12 that the typefaces come from, "
    f"`apt-get install {' '.join(DEBIAN_PACKAGES)}`"
)


def render_versions(where: str | Path) -> dict[str, str]:
    """Name -> version of everything that the images of letters depend on.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.

    Returns:
        FreeType and Pillow; then, for ``"debian"``, the packages with their versions, otherwise
        the number of font files and one SHA-256 of all of them.

    Raises:
        TypefaceError: the location is missing.
    """
    renderer = {"FreeType": features.version("freetype2") or "unknown", "Pillow": PIL.__version__}
    files = font_files(where)
    if where == "debian":
        return {**renderer, **installed_versions(DEBIAN_PACKAGES)}
    digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    return {**renderer, "fonts": f"{len(files)} files, SHA-256 {digest}"}
