"""PNG files that commands write, and recognise as their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featurewise.cli.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image


def own_png(out: Path, source: Path, what: str, name: str, software: str) -> Path:
    """The PNG file to write.

    Args:
        out: file, or folder for one.
        source: the image that the command reads.
        what: the image, in words.
        name: of the file in a folder.
        software: the command, as `write_png` marks its files.

    Raises:
        UserError: it is not a PNG, or it exists and this command did not write it.
    """
    if out.is_dir():
        out = out / name
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: is written as PNG; give a file name that ends in .png")
    if not out.exists():
        return out
    if out.samefile(source):
        raise UserError(f"{out}: is {what}; give another file name")
    if not _is_own(out, software):
        raise UserError(f"{out}: exists and was not made by this command; give another file name")
    return out


def _is_own(path: Path, software: str) -> bool:
    """Whether this command wrote the file."""
    from PIL import Image

    from featurewise.common.opening import open_regular

    try:
        with open_regular(path) as file, Image.open(file, formats=("PNG",)) as found:
            return bool(found.info.get("Software") == software)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def write_png(path: Path, image: Image, software: str) -> str | None:
    """Write a PNG file atomically, marked with the command; returns the reason if that fails.

    Args:
        path: the file.
        image: its content.
        software: the command that writes it.
    """
    from io import BytesIO

    from PIL.PngImagePlugin import PngInfo

    from featurewise.common.files import write_bytes

    mark = PngInfo()
    mark.add_text("Software", software)
    image.save(content := BytesIO(), format="PNG", pnginfo=mark)
    try:
        write_bytes(path, content.getvalue())
    except OSError as error:
        return error.strerror or str(error)
    return None
