"""Reading of image files; all images that are read from files pass through here.

Only regular files are opened, only PNG and JPEG are decoded (and WebP inside of archives of a known
package), and only after a check of the image size. (Pillow supports dozens of formats; some of them
start other programs.) Palettes, grey levels and CMYK are converted to RGB; 16-bit grey levels are
scaled to 8 bits; transparent parts are shown on white; the orientation in EXIF data is applied.
Animations raise an error.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from featurewise.common.opening import TooLargeError, open_regular, read_bytes

#: Largest image that is decoded, in pixels: 4096 x 4096.
MAX_PIXELS: Final = 1 << 24
#: Largest file that is read, in bytes.
MAX_BYTES: Final = 1 << 26
#: Supported formats, by their names in Pillow.
FORMATS: Final = ("PNG", "JPEG")


class ImageFileError(ValueError):
    """An image file is missing, damaged, too large, or in an unsupported format.

    The message begins with the path.

    Attributes:
        problem: the message without the path.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.problem = problem


def read_image(path: Path | str, *, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Decode an image file, with its own size and mode; `to_rgb` converts it.

    PNG files have checksums, which are checked; JPEG files have none, so that damage can go
    undetected.

    Args:
        path: of a PNG or JPEG file, or of a symbolic link to one.
        formats: accepted formats, some of `FORMATS`.

    Returns:
        The image; its ``format`` is one of `formats`.

    Raises:
        ImageFileError: there is no such regular file; it is damaged, of another format, animated,
            or larger than `MAX_BYTES` bytes or `MAX_PIXELS` pixels.
    """
    return decode_image(_content(path), path, formats=formats)


def decode_image(
    content: bytes, path: Path | str, *, formats: tuple[str, ...] = FORMATS
) -> Image.Image:
    """Decode an image from its bytes, such as one inside of an archive; see `read_image`.

    Args:
        content: the bytes of a file.
        path: where they come from, for messages.
        formats: accepted formats by their names in Pillow: of `FORMATS`, or ``WEBP`` for archives
            of a known package.

    Raises:
        ImageFileError: the bytes are damaged, of another format, animated, or of more than
            `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            _check(path, image)
            found = image.format
            image.verify()
        with Image.open(io.BytesIO(content), formats=formats) as image:
            image.load()
            # MPO: a JPEG with previews, as phones write it; the image comes first.
            image.format = "JPEG" if found == "MPO" else found
            return image
    except ImageFileError:
        raise
    # For damaged files, decoders raise OSError, SyntaxError, struct.error and others: all of them
    # mean the same here.
    except Exception as error:
        problem = f"not a readable image ({_what(content, error, formats)})"
        raise ImageFileError(path, problem) from error


def image_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image file, upright as in `to_rgb`, without decoding it.

    Raises:
        ImageFileError: as for `read_image`, for problems that the header shows.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            _check(path, image)
            rotated = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size[::-1] if rotated else image.size
    except OSError as error:
        if isinstance(error, UnidentifiedImageError):
            raise ImageFileError(path, "not a readable image (neither PNG nor JPEG)") from error
        raise ImageFileError(path, f"cannot be read: {error.strerror or error}") from error
    except ImageFileError:
        raise
    except Exception as error:  # as above
        raise ImageFileError(path, f"not a readable image ({error})") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB, 8 bits per channel, upright, on white; see this module."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64) / 257.0
        image = Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


#: First bytes of files in other formats.
_BEGINNINGS: Final = {
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%!PS": "a PostScript document",
    b"%PDF": "a PDF document",
    b"<svg": "an SVG image",
    b"<?xml": "an XML document",
    b"<!DOCTYPE": "an HTML page",
    b"<html": "an HTML page",
}


def _what(content: bytes, error: Exception, formats: tuple[str, ...]) -> str:
    """The format of a file that is in none of the formats, or the problem with one that is."""
    if "WEBP" in formats:
        return str(error)
    if content[8:12] in (b"avif", b"heic", b"mif1"):
        return "the file holds an AVIF or HEIC image; save it as PNG or JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "the file holds a WebP image; save it as PNG or JPEG"
    for beginning, kind in _BEGINNINGS.items():
        if content.startswith(beginning):
            return f"the file holds {kind}; save it as PNG or JPEG"
    return "neither PNG nor JPEG" if isinstance(error, UnidentifiedImageError) else str(error)


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
    """Raise for images that must not be decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise ImageFileError(
            path,
            f"{image.width} x {image.height} pixels are more than the allowed {MAX_PIXELS}; "
            "make it smaller",
        )
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise ImageFileError(path, "is animated; save one frame as an image")
