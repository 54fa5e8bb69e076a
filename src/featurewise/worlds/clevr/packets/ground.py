"""Rays and the ground, for compiled code: the twin of :mod:`featurewise.worlds.clevr.ground`."""

from __future__ import annotations

import math
from typing import Final

from featurewise.worlds.clevr import ground
from featurewise.worlds.clevr.camera import Vector
from featurewise.worlds.clevr.packets.compiler import (
    BIG,
    HALF,
    ONE,
    ZERO,
    Rows,
    inline,
    kernel,
    single,
)
from featurewise.worlds.clevr.packets.rows import DIRECTION, FLOOR, LANES, ORIGIN, REACH, SPAN
from featurewise.worlds.clevr.packets.vectors import along, load, scaled, store
from featurewise.worlds.clevr.render import FAR

SWEEP_X, SWEEP_Y = (single(value) for value in ground.SWEEP)
_C0, _C1, _C2, _C3, _C4, _C5 = (single(value) for value in ground.LOG_HEIGHT)
_WALL: Final = single(ground.WALL)
_NEAR: Final = single(ground.NEAR)
_FAR: Final = single(ground.FAR)
_SIDE: Final = single(ground.SIDE)
_STEPS: Final = ground.SOLVE_STEPS
_LEVEL: Final = single(1e-6)
_FARTHEST: Final = single(100)
_SLACK: Final = single(1 + 1e-4)
SIGHT: Final = single(FAR)

_LOWEST: Final = single(-20)
_PART: Final = single(1 / 16)
_BY_6, _BY_24, _BY_120, _BY_720 = (single(1 / n) for n in (6, 24, 120, 720))


@inline
def _exp(x: float) -> float:
    """The exponential of -20..8, as the 16th power of a series: the library's is not SIMD code."""
    y = max(x, _LOWEST) * _PART
    p = ONE + y * (ONE + y * (HALF + y * (_BY_6 + y * (_BY_24 + y * (_BY_120 + y * _BY_720)))))
    p = p * p
    p = p * p
    p = p * p
    return p * p


@inline
def sweep(a: Vector) -> float:
    """Distance from the origin along ``SWEEP``."""
    return SWEEP_X * a[0] + SWEEP_Y * a[1]


@inline
def profile(s: float) -> tuple[float, float]:
    """Height and slope of the sheet at distance ``s``."""
    curved = min(s, _WALL)
    log_height, derivative = _C5, ZERO
    derivative, log_height = derivative * curved + log_height, log_height * curved + _C4
    derivative, log_height = derivative * curved + log_height, log_height * curved + _C3
    derivative, log_height = derivative * curved + log_height, log_height * curved + _C2
    derivative, log_height = derivative * curved + log_height, log_height * curved + _C1
    derivative, log_height = derivative * curved + log_height, log_height * curved + _C0
    height = _exp(log_height)
    slope = height * derivative
    return height + slope * (s - curved), slope


@inline
def ground_normal(point: Vector) -> Vector:
    """Unit normal of the sheet above ``point``."""
    _, slope = profile(sweep(point))
    scale = ONE / math.sqrt(ONE + slope * slope)
    return -SWEEP_X * slope * scale, -SWEEP_Y * slope * scale, scale


@kernel
def intersect_ground(rays: Rows, n: int) -> None:
    """Find where ``n`` rays meet the ground: rows ``FLOOR``, ``SPAN`` and ``REACH``.

    Until the end, ``SPAN`` holds where the search began, and ``REACH`` the start and the speed
    along the sweep.
    """
    for r in range(n):
        origin, direction = load(rays, ORIGIN, r), load(rays, DIRECTION, r)
        start, speed = sweep(origin), sweep(direction)
        sink = -origin[2] / min(direction[2], -_LEVEL)
        sink = sink if direction[2] < -_LEVEL else BIG
        edge = (_FAR - start) / max(speed, _LEVEL)
        edge = edge if speed > _LEVEL else BIG
        begin = min(min(sink, edge), _FARTHEST)
        rays[SPAN + r] = begin
        rays[FLOOR + r] = begin
        store(rays, REACH, r, (start, speed, ZERO))
    for _ in range(_STEPS):
        for r in range(n):
            t, climb = rays[FLOOR + r], rays[DIRECTION + 2 * LANES + r]
            start, speed, _unused = load(rays, REACH, r)
            height, slope = profile(start + t * speed)
            above = height - rays[ORIGIN + 2 * LANES + r] - t * climb
            rays[FLOOR + r] = t - above / max(slope * speed - climb, _LEVEL)
    for r in range(n):
        t, begin = rays[FLOOR + r], rays[SPAN + r]
        origin, direction = load(rays, ORIGIN, r), load(rays, DIRECTION, r)
        end = along(origin, t, direction)
        s, side = sweep(end), SWEEP_X * end[1] - SWEEP_Y * end[0]
        hit = (t > ZERO) & (t <= begin * _SLACK) & (s > _NEAR) & (abs(side) < _SIDE)
        floor = t if hit else BIG
        span = min(floor, SIGHT)
        rays[FLOOR + r] = floor
        rays[SPAN + r] = span
        store(rays, REACH, r, scaled(direction, span))
