"""Pictures from files, as the models take them.

Accepted are PNG and JPEG. What can be turned into RGB faithfully is turned: palettes, grey levels,
CMYK; 16-bit grey levels are scaled to 8 bits; transparent parts are shown on white; the
orientation a camera noted is applied. Refused are animations, and pictures of more than
:data:`MAX_PIXELS` pixels, which are never decoded.

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
from PIL import Image, ImageOps
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
        raise FormatError.at(path, f"not a readable picture ({error})") from error


def _read_bytes(path: Path) -> bytes:
    if path.suffix.lower() not in SUFFIXES:
        raise FormatError.at(path, f"suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}")
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
