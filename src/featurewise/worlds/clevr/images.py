"""Pictures from files, as the models take them.

They are read by :mod:`featurewise.common.images`, which says what is accepted and how it becomes
RGB; here the suffix of a file must also say what it holds.

An image of another shape than is wanted is framed as the camera frames it (see :mod:`.camera`): its
width becomes the width, and its middle rows are taken; where there are too few of them, the first
and the last row are repeated.

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
from featurewise.common.images import image_size as read_size
from featurewise.worlds.clevr.errors import FormatError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "SUFFIXES", "load_image", "read_rgb_image", "resize"]

#: Suffixes of picture files, and what they must hold.
SUFFIXES: Final[dict[str, str]] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def load_image(path: Path | str, width: int, height: int) -> UInt8[Tensor, "3 {height} {width}"]:
    """A picture file as an RGB picture of ``width`` x ``height`` pixels.

    Nothing is distorted: of an image that is too tall for its width the middle is taken, one that
    is too wide is extended above and below. PNG files are checked by their checksums; a damaged
    JPEG can go unnoticed, as the format has none.

    Args:
        path: a PNG or JPEG file.
        width: wanted width in pixels.
        height: wanted height in pixels.

    Raises:
        FormatError: if the file is missing, damaged, too large, animated, or of another format
            than its suffix says.
    """
    picture = resize(read_rgb_image(Path(path)), width, height)
    return torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy())


def resize(picture: Image.Image, width: int, height: int) -> Image.Image:
    """An RGB picture at another size: areas averaged, or interpolated if it must grow.

    See :func:`visible_rows` for what is seen of a picture of another aspect ratio.
    """
    if picture.size == (width, height):
        return picture
    top, bottom = visible_rows(picture.size, (width, height))
    grows = width > picture.width or height > bottom - top
    filter_ = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX
    if top >= 0:
        return picture.resize((width, height), filter_, box=(0.0, top, picture.width, bottom))
    # As many rows as the picture has for this width, evenly less than wanted: it stays centred.
    missing = round(-top * height / (bottom - top))
    rows = np.asarray(picture.resize((width, max(1, height - 2 * missing)), filter_))
    above = (height - len(rows)) // 2
    below = height - len(rows) - above
    return Image.fromarray(np.pad(rows, ((above, below), (0, 0), (0, 0)), mode="edge"))


def visible_rows(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float]:
    """The rows of an image that an image of another size shows, by the camera's rule.

    Args:
        size: width and height of the image.
        wanted: width and height of the other.

    Returns:
        First row and the row after the last, in pixels of the image; outside of it where it has
        too few.
    """
    half = size[0] / wanted[0] * wanted[1] / 2
    return size[1] / 2 - half, size[1] / 2 + half


def framing_note(size: tuple[int, int], wanted: tuple[int, int]) -> str | None:
    """What is done to an image of another aspect ratio; None where it is the same to a pixel.

    Args:
        size: width and height of the image.
        wanted: width and height as it is shown to a network.
    """
    top, bottom = visible_rows(size, wanted)
    if abs(top) <= 1:
        return None
    what = f"the image is {size[0]} x {size[1]}, not of the shape {wanted[0]} x {wanted[1]}"
    if top > 0:
        return f"{what}: only its middle {size[0]} x {round(bottom - top)} pixels are used"
    return f"{what}: it is extended by {round(-top)} rows above and below"


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of a picture file, as :func:`read_rgb_image` gives it; it is not decoded.

    Raises:
        FormatError: as :func:`load_image`, as far as the beginning of the file tells.
    """
    try:
        return read_size(path)
    except ImageFileError as error:
        raise FormatError.at(Path(path), error.problem) from error


def read_rgb_image(path: Path) -> Image.Image:
    """A picture file as an RGB picture of its own size; see :func:`load_image`."""
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError.at(path, f"suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise FormatError.at(path, "is a folder, not an image")
    if not path.is_file():
        raise FormatError.at(path, "no such file")
    try:
        picture = read_image(path)
    except ImageFileError as error:
        raise FormatError.at(path, error.problem) from error
    if picture.format != SUFFIXES[path.suffix.lower()]:
        raise FormatError.at(path, f"holds a {picture.format} picture; the suffix is wrong")
    return to_rgb(picture)
