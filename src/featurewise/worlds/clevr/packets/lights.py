"""Light that arrives at points, for compiled code: the twin of ``illuminate`` and its shadows."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from featurewise.worlds.clevr.camera import Vector
from featurewise.worlds.clevr.lights import LAMPS, SUN_DIRECTION, SUN_RADIUS
from featurewise.worlds.clevr.materials import GROUND_ALBEDO
from featurewise.worlds.clevr.packets.compiler import (
    BIG,
    HALF,
    ONE,
    ZERO,
    Rows,
    Table,
    inline,
    kernel,
    single,
)
from featurewise.worlds.clevr.packets.ground import sweep
from featurewise.worlds.clevr.packets.hits import FOOT, HEAD, cast_shadows, enclose_starts
from featurewise.worlds.clevr.packets.rows import (
    FLOOR,
    KEPT,
    LAMP_U,
    LANES,
    LIGHT_ROWS,
    LIGHTS,
    LIT,
    NORMAL,
    POINT,
    RADIANCE,
    SHADOW,
    SPOT,
    START,
    STRENGTH,
    TO_SUN,
    TOWARD,
    WHICH,
)
from featurewise.worlds.clevr.packets.vectors import along, cross, dot, load, scaled, store, unit
from featurewise.worlds.clevr.render import BOUNCE as GROUND_BOUNCE
from featurewise.worlds.clevr.render import COLORS as LIGHT_COLORS
from featurewise.worlds.clevr.render import OFFSET, SUN_REACH

SUN: Final = len(LAMPS)
"""Index of the sun among the lights."""

COLORS: Final = np.array(LIGHT_COLORS, np.float32)
"""Radiance of each light, (L, 3)."""

GROUND_COLORS: Final = np.array(LIGHT_COLORS, np.float32) * np.float32(GROUND_ALBEDO / math.pi)
"""Radiance of the ground below each light, for a unit of irradiance, (L, 3)."""

SIDES: Final = np.array([lamp.side for lamp in LAMPS], np.float32)

SIZES: Final = np.array([lamp.side**2 / 16 for lamp in LAMPS] + [0], np.float32)
"""What each light adds to the squared roughness of metal: this by the squared distance, ..."""

SUN_SIZE: Final = single(SUN_RADIUS**2 / 4)
"""... or, for the sun, this."""

BOUNCE, BOUNCE_SLOPE = (single(value) for value in GROUND_BOUNCE)
_OFFSET: Final = single(OFFSET)
_SLACK: Final = 1e-4

_RADII: Final = np.array(
    [math.sqrt(0.5) * lamp.side + OFFSET + _SLACK for lamp in LAMPS], np.float32
)
"""Distance from the centre of each lamp within which rays to it end."""

_SUN: Final = np.array(SUN_DIRECTION) / np.linalg.norm(SUN_DIRECTION) * SUN_REACH
SUN_X, SUN_Y, SUN_Z = (single(value) for value in _SUN)
_SUN_RADIUS: Final = single(SUN_REACH * SUN_RADIUS + _SLACK)
"""Distance from the end of a ray to the sun's centre within which rays to the sun end."""


@inline
def radiance_of(colors: Table, light: int) -> Vector:
    """Red, green and blue of a light."""
    return colors[light, 0], colors[light, 1], colors[light, 2]


@inline
def _either(first: bool, a: Vector, b: Vector) -> Vector:
    """``a`` where ``first``, else ``b``."""
    return a[0] if first else b[0], a[1] if first else b[1], a[2] if first else b[2]


@kernel
def set_starts(rays: Rows, n: int, balls: Rows) -> bool:
    """Set where rays toward the lights begin, and the ball around these points.

    Rays into the sky end nowhere: they get point and normal of another ray, so that the ball stays
    small. Their radiance is zero in the end.

    Returns:
        Whether any ray ends on a surface.
    """
    ended = -1
    for r in range(n):
        ended = max(ended, r if (rays[FLOOR + r] < BIG) | (rays[WHICH + r] >= ZERO) else -1)
    if ended < 0:
        return False
    point, normal = load(rays, POINT, ended), load(rays, NORMAL, ended)
    for r in range(n):
        sky = (rays[FLOOR + r] >= BIG) & (rays[WHICH + r] < ZERO)
        store(rays, POINT, r, _either(sky, point, load(rays, POINT, r)))
        store(rays, NORMAL, r, _either(sky, normal, load(rays, NORMAL, r)))
    for r in range(n):
        store(rays, START, r, along(load(rays, POINT, r), _OFFSET, load(rays, NORMAL, r)))
    enclose_starts(rays, n, balls, FOOT)
    return True


@kernel
def _aim_at_lamp(rays: Rows, n: int, lamps: Table, light: int) -> None:
    """Rows ``TOWARD`` and ``STRENGTH`` for a lamp."""
    center = lamps[light, 0], lamps[light, 1], lamps[light, 2]
    aim = scaled(unit(center), -ONE)
    across = unit((-aim[1], aim[0], ZERO))
    upward = cross(across, aim)
    side = SIDES[light]
    first = LAMP_U + 2 * light * LANES
    for i in range(2 * LANES):
        rays[SPOT + i] = rays[first + i]
    for r in range(n):
        u, v = side * (rays[SPOT + r] - HALF), side * (rays[SPOT + LANES + r] - HALF)
        spot = along(along(center, u, across), v, upward)
        toward = along(spot, -ONE, load(rays, POINT, r))
        square = dot(toward, toward)
        facing = max(-dot(toward, aim), ZERO)
        store(rays, TOWARD, r, toward)
        rays[STRENGTH + r] = side * side * facing / (math.sqrt(square) * square)


@kernel
def _aim_at_sun(rays: Rows, n: int) -> None:
    """Rows ``TOWARD`` and ``STRENGTH`` for the sun."""
    for r in range(n):
        store(rays, TOWARD, r, load(rays, TO_SUN, r))
        rays[STRENGTH + r] = ONE


@kernel
def illuminate(
    rays: Rows,
    n: int,
    objects: Table,
    count: int,
    spheres: Rows,
    lamps: Table,
    balls: Rows,
    keep: bool,
) -> None:
    """Trace ``n`` rays from their points to each light, and add the ground's light.

    Args:
        rays: rows up to ``START`` are known; ``RADIANCE`` is written, as if all were ground.
        n: number of rays.
        objects: (K, 14).
        count: number of objects.
        spheres: their bounding spheres.
        lamps: positions (3, 3).
        balls: that of the starts is known.
        keep: whether the rows of each light are needed later, for objects.
    """
    for r in range(n):
        bounce = max(BOUNCE + BOUNCE_SLOPE * sweep(load(rays, POINT, r)), ZERO)
        store(rays, RADIANCE, r, (bounce, bounce, bounce))
    for light in range(LIGHTS):
        if light == SUN:
            _aim_at_sun(rays, n)
            # Rays to the sun have one length: their ends lie around those from the ball's centre.
            balls[HEAD], balls[HEAD + 1] = balls[FOOT] + SUN_X, balls[FOOT + 1] + SUN_Y
            balls[HEAD + 2], balls[HEAD + 3] = (
                balls[FOOT + 2] + SUN_Z,
                balls[FOOT + 3] + _SUN_RADIUS,
            )
        else:
            _aim_at_lamp(rays, n, lamps, light)
            balls[HEAD], balls[HEAD + 1] = lamps[light, 0], lamps[light, 1]
            balls[HEAD + 2], balls[HEAD + 3] = lamps[light, 2], _RADII[light]
        cast_shadows(rays, n, objects, count, spheres, balls)
        color = radiance_of(GROUND_COLORS, light)
        for r in range(n):
            lit = ZERO if rays[SHADOW + r] < ONE else ONE
            toward = load(rays, TOWARD, r)
            cosine = dot(toward, load(rays, NORMAL, r)) / math.sqrt(dot(toward, toward))
            received = rays[STRENGTH + r] * lit * max(cosine, ZERO)
            rays[LIT + r] = lit
            store(rays, RADIANCE, r, along(load(rays, RADIANCE, r), received, color))
        if keep:
            first = KEPT + light * LIGHT_ROWS * LANES
            for i in range(LIGHT_ROWS * LANES):
                rays[first + i] = rays[TOWARD + i]
    for r in range(n):
        sky = rays[FLOOR + r] >= BIG
        store(rays, RADIANCE, r, _either(sky, (ZERO, ZERO, ZERO), load(rays, RADIANCE, r)))
