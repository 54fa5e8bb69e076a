"""The one reader of image files.

Only regular files are opened, only PNG and JPEG are decoded, and only after the size of the image
was seen to be allowed. (Pillow knows dozens of formats; some of them start other programs.)
What can be turned into RGB faithfully is turned: palettes, grey levels, CMYK; 16-bit grey levels
are scaled to 8 bits; transparent parts are shown on white; the orientation a camera noted is
applied. Animations are refused.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps

from featurewise.common.opening import TooLargeError, read_bytes

#: Largest image that is decoded, in pixels: 4096 x 4096.
MAX_PIXELS: Final = 1 << 24
#: Largest file that is read, in bytes.
MAX_BYTES: Final = 1 << 26
#: Formats that are read, by their names in Pillow.
FORMATS: Final = ("PNG", "JPEG")


class ImageFileError(ValueError):
    """An image file is missing, damaged, too large, or of a kind that is not read.

    The message begins with the path.

    Attributes:
        problem: the message without the path.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.problem = problem


def read_image(path: Path | str, *, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """An image file, decoded, as it is: of its own size and mode; `to_rgb` converts it.

    PNG files are checked by their checksums; a damaged JPEG can go unnoticed, as the format has
    none.

    Args:
        path: of a PNG or JPEG file, or a symbolic link to one.
        formats: which of `FORMATS` are accepted.

    Returns:
        The image; its ``format`` is one of `formats`.

    Raises:
        ImageFileError: there is no such regular file; it is damaged, of another format, animated,
            or larger than `MAX_BYTES` bytes or `MAX_PIXELS` pixels.
    """
    content = _content(path)
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _check(path, image)
            found = image.format
            image.verify()
        with Image.open(io.BytesIO(content), formats=formats) as image:
            image.load()
            # A JPEG with previews beside it, as telephones write them: the image comes first.
            image.format = "JPEG" if found == "MPO" else found
            return image
    except ImageFileError:
        raise
    # On damaged files the decoders raise whatever comes to them: OSError, SyntaxError, struct.error
    # and more. Here all of it means the same.
    except Exception as error:
        raise ImageFileError(path, f"not a readable picture ({error})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB, 8 bits a channel, upright, on white; see this module."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64) / 257.0
        image = Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _content(path: Path | str) -> bytes:
    try:
        content = read_bytes(path, limit=MAX_BYTES)
    except TooLargeError as error:
        raise ImageFileError(path, f"its bytes are more than the allowed {MAX_BYTES}") from error
    except OSError as error:
        raise ImageFileError(path, f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise ImageFileError(path, "the file is empty")
    return content


def _check(path: Path | str, image: Image.Image) -> None:
    """Refuse before decoding what must not be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageFileError(
            path,
            f"{image.width} x {image.height} pixels are more than the allowed {MAX_PIXELS}; "
            "make it smaller",
        )
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise ImageFileError(path, "is animated; save one frame as a picture")
