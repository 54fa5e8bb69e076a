"""Rays and objects, for compiled code: the formulas of :mod:`featurewise.worlds.clevr.shapes`.

An object is a row of the array ``objects`` (K, 14), whose columns are the fields of ``Shapes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from featurewise.worlds.clevr import shapes
from featurewise.worlds.clevr.camera import Vector
from featurewise.worlds.clevr.packets.compiler import (
    BIG,
    HALF,
    ONE,
    ZERO,
    Rows,
    Table,
    as_single,
    inline,
    kernel,
    single,
)
from featurewise.worlds.clevr.packets.rows import (
    CORE,
    COS,
    FLAT,
    HIGH,
    LANES,
    LOW,
    NEAREST,
    ORIGIN,
    RADIUS,
    REACH,
    RISE,
    ROUNDING,
    SHADOW,
    SIN,
    SPHERE_BLOCK,
    SPHERE_NEAR,
    SPHERE_RADIUS,
    SPHERE_X,
    SPHERE_Y,
    SPHERE_Z,
    SPHERES,
    START,
    STEP,
    TOWARD,
    WHICH,
    X,
    Y,
    Z,
)
from featurewise.worlds.clevr.packets.vectors import along, dot, length, load, scaled, store

_TINY: Final = single(1e-9)
_SLOWEST: Final = single(1e-3)
_TOLERANCE: Final = single(shapes.TOLERANCE)
_SHORTEST: Final = single(1e-12)

Excess = Callable[[Vector, float, float, float], Vector]


@inline
def _beyond(value: float, limit: float) -> float:
    """How far ``value`` lies outside of ``-limit..limit``."""
    return value - min(max(value, -limit), limit)


@inline
def sphere_excess(p: Vector, flat: float, core: float, rise: float) -> Vector:
    """Vector from the core of a sphere, which is its centre, to ``p``."""
    return p


@inline
def cube_excess(p: Vector, flat: float, core: float, rise: float) -> Vector:
    """Vector from the nearest point of the core of a cube to ``p``."""
    return _beyond(p[0], flat), _beyond(p[1], flat), _beyond(p[2], rise)


@inline
def cylinder_excess(p: Vector, flat: float, core: float, rise: float) -> Vector:
    """Vector from the nearest point of the core of a cylinder to ``p``."""
    k = max(ONE - core / max(math.sqrt(p[0] * p[0] + p[1] * p[1]), _TINY), ZERO)
    return p[0] * k, p[1] * k, _beyond(p[2], rise)


@inline
def _slab(p: float, q: float) -> tuple[float, float]:
    """Where a ray enters and leaves the slab between -1 and 1."""
    inverse = ONE / (_TINY if abs(q) < _TINY else q)
    a, b = (-ONE - p) * inverse, (ONE - p) * inverse
    return min(a, b), max(a, b)


@inline
def to_frame(v: Vector, cos: float, sin: float, scale: float) -> Vector:
    """A vector of the world in an object's own frame, in units of its radius."""
    return (cos * v[0] + sin * v[1]) * scale, (cos * v[1] - sin * v[0]) * scale, v[2] * scale


def _solver(
    excess: Excess, origin: int, reach: int, nearest: int, steps: int, keeps_which: bool
) -> Callable[[Rows, int, Table, int], None]:
    """A function that intersects ``n`` rays with one object of a kind.

    Args:
        excess: of the kind of object.
        origin: row of the rays' origins.
        reach: row of the vectors to their ends.
        nearest: row of the fractions of the reach; it keeps the smallest one.
        steps: Newton steps.
        keeps_which: whether row ``WHICH`` keeps the object's index too.
    """

    @kernel
    def solve(rays: Rows, n: int, objects: Table, k: int) -> None:
        center = objects[k, X], objects[k, Y], objects[k, Z]
        cos, sin, scale = objects[k, COS], objects[k, SIN], ONE / objects[k, RADIUS]
        flat, core, rise = objects[k, FLAT], objects[k, CORE], objects[k, RISE]
        rounding, index = objects[k, ROUNDING], as_single(k)
        for r in range(n):
            p = to_frame(along(load(rays, origin, r), -ONE, center), cos, sin, scale)
            q = to_frame(load(rays, reach, r), cos, sin, scale)
            enter_x, leave_x = _slab(p[0], q[0])
            enter_y, leave_y = _slab(p[1], q[1])
            enter_z, leave_z = _slab(p[2], q[2])
            enter = max(max(max(enter_x, enter_y), enter_z), ZERO)
            leave = min(min(leave_x, leave_y), leave_z)
            t, gap, approach = enter, ZERO, ONE
            for _ in range(steps):
                e = excess(along(p, t, q), flat, core, rise)
                far = max(length(e), _TINY)
                gap = far - rounding
                # Newton's step is gap / (approach / far); this form has one division less.
                approach = -dot(e, q)
                t = t + max(gap, ZERO) * far / max(approach, _SLOWEST * far)
            hit = (enter < leave) & (approach > ZERO) & (gap < _TOLERANCE)
            t = t if hit else BIG
            before = rays[nearest + r]
            if keeps_which:
                rays[WHICH + r] = index if t < before else rays[WHICH + r]
            rays[nearest + r] = min(before, t)

    return solve


_FIRST = ORIGIN, REACH, NEAREST, shapes.SOLVE_STEPS, True
_SHADE = START, TOWARD, SHADOW, shapes.SHADOW_STEPS, False
_first_sphere, _first_cube, _first_cylinder = (
    _solver(excess, *_FIRST) for excess in (sphere_excess, cube_excess, cylinder_excess)
)
_shade_sphere, _shade_cube, _shade_cylinder = (
    _solver(excess, *_SHADE) for excess in (sphere_excess, cube_excess, cylinder_excess)
)


@inline
def _extent(rays: Rows, row: int, n: int) -> tuple[float, float]:
    """Middle and half width of the interval of ``n`` values in ``row``.

    The least and the greatest are found lane by lane, in rows that are folded in the end: compilers
    do not turn a minimum over a loop into SIMD code.
    """
    for r in range(n):
        rays[LOW + r] = rays[row + r]
        rays[HIGH + r] = rays[row + r]
    half = n // 2
    while half >= STEP // 2:
        for r in range(half):
            rays[LOW + r] = min(rays[LOW + r], rays[LOW + half + r])
            rays[HIGH + r] = max(rays[HIGH + r], rays[HIGH + half + r])
        half //= 2
    low, high = rays[LOW], rays[HIGH]
    for i in range(1, 2 * half):
        low, high = min(low, rays[LOW + i]), max(high, rays[HIGH + i])
    return (low + high) * HALF, (high - low) * HALF


def _encloser(row: int) -> Callable[[Rows, int, Rows, int], None]:
    """A function that puts a sphere around the points of ``n`` rays at ``balls[ball : ball + 4]``.

    The four numbers are the sphere's centre and its radius.

    Args:
        row: of the points. It is constant, so that no index can be negative and need a check.
    """

    @kernel
    def enclose(rays: Rows, n: int, balls: Rows, ball: int) -> None:
        x, half_x = _extent(rays, row, n)
        y, half_y = _extent(rays, row + LANES, n)
        z, half_z = _extent(rays, row + 2 * LANES, n)
        balls[ball], balls[ball + 1], balls[ball + 2] = x, y, z
        balls[ball + 3] = math.sqrt(half_x * half_x + half_y * half_y + half_z * half_z)

    return enclose


enclose_origins = _encloser(ORIGIN)
enclose_starts = _encloser(START)


FOOT: Final = 0
"""Offset in ``balls`` of the sphere around the rays' origins."""

HEAD: Final = 4
"""Offset in ``balls`` of the sphere around their ends."""


@kernel
def cull(spheres: Rows, count: int, balls: Rows) -> None:
    """Find the objects that rays between two balls may intersect: row ``SPHERE_NEAR``.

    The rays lie within the hull of the two balls. An object is left out if its bounding sphere is
    outside of that hull.
    """
    foot, foot_radius = (balls[FOOT], balls[FOOT + 1], balls[FOOT + 2]), balls[FOOT + 3]
    head, head_radius = (balls[HEAD], balls[HEAD + 1], balls[HEAD + 2]), balls[HEAD + 3]
    axis = along(head, -ONE, foot)
    inverse = ONE / max(dot(axis, axis), _SHORTEST)
    grow = head_radius - foot_radius
    steep = grow * grow * inverse
    narrow = math.sqrt(max(ONE - steep, ZERO))
    # Where one ball contains the other, the hull is the larger ball, and there is no cone.
    contained = BIG if steep >= ONE else ZERO
    largest = max(head_radius, foot_radius)
    for block in range((count + SPHERES - 1) // SPHERES):
        for lane in range(SPHERES):
            i = block * SPHERE_BLOCK + lane
            center = spheres[SPHERE_X + i], spheres[SPHERE_Y + i], spheres[SPHERE_Z + i]
            offset = along(center, -ONE, foot)
            u = dot(offset, axis) * inverse
            away = length(along(offset, -u, axis))
            outside = away * narrow - foot_radius - u * grow - contained
            beyond = length(along(offset, -min(max(u, ZERO), ONE), axis)) - largest
            near = max(outside, beyond) < spheres[SPHERE_RADIUS + i]
            spheres[SPHERE_NEAR + i] = ONE if near else ZERO


def _sieve(origin: int, reach: int) -> Callable[[Rows, int, Rows, int], bool]:
    """A function that says whether any of ``n`` rays passes through the sphere of object ``k``.

    It costs a fraction of an intersection, and most objects that :func:`cull` keeps are missed.

    Args:
        origin: row of the rays' origins.
        reach: row of the vectors to their ends.
    """

    @kernel
    def passes(rays: Rows, n: int, spheres: Rows, k: int) -> bool:
        i = k // SPHERES * SPHERE_BLOCK + k % SPHERES
        if spheres[SPHERE_NEAR + i] == ZERO:
            return False
        center = spheres[SPHERE_X + i], spheres[SPHERE_Y + i], spheres[SPHERE_Z + i]
        square = spheres[SPHERE_RADIUS + i] * spheres[SPHERE_RADIUS + i]
        count = 0
        for r in range(n):
            offset = along(center, -ONE, load(rays, origin, r))
            ray = load(rays, reach, r)
            t = dot(offset, ray) / max(dot(ray, ray), _SHORTEST)
            off = along(offset, -min(max(t, ZERO), ONE), ray)
            count += 1 if dot(off, off) < square else 0
        return count > 0

    return passes


_seen = _sieve(ORIGIN, REACH)
_shading = _sieve(START, TOWARD)


@kernel
def closest_hit(rays: Rows, n: int, objects: Table, count: int, spheres: Rows, balls: Rows) -> None:
    """Find the first object on each of ``n`` rays: rows ``NEAREST`` and ``WHICH``.

    The ball of the rays' origins is known.
    """
    for r in range(n):
        rays[NEAREST + r] = BIG
        rays[WHICH + r] = -ONE
        end = along(load(rays, ORIGIN, r), ONE, load(rays, REACH, r))
        store(rays, START, r, end)  # a free row at this stage
    enclose_starts(rays, n, balls, HEAD)
    cull(spheres, count, balls)
    for k in range(count):
        if _seen(rays, n, spheres, k):
            if objects[k, FLAT] > ZERO:
                _first_cube(rays, n, objects, k)
            elif objects[k, CORE] > ZERO:
                _first_cylinder(rays, n, objects, k)
            else:
                _first_sphere(rays, n, objects, k)


@kernel
def cast_shadows(
    rays: Rows, n: int, objects: Table, count: int, spheres: Rows, balls: Rows
) -> None:
    """Find the first object between each of ``n`` points and a light: row ``SHADOW``.

    ``balls`` are those of the points and of the light.
    """
    for r in range(n):
        rays[SHADOW + r] = BIG
    cull(spheres, count, balls)
    for k in range(count):
        if _shading(rays, n, spheres, k):
            if objects[k, FLAT] > ZERO:
                _shade_cube(rays, n, objects, k)
            elif objects[k, CORE] > ZERO:
                _shade_cylinder(rays, n, objects, k)
            else:
                _shade_sphere(rays, n, objects, k)


@inline
def surface(point: Vector, objects: Table, k: int) -> tuple[Vector, float]:
    """Unit normal and curvature of object ``k`` at ``point``; see ``Surface``."""
    cos, sin, scale = objects[k, COS], objects[k, SIN], ONE / objects[k, RADIUS]
    flat, core, rise = objects[k, FLAT], objects[k, CORE], objects[k, RISE]
    center = objects[k, X], objects[k, Y], objects[k, Z]
    p = to_frame(along(point, -ONE, center), cos, sin, scale)
    e = cube_excess(p, flat, core, rise) if flat > ZERO else cylinder_excess(p, flat, core, rise)
    k_ = ONE / max(length(e), _SHORTEST)
    normal = scaled((cos * e[0] - sin * e[1], sin * e[0] + cos * e[1], e[2]), k_)
    facets = int(e[0] != ZERO) + int(e[1] != ZERO) + int(e[2] != ZERO)
    plain = facets == 1 if flat > ZERO else (e[0] == ZERO) & (e[1] == ZERO)
    if e[2] == ZERO and core > ZERO:
        curvature = ONE
    elif plain:
        curvature = ZERO
    else:
        curvature = ONE / objects[k, ROUNDING]
    return normal, curvature * scale
