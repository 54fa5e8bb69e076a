from __future__ import annotations

import numpy as np
import pytest

from featurewise.worlds.clevr.camera import POSITION, Camera


@pytest.mark.parametrize(
    ("point", "pixel"),
    [
        ((0.0, 0.0, 0.0), (240.00, 160.00, 11.26)),
        ((3, 3, 0), (441.92, 166.67, 11.00)),
        ((-3, -3, 0), (47.17, 153.63, 11.52)),
        ((3, -3, 0), (219.49, 299.85, 7.54)),
        ((-3, 3, 0), (250.32, 89.67, 14.99)),
        ((0, 0, 0.7), (240.00, 130.41, 10.93)),
    ],
)
def test_projection_matches_the_original_camera(
    point: tuple[float, ...], pixel: tuple[float, ...]
) -> None:
    assert tuple(Camera.at().project(np.array(point, dtype=np.float64)).round(2)) == pixel


def test_axes_are_orthonormal_and_aimed_at_the_origin() -> None:
    camera = Camera.at((7.0, -6.2, 5.7))
    axes = np.stack([camera.right, camera.up, camera.forward])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(camera.forward * np.linalg.norm(camera.position), -camera.position)
    assert camera.right[2] == 0
    assert camera.up[2] > 0


def test_base_axes() -> None:
    camera = Camera.at(POSITION)
    np.testing.assert_allclose(camera.right, (0.656311, 0.754490, 0), atol=1e-6)
    np.testing.assert_allclose(camera.up, (-0.357941, 0.311363, 0.880302), atol=1e-6)
    np.testing.assert_allclose(camera.forward, (-0.664179, 0.577752, -0.474414), atol=1e-6)


@pytest.mark.parametrize(
    "position", [(0.0, 0.0, 5.0), (1.0, 2.0), (np.nan, 1.0, 1.0), (np.inf, 1.0, 1.0)]
)
def test_a_camera_that_cannot_be_aimed_is_rejected(position: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="off the Z axis"):
        Camera.at(position)
