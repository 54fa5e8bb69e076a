"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file in one step: a reader sees the old file or the new one, never a part.

    The bytes go to a hidden sibling, which then takes the name. The file gets the permissions
    that the umask leaves, as any file that ``open`` makes.

    Args:
        path: the file; an older one of that name is replaced.
        data: its content.

    Raises:
        OSError: if the folder is missing or cannot be written to.
    """
    path = Path(path)
    sibling = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with sibling.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sibling.replace(path)
    finally:
        sibling.unlink(missing_ok=True)
