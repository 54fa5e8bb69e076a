"""Versions of Debian's packages."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Package -> version, of those that are installed; none where there is no ``dpkg-query``."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *packages]
    shown = ""
    with suppress(OSError):
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines())
