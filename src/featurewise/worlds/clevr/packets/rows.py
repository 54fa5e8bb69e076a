"""The memory that packets of rays are traced in: where each quantity lies.

A packet is an array of single-precision numbers in rows of ``LANES``, one lane for each ray. Every
name below is the offset of a row, or of the first of three rows for x, y, z; the value of ray ``r``
is at ``packet[NAME + r]``. Because all offsets are constants within one array, the compiler knows
that rows do not overlap and turns loops over rays into SIMD code.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import count
from typing import Final

from featurewise.worlds.clevr.lights import LAMPS
from featurewise.worlds.clevr.shapes import Shapes

LANES: Final = 64
"""Rays of a packet."""

STEP: Final = 16
"""Packets are filled up to a multiple of this: the numbers in the widest registers."""

LIGHTS: Final = len(LAMPS) + 1
"""The lamps and the sun."""

_rows = count()


def _next(size: int = 1) -> int:
    """The offset of the next ``size`` rows."""
    first, *_ = [next(_rows) for _ in range(size)]
    return first * LANES


# --- rows of a packet of rays ---------------------------------------------------------------------

ORIGIN: Final = _next(3)
DIRECTION: Final = _next(3)
"""Unit vectors."""

FLOOR: Final = _next()
"""Distance to the ground; `BIG` for none."""

SPAN: Final = _next()
"""Length of the ray up to the ground."""

REACH: Final = _next(3)
"""From the origin to the ray's end."""

NEAREST: Final = _next()
"""Fraction of the reach up to the first object; `BIG` for none."""

WHICH: Final = _next()
"""Index of that object; -1 for none."""

DISTANCE: Final = _next()
"""Length of the ray up to the first surface."""

POINT: Final = _next(3)
"""Where the ray ends on that surface."""

NORMAL: Final = _next(3)
CURVATURE: Final = _next()
START: Final = _next(3)
"""Where rays toward the lights begin."""

RADIANCE: Final = _next(3)

TOWARD: Final = _next(3)
"""From the point to the light that is being traced; not of unit length."""

STRENGTH: Final = _next()
"""Irradiance by that light, without shadows."""

LIT: Final = _next()
"""One where that light is visible, else zero."""

SHADOW: Final = _next()
"""Fraction of ``TOWARD`` up to the first object; `BIG` for none."""

LIGHT_ROWS: Final = 5
"""Rows from ``TOWARD`` to ``LIT``, which are kept for each light."""

LOW: Final = _next()
HIGH: Final = _next()
"""Where ``enclose`` keeps the least and the greatest coordinates."""

SPOT: Final = _next(2)
"""The point of the unit square on the lamp that is being traced."""

KEPT: Final = _next(LIGHT_ROWS * LIGHTS)

# What is the same for every tile of an image: these rows are loaded together.
PATTERN: Final = _next(2)
"""Column and row of the sample within its tile, in pixels."""

LAMP_U: Final = _next(2 * len(LAMPS))
"""For each lamp two rows, a point of the unit square."""

TO_SUN: Final = _next(3)
FACET: Final = _next(2)
"""Slope of the metal facet that the sample hits, along the tangent and across it."""

WEIGHT: Final = _next()
"""Weight of the ray that this facet reflects."""

PACKET: Final = _next()
"""Length of a packet."""

PATTERN_ROWS: Final = (PACKET - PATTERN) // LANES

# --- rows of the hits of one material -------------------------------------------------------------

_rows = count()

HIT_VIEW: Final = _next(3)
HIT_NORMAL: Final = _next(3)
HIT_TANGENT: Final = _next(3)
HIT_ACROSS: Final = _next(3)
"""Perpendicular to normal and tangent."""

HIT_AROUND: Final = _next(2)
"""Horizontal position relative to the object's axis, in its radii."""

HIT_COLOR: Final = _next(3)
HIT_BLUR: Final = _next()
"""What the footprint of a pixel on a curved surface adds to the squared roughness."""

HIT_FLOOR: Final = _next(3)
"""Light of the ground around the object."""

HIT_OUT: Final = _next(3)
"""Light that leaves toward the view."""

HIT_TOWARD: Final = _next(3)
HIT_STRENGTH: Final = _next()
HIT_LIT: Final = _next()
HIT_SQUARE: Final = _next()
"""Squared distance of the light."""

HIT_FACET: Final = _next(2)
HIT_MIRROR: Final = _next(3)
"""Unit vector along which the mirrored ray leaves."""

HITS: Final = _next()
"""Length of the array of hits."""

# --- columns of a scene's objects and of their bounding spheres -----------------------------------

(X, Y, Z, COS, SIN, RADIUS, FLAT, CORE, RISE, ROUNDING, RED, GREEN, BLUE, METAL) = range(
    len(fields(Shapes))
)
"""The fields of ``Shapes``, in their order."""

SPHERES: Final = 16
"""Bounding spheres are tested in blocks of this many."""

SPHERE_X, SPHERE_Y, SPHERE_Z, SPHERE_RADIUS, SPHERE_NEAR = range(0, 5 * SPHERES, SPHERES)
"""Offsets within a block: centre, radius, and one where rays may intersect the object."""

SPHERE_BLOCK: Final = 5 * SPHERES
