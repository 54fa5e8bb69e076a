"""What rendered the letters: FreeType, Pillow, and the versions of the fonts themselves."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Final

import PIL
from PIL import features

from featurewise.common.files import file_sha256
from featurewise.worlds.glyphs.fontfiles import DEBIAN_PACKAGES, font_files

#: How the typefaces of ``"debian"`` are installed, in a sentence for cards.
NEEDS: Final = (
    f"the {len(DEBIAN_PACKAGES)} packages of Debian 12 that the typefaces come from, "
    f"`apt-get install {' '.join(DEBIAN_PACKAGES)}`"
)


def render_versions(where: str | Path) -> dict[str, str]:
    """Name and version of all that decides what the letters of a place look like.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.

    Returns:
        FreeType and Pillow; then Debian's packages with their versions, or else the number of
        font files and the SHA-256 of all of them together.

    Raises:
        TypefaceError: the place is missing.
    """
    renderer = {"FreeType": features.version("freetype2") or "unknown", "Pillow": PIL.__version__}
    files = font_files(where)
    if where == "debian":
        return {**renderer, **_packages()}
    digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    return {**renderer, "fonts": f"{len(files)} files, SHA-256 {digest}"}


def _packages() -> dict[str, str]:
    """Debian's packages of typefaces -> version, as the package manager says."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *DEBIAN_PACKAGES]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines())
