"""The camera of the CLEVR world.

A perspective camera without roll, always aimed at the world's origin. Its focal length is 35 mm on
a sensor 32 mm wide, which is fitted to the width of the image, whatever its height. Lengths are in
Blender units, Z points up, and pixel (0, 0) is the upper left corner of the image.

There is one rule of framing: images of any size and aspect ratio have the same horizontal field of
view, the origin is in their middle row, and a taller image shows more above and below. Image files
are read, and objects are located in feature maps, by the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]
Array = npt.NDArray[np.float64]

POSITION: Final[Vector] = (7.48113, -6.50764, 5.34367)
JITTER: Final = 0.5
WIDTH: Final = 480
HEIGHT: Final = 320
FOCAL: Final = 35 / 32
"""Focal length in image widths."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that looks at the origin.

    Attributes:
        position: in world coordinates, (3,).
        right: unit vector to the right of the image, (3,).
        up: unit vector to the top of the image, (3,).
        forward: unit vector into the image, (3,).
    """

    position: Array
    right: Array
    up: Array
    forward: Array

    @classmethod
    def at(cls, position: Sequence[float] | Array = POSITION) -> Camera:
        """The camera at ``position``, aimed at the origin with the world's Z axis up.

        Raises:
            ValueError: if ``position`` is not three finite numbers off the Z axis.
        """
        point = np.asarray(position, dtype=np.float64)
        if point.shape != (3,) or not np.isfinite(point).all() or not np.hypot(*point[:2]) > 1e-6:
            raise ValueError(
                f"a camera needs three finite coordinates off the Z axis, got {position!r}"
            )
        forward = -point / np.sqrt(_dot(point, point))
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.sqrt(_dot(right, right))
        return cls(point, right, np.cross(right, forward), forward)

    def project(self, points: Array, width: int = WIDTH, height: int = HEIGHT) -> Array:
        """Where ``points`` fall in the image.

        Args:
            points: world coordinates, shape (..., 3).
            width: image width in pixels.
            height: image height in pixels.

        Returns:
            Column, row (pixels) and depth along the viewing axis, shape (..., 3).
        """
        offset = np.asarray(points, dtype=np.float64) - self.position
        depth = _dot(offset, self.forward)
        scale = FOCAL * width / depth
        column = width / 2 + scale * _dot(offset, self.right)
        row = height / 2 - scale * _dot(offset, self.up)
        return np.stack([column, row, depth], axis=-1)


def _dot(a: Array, b: Array) -> Array:
    """The product of vectors in the last axis, added in one order.

    A scene is the same on every machine. The order of the additions of ``a @ b``, and its last
    bits, are those of the processor.
    """
    x, y, z = np.moveaxis(a * b, -1, 0)
    return np.asarray(x + y + z)
