"""Pictures from files, as the models take them.

Accepted are PNG and JPEG. What can be turned into RGB faithfully is turned: palettes, grey levels,
CMYK; 16-bit grey levels are scaled to 8 bits; transparent parts are shown on white; the
orientation a camera noted is applied. Refused are animations, and pictures of more than
:data:`MAX_PIXELS` pixels, which are never decoded.

An image of another shape than is wanted is framed as the camera frames it (see :mod:`.camera`): its
width becomes the width, and its middle rows are taken; where there are too few of them, the first
and the last row are repeated.

Pictures are made smaller by averaging areas (a box filter), because the renderer averages light
over the area of a pixel: a picture drawn large and reduced then comes closest to one drawn small.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from featurewise.worlds.clevr.errors import FormatError

#: Largest picture that is decoded: 4096 x 4096.
MAX_PIXELS: Final = 1 << 24
#: Largest file that is read, in bytes.
MAX_BYTES: Final = 1 << 26
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
    picture = resize(read_picture(Path(path)), width, height)
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


def read_picture(path: Path) -> Image.Image:
    """A picture file as an RGB picture of its own size; see :func:`load_image`."""
    content = _read_bytes(path)
    try:
        _check(path, content)
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
            return _to_rgb(picture)
    except FormatError:
        raise
    # On damaged files the decoders raise whatever comes to them: OSError, SyntaxError, struct.error
    # and more. Here all of it means the same.
    except Exception as error:
        raise FormatError.at(path, f"not a readable picture ({_what(content, error)})") from error


#: How files of other kinds begin.
_BEGINNINGS: Final[dict[bytes, str]] = {
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document",
    b"<!DOCTYPE": "an HTML page",
    b"<html": "an HTML page",
}


def _what(content: bytes, error: Exception) -> str:
    """What a file holds that is no PNG or JPEG image, or what is wrong with one."""
    if content[8:12] in (b"avif", b"heic", b"mif1"):
        return "the file holds an AVIF or HEIC image; save it as PNG or JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "the file holds a WebP image; save it as PNG or JPEG"
    for beginning, kind in _BEGINNINGS.items():
        if content.startswith(beginning):
            return f"the file holds {kind}; save it as PNG or JPEG"
    if isinstance(error, UnidentifiedImageError):
        return "neither PNG nor JPEG"
    return str(error)


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of a picture file, as :func:`read_picture` gives it; it is not decoded.

    Raises:
        FormatError: as :func:`load_image`, as far as the beginning of the file tells.
    """
    path = Path(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return picture.size[::-1] if turned else picture.size
    except Exception as error:  # see read_picture: all of it means the same
        raise FormatError.at(path, f"not a readable picture ({error})") from error


def _read_bytes(path: Path) -> bytes:
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError.at(path, f"suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise FormatError.at(path, "is a folder, not an image")
    if not path.is_file():
        raise FormatError.at(path, "no such file")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise FormatError.at(path, f"{size} bytes are more than the allowed {MAX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise FormatError.at(path, f"cannot be read ({error.strerror})") from error
    if not content:
        raise FormatError.at(path, "the file is empty")
    return content


def _check(path: Path, content: bytes) -> None:
    """Refuse before decoding what must not be decoded."""
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise FormatError.at(
                path,
                f"{picture.width} x {picture.height} pixels are more than the allowed {MAX_PIXELS}",
            )
        if picture.format != SUFFIXES[path.suffix.lower()]:
            raise FormatError.at(path, f"holds a {picture.format} picture; the suffix is wrong")
        if getattr(picture, "n_frames", 1) > 1:
            raise FormatError.at(path, "is animated; save one frame as a picture")
        picture.verify()


def _to_rgb(picture: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.float64) / 257.0
        picture = Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")
