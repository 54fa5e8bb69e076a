"""A heat map over an image."""

import numpy as np
import pytest
from PIL import Image

from featurewise.explorer import ReportError
from featurewise.explorer.overlay import heat


def change(before, after):
    """Largest change of a channel, for each pixel."""
    pair = (np.asarray(image.convert("RGB")).astype(int) for image in (before, after))
    return np.abs(next(pair) - next(pair)).max(2)


def test_colour_lies_where_the_share_is():
    places = np.zeros((4, 6))
    places[1, 4] = 1.0
    image = Image.new("RGB", (120, 80), (10, 200, 90))
    shown = heat(image, places)
    assert shown.size == image.size and shown.mode == "RGB"
    changed = change(image, shown)
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    assert 20 <= row < 40 and 80 <= column < 100
    assert changed[60:, :40].max() == 0 and changed[25:35, 85:95].min() > 40


def test_a_larger_share_is_brighter():
    image = Image.new("RGB", (60, 20), "gray")
    shown = np.asarray(heat(image, [[0.1, 0.0, 0.9]])).astype(int).sum(2)
    assert shown[10, 50] > shown[10, 10]


def test_the_image_keeps_its_colours():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    assert change(image, heat(image, np.zeros((2, 3)))).max() == 0
    assert heat(image.convert("L"), np.zeros((2, 3))).mode == "RGB"


@pytest.mark.parametrize(
    ("rows", "inside"),
    [((20.0, 80.0), slice(20, 80)), ((-20.0, 120.0), slice(0, 100)), (None, slice(0, 100))],
)
def test_heat_lies_on_the_rows_that_the_map_covers(rows, inside):
    image = Image.new("RGB", (60, 100), (10, 200, 90))
    places = np.ones((6, 6))
    changed = change(image, heat(image, places, rows)).max(1) > 0
    assert changed[inside].all() and changed.sum() == inside.stop - inside.start
    places = np.zeros((4, 6))
    places[0] = 1.0  # the top row of the map
    changed = change(image, heat(image, places, rows)).max(1)
    assert inside.start <= changed.argmax() < inside.start + 20


@pytest.mark.parametrize(
    "places", [np.zeros(3), np.zeros((0, 3)), [[np.nan]], [[-0.1]], [[np.inf]], np.zeros((1, 2, 3))]
)
def test_invalid_maps_raise(places):
    with pytest.raises(ReportError, match="places must be"):
        heat(Image.new("RGB", (3, 2)), places)
