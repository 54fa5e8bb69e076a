"""Reading of images: all readers of worlds raise for the same bad files, without delay.

The decoded content is tested with the worlds that read it.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featurewise.common.images import ImageFileError, decode_image, image_size, read_image, to_rgb
from featurewise.study.catalogue import shrink
from featurewise.training import ExperimentError
from featurewise.worlds.clevr import FormatError as ClevrError
from featurewise.worlds.clevr import load_image
from featurewise.worlds.glyphs.formats import FormatError as GlyphError
from featurewise.worlds.glyphs.formats import class_folders


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    image.save(stream := io.BytesIO(), format, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claiming(width: int, height: int) -> bytes:
    """A small PNG file whose header states any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


NOISE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE)
PNG, JPEG = encoded(IMAGE), encoded(IMAGE, "JPEG")
FRAMES = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 90, 180)]
EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    b"(started) (w) file closefile\nshowpage\n%%EOF\n"
)


def wrote(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def linked_pipe(path: Path) -> None:
    os.mkfifo(path.parent.parent / ".pipe")
    path.symlink_to("../.pipe")


BAD: dict[str, Callable[[Path], object]] = {
    "no bytes": wrote(b""),
    "a text": wrote(b"this is no image"),
    "an HTML page": wrote(b"<html>404</html>"),
    "EPS": wrote(EPS),
    "EPS with a DOS header": wrote(b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + EPS),
    "GIF": wrote(encoded(IMAGE, "GIF")),
    "BMP": wrote(encoded(IMAGE, "BMP")),
    "TIFF": wrote(encoded(IMAGE, "TIFF")),
    "WebP": wrote(encoded(IMAGE, "WEBP")),
    "PDF": wrote(encoded(IMAGE, "PDF")),
    "half a PNG": wrote(PNG[: len(PNG) // 2]),
    "PNG without its end": wrote(PNG[:-12]),
    "PNG with a flipped bit": wrote(PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:]),
    "half a JPEG": wrote(JPEG[: len(JPEG) // 2]),
    "animated PNG": wrote(encoded(FRAMES[0], save_all=True, append_images=FRAMES[1:])),
    "a pixel row too many": wrote(claiming(4096, 4097)),
    "169 million pixels": wrote(claiming(13_000, 13_000)),
    "more pixels than an integer counts": wrote(claiming(2**31 - 1, 2**31 - 1)),
    "no file": lambda path: path.with_suffix(".txt").touch(),
    "a folder": Path.mkdir,
    "a named pipe": pipe,
    "a link to a named pipe": linked_pipe,
    "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}  # fmt: skip


def folders(path: Path) -> object:
    path.with_suffix(".txt").unlink(missing_ok=True)
    pool = class_folders(path.parent.parent, 8)
    return pool.image(0, 0)


# Damage that the header does not show.
UNSEEN = ("half a PNG", "PNG without its end", "PNG with a flipped bit", "half a JPEG")

READERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "common": (read_image, ImageFileError),
    "size": (image_size, ImageFileError),
    "clevr": (lambda path: load_image(path, 8, 8), ClevrError),
    "folders": (folders, GlyphError),
    "sheets": (lambda path: shrink(path, path.parent.parent / "small.png"), ExperimentError),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("name", "reader"),
    [(n, r) for n in BAD for r in READERS if r != "size" or n not in UNSEEN],
)
def test_bad_files_raise_without_delay(tmp_path: Path, name: str, reader: str) -> None:
    read, error = READERS[reader]
    path = tmp_path / "class" / "a.png"
    path.parent.mkdir()
    BAD[name](path)
    begun = time.monotonic()
    missing = (OSError,) if reader == "sheets" else ()
    with pytest.raises((error, *missing)) as caught:
        read(path)
    assert str(path.parent) in str(caught.value)
    if (
        "pixel row" in name or "million" in name
    ):  # the error is about its size, not the missing data
        assert "more than the allowed" in str(caught.value)
    assert time.monotonic() - begun < 5


def test_no_other_program_is_started(tmp_path: Path) -> None:
    """For all readers: a substitute for Ghostscript would create a file."""
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "in/class").mkdir(parents=True)
    (tmp_path / "in/class/a.png").write_bytes(EPS)
    code = (
        "from featurewise.worlds.glyphs.formats import FormatError, class_folders\n"
        "try: class_folders('in', 8).image(0, 0)\n"
        "except FormatError as error: print(error)"
    )
    words = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, **words},
    )  # fmt: skip
    assert "a.png: is no readable" in found.stdout
    assert not (tmp_path / "started").exists()


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation, size in ((1, (24, 16)), (3, (24, 16)), (6, (16, 24))):
        exif[0x0112] = orientation
        (tmp_path / "a.jpg").write_bytes(encoded(IMAGE, "JPEG", exif=exif))
        assert image_size(tmp_path / "a.jpg") == size
        assert to_rgb(read_image(tmp_path / "a.jpg")).size == size


@pytest.mark.parametrize(
    ("content", "says"),
    [(EPS, "a PostScript document; save it as PNG or JPEG"), (b"?", "neither PNG nor JPEG")],
)
def test_the_error_names_the_format_of_other_files(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageFileError, match=says):
        read_image(tmp_path / "a.png")


def test_webp_is_decoded_where_it_is_wanted() -> None:
    webp = encoded(IMAGE, "WEBP", lossless=True)
    assert np.array_equal(np.asarray(decode_image(webp, "a", formats=("WEBP",))), NOISE)
    animated = encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:])
    wrong = [
        (webp, ("PNG", "JPEG"), "a WebP image; save it as PNG or JPEG"),
        (PNG, ("WEBP",), "not a readable image"),
        (webp[:-40], ("WEBP",), "not a readable image"),
        (animated, ("WEBP",), "is animated"),
        (b"", ("WEBP",), "not a readable image"),
    ]
    for content, formats, why in wrong:
        with pytest.raises(ImageFileError, match=f"^archive: inside: .*{why}"):
            decode_image(content, "archive: inside", formats=formats)


def test_a_link_to_an_image_is_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(PNG)
    (tmp_path / "a.png").symlink_to("kept")
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), NOISE)


@pytest.mark.parametrize(
    ("content", "grey", "tolerance"),
    [
        (encoded(IMAGE.convert("CMYK"), "JPEG", quality=100, subsampling=0), False, 20),
        (encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)), True, 0),
        (encoded(IMAGE.convert("RGBA")), False, 0),
        (encoded(IMAGE, "JPEG", quality=100, subsampling=0), False, 20),
    ],
    ids=["CMYK", "16 bits", "RGBA", "JPEG"],
)
def test_folders_of_classes_contain_the_images_of_the_files(
    tmp_path: Path, content: bytes, grey: bool, tolerance: int
) -> None:
    (tmp_path / "class").mkdir()
    path = tmp_path / "class/a.png"
    path.write_bytes(content)
    square = to_rgb(read_image(path)).resize((8, 8), Image.Resampling.BILINEAR)
    found: Any = class_folders(tmp_path, 8).image(0, 0).permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.asarray(square))
    whole = np.asarray(to_rgb(read_image(path))).astype(int)
    expected = NOISE[..., :1].repeat(3, 2) if grey else NOISE
    assert np.abs(whole - expected).max() <= tolerance
