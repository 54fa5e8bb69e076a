"""Pictures from files, as the models take them.

They are read by :mod:`featurewise.common.images`, which says what is accepted and how it becomes
RGB; here the suffix of a file must also say what it holds.

Pictures are made smaller by averaging areas (a box filter), because the renderer averages light
over the area of a pixel: a picture drawn large and reduced then comes closest to one drawn small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from featurewise.common.images import MAX_BYTES, MAX_PIXELS, ImageFileError, read_image, to_rgb
from featurewise.worlds.clevr.errors import FormatError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "SUFFIXES", "load_image", "read_picture", "resize"]

#: Suffixes of picture files, and what they must hold.
SUFFIXES: Final[dict[str, str]] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def load_image(path: Path | str, width: int, height: int) -> UInt8[Tensor, "3 {height} {width}"]:
    """A picture file as an RGB picture of ``width`` x ``height`` pixels.

    The whole picture is resized; one of another aspect ratio is distorted. PNG files are checked
    by their checksums; a damaged JPEG can go unnoticed, as the format has none.

    Args:
        path: a PNG or JPEG file.
        width: wanted width in pixels.
        height: wanted height in pixels.

    Raises:
        FormatError: if the file is missing, damaged, too large, animated, or of another format
            than its suffix says.
    """
    picture = resize(read_picture(Path(path)), width, height)
    return torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy())


def resize(picture: Image.Image, width: int, height: int) -> Image.Image:
    """An RGB picture at another size: areas averaged, or interpolated if it must grow."""
    if picture.size == (width, height):
        return picture
    grows = width > picture.width or height > picture.height
    filter_ = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX
    return picture.resize((width, height), filter_)


def read_picture(path: Path) -> Image.Image:
    """A picture file as an RGB picture of its own size; see :func:`load_image`."""
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError.at(path, f"suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FormatError.at(path, "no such file")
    try:
        picture = read_image(path)
    except ImageFileError as error:
        raise FormatError.at(path, error.problem) from error
    if picture.format != SUFFIXES[path.suffix.lower()]:
        raise FormatError.at(path, f"holds a {picture.format} picture; the suffix is wrong")
    return to_rgb(picture)
