"""Images of letters: one scale, one baseline, a margin, against a loop over pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from featurewise.worlds.glyphs import LETTERS, GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import font_files
from featurewise.worlds.glyphs.rasterize import rasterize

FILES = {path.stem: path for path in font_files("bundled")}
SANS = FILES["DejaVuSans"]


def plain(letters: str, size: int) -> np.ndarray:
    """Pastes the font's masks and averages squares of 8 x 8 pixels, in loops."""
    measured = ImageFont.truetype(SANS, 256, layout_engine=ImageFont.Layout.BASIC)
    boxes = [measured.getbbox(letter, anchor="ls") for letter in letters]
    tallest = max(box[3] for box in boxes) - min(box[1] for box in boxes)
    widest = max(box[2] - box[0] for box in boxes)
    inner = size - 2 * max(1, size // 16)
    font = ImageFont.truetype(
        SANS, 256 * 8 * inner / max(tallest, widest), layout_engine=ImageFont.Layout.BASIC
    )
    boxes = [font.getbbox(letter, anchor="ls") for letter in letters]
    top, bottom = min(box[1] for box in boxes), max(box[3] for box in boxes)
    baseline = (8 * size - (bottom - top)) // 2 - top
    made = np.zeros((len(letters), size, size))
    for i, (letter, box) in enumerate(zip(letters, boxes, strict=True)):
        mask, (_, y) = font.getmask2(letter, mode="L", anchor="ls")
        width, height = mask.size
        left = (8 * size - (box[2] - box[0])) // 2
        for row in range(height):
            for column in range(width):
                place = i, (baseline + y + row) // 8, (left + column) // 8
                made[place] += mask.getpixel((column, row)) / 64
    return made


def test_images_against_a_loop() -> None:
    made = rasterize(SANS, 0, "gHl", 12)
    assert made.dtype == np.uint8
    np.testing.assert_allclose(made, plain("gHl", 12), atol=0.51)


@pytest.mark.parametrize("size", [8, 16, 28, 33])
@pytest.mark.parametrize("name", ["DejaVuSans", "STIXGeneralItalic", "cmtt10"])
def test_letters_fill_the_image_up_to_the_margin(name: str, size: int) -> None:
    made = rasterize(FILES[name], 0, LETTERS, size)
    assert made.shape == (52, size, size)
    margin = max(1, size // 16)
    inked = made.max(axis=0) > 24
    rows, columns = inked.any(axis=1), inked.any(axis=0)
    for line in (rows, columns):
        assert not made.max(axis=0)[:margin].max() > 90 and not line[: margin - 1].any()
    assert (
        max(np.ptp(np.flatnonzero(rows)), np.ptp(np.flatnonzero(columns))) >= size - 2 * margin - 2
    )
    assert made.max() > 200 or size < 16


def test_letters_stand_on_one_baseline() -> None:
    made = rasterize(SANS, 0, "HEIlmx", 64).astype(int)
    feet = [np.flatnonzero(image.max(axis=1) > 127)[-1] for image in made]
    assert len(set(feet)) == 1
    heads = [np.flatnonzero(image.max(axis=1) > 127)[0] for image in made]
    assert heads[0] == heads[1] < heads[5]


def test_one_scale_for_all_letters() -> None:
    """A wider letter makes the others smaller; stems have one width."""
    alone, beside = rasterize(SANS, 0, "l", 64)[0], rasterize(SANS, 0, "lW", 64)[0]
    assert alone.sum() > 1.3 * beside.sum()
    both = rasterize(SANS, 0, "HI", 64).astype(float)
    middle = both[:, 24, :].sum(axis=1) / 255  # above the bar of H: two stems and one
    assert math.isclose(middle[0], 2 * middle[1], rel_tol=0.08)


def test_each_letter_is_centred() -> None:
    for image in rasterize(SANS, 0, "HIoO", 40).astype(float):
        columns = np.flatnonzero(image.max(axis=0) > 0)
        assert abs(columns[0] - (39 - columns[-1])) <= 1


def test_small_sizes_and_blank_letters_are_refused() -> None:
    with pytest.raises(GlyphError, match="size must be 8 pixels or more, got 7"):
        rasterize(SANS, 0, "a", 7)
    with pytest.raises(GlyphError, match="typeface 0: ' ' is blank"):
        rasterize(SANS, 0, " ", 16)


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ttf").write_bytes(b"none")
    with pytest.raises(TypefaceError, match=r"a\.ttf, typeface 0: not a readable font"):
        rasterize(tmp_path / "a.ttf", 0, "a", 16)
