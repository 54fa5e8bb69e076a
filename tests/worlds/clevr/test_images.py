"""Reading of valid and invalid image files."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from featurewise.worlds.clevr import FormatError, load_image
from featurewise.worlds.clevr.images import MAX_BYTES, MAX_PIXELS

WIDTH, HEIGHT = 24, 16


def noise(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A small PNG file whose header has this width and height."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def smooth() -> NDArray[np.uint8]:
    """An image that JPEG compression changes little."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([90 + 2 * x, 60 + 3 * y, 120 + x + y], axis=2).astype(np.uint8)


IMAGE = Image.fromarray(noise())
PNG = encoded(IMAGE)
JPEG = encoded(IMAGE, "JPEG", quality=95)


def test_a_png_of_the_right_size_is_not_resized(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    image = load_image(path, WIDTH, HEIGHT)
    assert image.dtype == torch.uint8 and image.is_contiguous()
    np.testing.assert_array_equal(image.numpy(), noise().transpose(2, 0, 1))


def test_a_larger_image_is_reduced_by_averaging_areas(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(noise(HEIGHT * 4, WIDTH * 4))))
    image = load_image(str(path), WIDTH, HEIGHT).numpy()
    blocks = noise(HEIGHT * 4, WIDTH * 4).astype(np.float64)
    mean = blocks.reshape(HEIGHT, 4, WIDTH, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    # Rows and columns are averaged one after the other, each rounded to whole levels.
    assert np.abs(image - mean).max() <= 1.0


def test_a_smaller_image_is_interpolated(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ramp = np.broadcast_to(np.array([0, 200], np.uint8)[None, :, None], (2, 2, 3))
    path.write_bytes(encoded(Image.fromarray(ramp.copy())))
    row = load_image(path, 8, 2)[0, 0].tolist()
    assert row == sorted(row) and len(set(row)) > 2


def as_16_bit(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[..., 0].astype(np.uint16) * 257)


# Name -> content of the file, its suffix, the expected RGB image, tolerance in grey levels.
CONVERTED: dict[str, tuple[bytes, str, NDArray[np.uint8], float]] = {
    "opaque RGBA": (encoded(IMAGE.convert("RGBA")), ".png", noise(), 0),
    "upper-case suffix": (PNG, ".PNG", noise(), 0),
    "grey": (
        encoded(Image.fromarray(noise()[..., 0])),
        ".png",
        noise()[..., :1].repeat(3, axis=2),
        0,
    ),
    "grey of 16 bits": (
        encoded(as_16_bit(noise())),
        ".png",
        noise()[..., :1].repeat(3, axis=2),
        0,
    ),
    "two levels": (
        encoded(Image.fromarray(noise()[..., 0] > 99)),
        ".png",
        ((noise()[..., :1] > 99) * np.uint8(255)).repeat(3, axis=2),
        0,
    ),
    "palette": (
        encoded(IMAGE.quantize(16)),
        ".png",
        np.asarray(IMAGE.quantize(16).convert("RGB")),
        0,
    ),
    "JPEG": (encoded(Image.fromarray(smooth()), "JPEG", quality=95), ".jpg", smooth(), 12),
    "CMYK": (
        encoded(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95),
        ".jpeg",
        smooth(),
        12,
    ),
    "transparent": (
        encoded(Image.new("RGBA", (WIDTH, HEIGHT), (10, 20, 30, 0))),
        ".png",
        np.full((HEIGHT, WIDTH, 3), 255, np.uint8),
        0,
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_other_modes_are_converted_to_rgb(tmp_path: Path, name: str) -> None:
    content, suffix, expected, tolerance = CONVERTED[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    image = load_image(path, WIDTH, HEIGHT).numpy().transpose(1, 2, 0)
    distance = np.abs(image.astype(int) - expected)
    assert distance.max() <= tolerance
    assert distance.mean() <= tolerance / 4


def test_a_cmyk_image_is_not_inverted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    red = Image.new("RGB", (WIDTH, HEIGHT), (230, 20, 10)).convert("CMYK")
    path.write_bytes(encoded(red, "JPEG"))
    color = load_image(path, WIDTH, HEIGHT).float().mean((1, 2))
    torch.testing.assert_close(color, torch.tensor([230.0, 20.0, 10.0]), atol=4, rtol=0)


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    path.write_bytes(encoded(image, "JPEG", exif=exif))
    image = load_image(path, 32, 16)
    assert image[..., 20:].min() > 240 and image[..., :12].max() < 15


def animated() -> bytes:
    frames = [Image.fromarray(noise(seed=s)) for s in range(3)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


BAD: dict[str, tuple[str, bytes, str]] = {
    "no bytes": ("a.png", b"", "the file is empty"),
    "a text": ("a.png", b"this is an image", "not a readable image (neither PNG nor JPEG)"),
    "an HTML page": ("a.jpg", b"<html>404</html>", "image (the file holds an HTML page"),
    "unknown suffix": ("a.gif", encoded(IMAGE, "GIF"), "suffix '.gif'"),
    "no suffix": ("a", PNG, "suffix ''"),
    "GIF called PNG": ("a.png", encoded(IMAGE, "GIF"), "(the file holds a GIF image; save it"),
    "BMP called PNG": ("a.png", encoded(IMAGE, "BMP"), "holds a BMP image"),
    "TIFF called JPEG": ("a.jpg", encoded(IMAGE, "TIFF"), "holds a TIFF image"),
    "WebP called PNG": ("a.png", encoded(IMAGE, "WEBP"), "holds a WebP image"),
    "PDF called PNG": ("a.png", b"%PDF-1.4 ", "holds a PDF document"),
    "JPEG called PNG": ("a.png", JPEG, "JPEG image"),
    "PNG called JPEG": ("a.jpeg", PNG, "PNG image"),
    "signature alone": ("a.png", PNG[:8], "not a readable image"),
    "header alone": ("a.png", PNG[:33], "not a readable image"),
    "PNG without its end": ("a.png", PNG[:-12], "not a readable image"),
    "half a PNG": ("a.png", PNG[: len(PNG) // 2], "not a readable image"),
    "JPEG without its end": ("a.jpg", JPEG[:-300], "not a readable image"),
    "half a JPEG": ("a.jpg", JPEG[: len(JPEG) // 2], "not a readable image"),
    "flipped signature": ("a.png", flipped(PNG, 3), "not a readable image"),
    "flipped header": ("a.png", flipped(PNG, 19), "not a readable image"),
    "flipped data": ("a.png", flipped(PNG, len(PNG) // 2), "not a readable image"),
    "flipped checksum": ("a.png", flipped(PNG, len(PNG) - 17), "not a readable image"),
    "zeros inside": ("a.png", PNG[:100] + bytes(100) + PNG[200:], "not a readable image"),
    "animation": ("a.png", animated(), "is animated"),
    "bomb": ("a.png", bomb(4097, 4096), "more than the allowed"),
    "large bomb": ("a.png", bomb(12_000, 12_000), "pixels"),
    "huge bomb": ("a.png", bomb(2**31 - 1, 2**31 - 1), "image"),
    "no pixels": ("a.png", bomb(0, 10), "not a readable image"),
    "data missing": ("a.png", bomb(4000, 4000), "not a readable image"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_rejected(tmp_path: Path, name: str) -> None:
    file, content, says = BAD[name]
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load_image(path, WIDTH, HEIGHT)
    assert str(caught.value).startswith(str(path)) and says in str(caught.value), caught.value
    assert "object at 0x" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder, not an image"),
        (lambda path: path.symlink_to("nothing.png"), "no such file"),
        (lambda path: path.symlink_to(path.name), "no such file"),
    ],
    ids=["missing", "folder", "link to nothing", "link to itself"],
)
def test_a_path_without_a_file_is_rejected(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(FormatError, match=says):
        load_image(path, WIDTH, HEIGHT)


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(FormatError, match="bytes are more than"):
        load_image(path, WIDTH, HEIGHT)


def test_the_largest_allowed_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("1", (MAX_PIXELS // 4, 4), 1)))
    assert int(load_image(path, 8, 4).min()) == 255


def test_every_flipped_bit_of_a_png_is_detected(tmp_path: Path) -> None:
    """A flipped bit raises an error or does not change the image."""
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    small = encoded(Image.fromarray(noise(5, 7)).convert("RGBA"))
    path.write_bytes(small)
    expected = load_image(path, 7, 5)
    for _ in range(400):
        path.write_bytes(flipped(small, int(rng.integers(len(small))), int(rng.integers(8))))
        try:
            image = load_image(path, 7, 5)
        except FormatError as error:
            assert str(error).startswith(str(path))
        else:
            assert torch.equal(image, expected)


def test_every_truncation_is_detected(tmp_path: Path) -> None:
    for name, content in (("a.png", PNG), ("a.jpg", JPEG)):
        path = tmp_path / name
        for length in range(0, len(content) - 12, 37):
            path.write_bytes(content[:length])
            with pytest.raises(FormatError):
                load_image(path, WIDTH, HEIGHT)


def test_random_bytes_raise_no_other_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, content in (("a.png", PNG), ("a.jpg", JPEG)):
        path = tmp_path / name
        for _ in range(200):
            changed = bytearray(content)
            for at in rng.integers(0, len(content), 5):
                changed[at] = int(rng.integers(256))
            path.write_bytes(changed)
            with contextlib.suppress(FormatError):
                load_image(path, WIDTH, HEIGHT)
