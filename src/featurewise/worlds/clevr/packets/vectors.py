"""Vectors as three numbers, for compiled code."""

from __future__ import annotations

import math

from featurewise.worlds.clevr.camera import Vector
from featurewise.worlds.clevr.packets.compiler import ONE, Rows, inline, single
from featurewise.worlds.clevr.packets.rows import LANES

SHORTEST = single(1e-12)


@inline
def load(rows: Rows, first: int, ray: int) -> Vector:
    """The vector of a ray in the three rows from ``first``."""
    return rows[first + ray], rows[first + LANES + ray], rows[first + 2 * LANES + ray]


@inline
def store(rows: Rows, first: int, ray: int, value: Vector) -> None:
    """Write the vector of a ray to the three rows from ``first``."""
    rows[first + ray] = value[0]
    rows[first + LANES + ray] = value[1]
    rows[first + 2 * LANES + ray] = value[2]


@inline
def dot(a: Vector, b: Vector) -> float:
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inline
def scaled(a: Vector, factor: float) -> Vector:
    """``factor * a``."""
    return a[0] * factor, a[1] * factor, a[2] * factor


@inline
def along(a: Vector, factor: float, b: Vector) -> Vector:
    """``a + factor * b``."""
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]


@inline
def less(a: Vector, b: Vector) -> Vector:
    """``a - b``."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@inline
def length(a: Vector) -> float:
    """Euclidean length."""
    return math.sqrt(dot(a, a))


@inline
def unit(a: Vector) -> Vector:
    """The vector ``a``, normalised to length 1."""
    return scaled(a, ONE / max(length(a), SHORTEST))


@inline
def cross(a: Vector, b: Vector) -> Vector:
    """Cross product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
