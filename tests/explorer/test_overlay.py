"""Heat over a picture."""

import numpy as np
import pytest
from PIL import Image

from featurewise.explorer import ReportError
from featurewise.explorer.overlay import heat


def spread(picture):
    """How far each pixel is from grey."""
    pixels = np.asarray(picture).astype(int)
    return pixels.max(2) - pixels.min(2)


def test_colour_lies_where_the_share_is():
    places = np.zeros((4, 6))
    places[1, 4] = 1.0
    picture = Image.new("RGB", (120, 80), (10, 200, 90))
    shown = heat(picture, places)
    assert shown.size == picture.size and shown.mode == "RGB"
    colour = spread(shown)
    row, column = np.unravel_index(colour.argmax(), colour.shape)
    assert 20 <= row < 40 and 80 <= column < 100
    assert colour[60:, :40].max() == 0 and colour[25:35, 85:95].min() > 40


def test_a_larger_share_is_brighter():
    picture = Image.new("RGB", (60, 20), "gray")
    shown = np.asarray(heat(picture, [[0.1, 0.0, 0.9]])).astype(int).sum(2)
    assert shown[10, 50] > shown[10, 10]


def test_without_a_place_the_picture_is_only_grey():
    picture = Image.new("RGB", (30, 20), (200, 10, 10))
    assert spread(heat(picture, np.zeros((2, 3)))).max() == 0


@pytest.mark.parametrize(
    "places", [np.zeros(3), np.zeros((0, 3)), [[np.nan]], [[-0.1]], [[np.inf]], np.zeros((1, 2, 3))]
)
def test_what_is_no_map_is_refused(places):
    with pytest.raises(ReportError, match="places must be"):
        heat(Image.new("RGB", (3, 2)), places)
