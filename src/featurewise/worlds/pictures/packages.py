"""Where the packages keep their images."""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Debian's packages of images; the first has the paintings and most photographs.
DEBIAN_PACKAGES: Final = ("gcompris-qt-data", "mate-backgrounds", "plasma-workspace-wallpapers")

#: The line that installs them.
INSTALL: Final = f"apt-get install {' '.join(DEBIAN_PACKAGES)}"

#: Where gcompris-qt-data has its Qt resource files.
RESOURCES: Final = Path("/usr/share/gcompris-qt/rcc")


def resource_path(name: str) -> Path:
    """Where gcompris-qt-data has the Qt resource file of a name, if it is installed."""
    return RESOURCES / f"{name}.rcc"
