"""Image files, read as the models need them.

They are read by :mod:`featurewise.common.images`, which documents the accepted files and the
conversion to RGB. Here the suffix of a file must also match its format.

An image of another aspect ratio is framed by the camera's rule (see :mod:`.camera`): it is scaled
to the requested width and cropped to its middle rows; where there are too few rows, the first and
the last row are repeated.

Images are reduced with a box filter (area average), because the renderer averages light over the
area of a pixel: a reduced large rendering is then closest to a small rendering.
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

#: Suffix of an image file -> its format.
SUFFIXES: Final[dict[str, str]] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def load_image(path: Path | str, width: int, height: int) -> UInt8[Tensor, "3 {height} {width}"]:
    """An image file as an RGB image of ``width`` x ``height`` pixels.

    The content is not distorted: an image that is too tall is cropped to its middle rows, one that
    is too wide is extended above and below. PNG files are verified by their checksums; a damaged
    JPEG file may be read without an error, because the format has no checksum.

    Args:
        path: a PNG or JPEG file.
        width: width of the result in pixels.
        height: height of the result in pixels.

    Raises:
        FormatError: if the file is missing, damaged, too large, animated, or if its format is not
            that of its suffix.
    """
    image = resize(read_rgb_image(Path(path)), width, height)
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())


def resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """An RGB image at another size: by a box filter, or bilinear interpolation if it is enlarged.

    See :func:`visible_rows` for the rows in use of an image of another aspect ratio.
    """
    if image.size == (width, height):
        return image
    top, bottom = visible_rows(image.size, (width, height))
    grows = width > image.width or height > bottom - top
    filter_ = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX
    if top >= 0:
        return image.resize((width, height), filter_, box=(0.0, top, image.width, bottom))
    # The same number of rows is missing above and below, so the image stays centred.
    missing = round(-top * height / (bottom - top))
    rows = np.asarray(image.resize((width, max(1, height - 2 * missing)), filter_))
    above = (height - len(rows)) // 2
    below = height - len(rows) - above
    return Image.fromarray(np.pad(rows, ((above, below), (0, 0), (0, 0)), mode="edge"))


def visible_rows(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float]:
    """The rows of an image that remain visible at another size, by the camera's rule.

    Args:
        size: width and height of the image.
        wanted: width and height of the other size.

    Returns:
        First row and the row after the last, in pixels of the image; outside of the image where
        it has too few rows.
    """
    half = size[0] / wanted[0] * wanted[1] / 2
    return size[1] / 2 - half, size[1] / 2 + half


def framing_note(size: tuple[int, int], wanted: tuple[int, int]) -> str | None:
    """A message about the cropping or padding of an image; None if it is at most one pixel.

    Args:
        size: width and height of the image.
        wanted: width and height of the network's input.
    """
    top, bottom = visible_rows(size, wanted)
    if abs(top) <= 1:
        return None
    what = f"the image is {size[0]} x {size[1]}, not of the shape {wanted[0]} x {wanted[1]}"
    if top > 0:
        return f"{what}: only its middle {size[0]} x {round(bottom - top)} pixels are used"
    return f"{what}: it is extended by {round(-top)} rows above and below"


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image file, as in :func:`read_rgb_image`, without decoding it.

    Raises:
        FormatError: as :func:`load_image`, for errors that the file's header shows.
    """
    try:
        return read_size(path)
    except ImageFileError as error:
        raise FormatError.at(Path(path), error.problem) from error


def read_rgb_image(path: Path) -> Image.Image:
    """An image file as an RGB image at its original size; see :func:`load_image`."""
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError.at(path, f"suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise FormatError.at(path, "is a folder, not an image")
    if not path.is_file():
        raise FormatError.at(path, "no such file")
    try:
        image = read_image(path)
    except ImageFileError as error:
        raise FormatError.at(path, error.problem) from error
    if image.format != SUFFIXES[path.suffix.lower()]:
        raise FormatError.at(path, f"is a {image.format} image; its suffix is of another format")
    return to_rgb(image)
