"""Attributes, against known properties of the typefaces and against synthetic bars."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from featurewise.worlds.glyphs import ATTRIBUTES
from featurewise.worlds.glyphs import attributes as module
from featurewise.worlds.glyphs.attributes import attributes, measured_slant, sheared
from featurewise.worlds.glyphs.fontfiles import font_files

FILES = {path.stem: path for path in font_files("bundled")}


@lru_cache
def of(name: str) -> dict[str, float]:
    return attributes(FILES[name], 0)


@pytest.mark.parametrize(
    ("regular", "bold"),
    [
        ("DejaVuSans", "DejaVuSans-Bold"),
        ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
        ("STIXGeneral", "STIXGeneralBol"),
        ("cmr10", "cmb10"),
    ],
)
def test_bold_typefaces_have_more_weight(regular: str, bold: str) -> None:
    assert of(bold)["weight"] > 1.3 * of(regular)["weight"]


@pytest.mark.parametrize(
    "name",
    [
        *("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono-BoldOblique", "DejaVuSerif-Italic"),
        *("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBolIta", "cmss10"),
    ],
)
def test_slant_is_the_italic_angle_of_the_file(name: str) -> None:
    tools = pytest.importorskip("fontTools.ttLib")
    with tools.TTFont(FILES[name], lazy=True) as font:
        angle = -font["post"].italicAngle
    assert of(name)["slant"] == pytest.approx(angle, abs=1.5)
    assert (of(name)["slant"] > 5) == ("Ita" in name or "Oblique" in name)


def test_serifs() -> None:
    without = ["DejaVuSans", "DejaVuSans-BoldOblique", "DejaVuSansMono", "cmss10"]
    having = ["DejaVuSerif", "DejaVuSerif-BoldItalic", "STIXGeneral", "cmr10", "cmti10", "cmtt10"]
    assert max(abs(of(name)["serif"]) for name in without) < 0.05
    assert min(of(name)["serif"] for name in having) > 0.5


def test_width() -> None:
    assert (
        of("DejaVuSansMono")["width"] < of("DejaVuSans")["width"] < of("DejaVuSans-Bold")["width"]
    )


def test_slant_does_not_change_the_other_attributes() -> None:
    upright, oblique = of("DejaVuSans-Bold"), of("DejaVuSans-BoldOblique")
    for name in ("weight", "serif", "width"):
        assert oblique[name] == pytest.approx(upright[name], abs=0.02), name


def test_attributes_are_nan_without_the_letters() -> None:
    measured = of("DejaVuSansDisplay")
    assert tuple(measured) == ATTRIBUTES
    assert all(np.isnan(value) for value in measured.values())


def bars(angle: float) -> np.ndarray:
    """Two bars, 6 pixels wide, 76 high and 25 apart, slanted by ``angle`` degrees."""
    made = np.zeros((96, 96))
    for row in range(10, 86):
        for left in (30, 55):
            for column in range(96):
                edge = left + (48 - row) * np.tan(np.radians(angle))
                made[row, column] += min(1, max(0, column + 1 - edge)) * min(
                    1, max(0, edge + 6 - column)
                )
    return made


@pytest.mark.parametrize("angle", [-10.0, 0.0, 7.0, 20.0])
def test_slant_of_bars(angle: float) -> None:
    made = bars(angle)
    assert measured_slant([made]) == pytest.approx(angle, abs=0.5)
    upright = sheared(made, angle)[10:86]
    assert np.abs(upright - upright.mean(axis=0)).max() < 0.35
    assert upright.sum() == pytest.approx(made.sum(), rel=1e-3)


@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_all_attributes_of_bars(angle: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rasterize", lambda *_: np.stack([255 * bars(angle)] * 4))
    measured = module._attributes.__wrapped__(FILES["DejaVuSans"], (0, 0), 0)
    expected = {"weight": 6 / 76, "slant": angle, "serif": 0.0, "width": 31 / 76}
    assert measured == pytest.approx(expected, abs=0.02)
