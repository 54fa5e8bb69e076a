"""Light that objects send along rays, for compiled code: the twin of ``_shade``.

The hits of one material are collected in an array of their own, so that all lanes run the same
formulas: those of :mod:`featurewise.worlds.clevr.materials`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurewise.worlds.clevr import materials
from featurewise.worlds.clevr.camera import Vector
from featurewise.worlds.clevr.packets.compiler import (
    FOUR,
    HALF,
    ONE,
    PI,
    TWO,
    ZERO,
    Rows,
    Table,
    inline,
    kernel,
    single,
)
from featurewise.worlds.clevr.packets.lights import (
    BOUNCE,
    COLORS,
    GROUND_COLORS,
    SIZES,
    SUN,
    SUN_SIZE,
    radiance_of,
)
from featurewise.worlds.clevr.packets.rows import (
    BLUE,
    CURVATURE,
    DIRECTION,
    DISTANCE,
    FACET,
    GREEN,
    HIT_ACROSS,
    HIT_AROUND,
    HIT_BLUR,
    HIT_COLOR,
    HIT_FACET,
    HIT_FLOOR,
    HIT_LIT,
    HIT_MIRROR,
    HIT_NORMAL,
    HIT_OUT,
    HIT_SQUARE,
    HIT_STRENGTH,
    HIT_TANGENT,
    HIT_TOWARD,
    HIT_VIEW,
    KEPT,
    LANES,
    LIGHT_ROWS,
    LIGHTS,
    METAL,
    NORMAL,
    POINT,
    RADIANCE,
    RADIUS,
    RED,
    STEP,
    WHICH,
    X,
    Y,
)
from featurewise.worlds.clevr.packets.vectors import (
    along,
    cross,
    dot,
    load,
    scaled,
    store,
    unit,
)
from featurewise.worlds.clevr.render import AMBIENT, OWN_SHADOW

_LEAST: Final = single(1e-3)
_THIN: Final = single(1e-6)
_LEAST_SINE: Final = single(1e-4)
_QUARTER: Final = single(0.25)
_COAT_INDEX: Final = single(1.25)
_SHEEN_INDEX: Final = single(1.45)
_COAT: Final = single(materials.COAT)
_GLOSS: Final = single(materials.GLOSS)
_GLOSS_SQUARE: Final = single(materials.GLOSS**2)
_SHEEN_SQUARE: Final = single(materials.SHEEN**2)
_ROUGH: Final = single(materials.ROUGH**2)
_SMOOTH: Final = single(materials.SMOOTH**2)
_ROUGH_SHARE: Final = single(materials.ROUGH_SHARE)
_ALONG: Final = single(1 - materials.ANISOTROPY)
_ACROSS: Final = single(1 / (1 - materials.ANISOTROPY))
_MASK_LIMIT: Final = single(1.6)
_MASK: Final = tuple(single(value) for value in (3.535, 2.181, 2.276, 2.577))
_AMBIENT: Final = single(AMBIENT)
_OWN_SHADOW: Final = single(OWN_SHADOW)
_GLEAM_WIDTH: Final = single(0.7)
_LOWEST: Final = single(-87)
_PART: Final = single(1 / 256)
_BY_6, _BY_24, _BY_120 = (single(1 / n) for n in (6, 24, 120))


@inline
def _exp(x: float) -> float:
    """The exponential of numbers up to 0, as the 256th power of a series."""
    y = max(x, _LOWEST) * _PART
    p = ONE + y * (ONE + y * (HALF + y * (_BY_6 + y * (_BY_24 + y * _BY_120))))
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    p = p * p
    return p * p


@inline
def _fresnel(cosine: float, index: float) -> float:
    """Reflectance of a dielectric of refractive ``index``."""
    g = math.sqrt(index * index - ONE + cosine * cosine)
    a = (g - cosine) / (g + cosine)
    b = (cosine * (g + cosine) - ONE) / (cosine * (g - cosine) + ONE)
    return HALF * a * a * (ONE + b * b)


@inline
def _beckmann_mask(cosine: float) -> float:
    """Fraction of facets that are not masked."""
    a = cosine / (_GLOSS * math.sqrt(max(ONE - cosine * cosine, _THIN)))
    fit = (_MASK[0] * a + _MASK[1] * a * a) / (ONE + _MASK[2] * a + _MASK[3] * a * a)
    return fit if a < _MASK_LIMIT else ONE


@kernel
def _add_rubber(hits: Rows, n: int, color: Vector) -> None:
    """Add light of a lamp of ``color`` that ``n`` hits of rubber scatter."""
    for r in range(n):
        normal, view = load(hits, HIT_NORMAL, r), load(hits, HIT_VIEW, r)
        toward = load(hits, HIT_TOWARD, r)
        facing, received = dot(normal, view), dot(normal, toward)
        cos_v, cos_l = max(facing, _LEAST), max(received, _LEAST)
        clipped = min(max(facing, ZERO), ONE)
        coat, sheen = _fresnel(clipped, _COAT_INDEX), _fresnel(clipped, _SHEEN_INDEX)
        half = unit(along(view, ONE, toward))
        cos_h = min(max(dot(normal, half), _LEAST), ONE)
        cos2 = cos_h * cos_h
        sin2 = max(ONE - cos2, _LEAST_SINE)
        fuzz = _exp(-cos2 / (sin2 * _SHEEN_SQUARE)) / (PI * _SHEEN_SQUARE * sin2 * sin2)
        ratio = TWO * cos_h / max(dot(half, view), _LEAST)
        velvet = _QUARTER * fuzz * min(ratio * min(cos_v, cos_l), ONE) / cos_v
        slopes = _exp((cos2 - ONE) / (cos2 * _GLOSS_SQUARE)) / (PI * _GLOSS_SQUARE * cos2 * cos2)
        shine = slopes * _beckmann_mask(cos_v) * _beckmann_mask(cos_l) / (FOUR * cos_v)
        matte = (ONE - coat) * ((ONE - sheen) * cos_l / PI + sheen * velvet)
        gloss = coat * _COAT * shine
        power = hits[HIT_STRENGTH + r] * hits[HIT_LIT + r]
        power = power if received > ZERO else ZERO
        own, out = load(hits, HIT_COLOR, r), load(hits, HIT_OUT, r)
        red = out[0] + (matte * own[0] + gloss) * power * color[0]
        green = out[1] + (matte * own[1] + gloss) * power * color[1]
        blue = out[2] + (matte * own[2] + gloss) * power * color[2]
        store(hits, HIT_OUT, r, (red, green, blue))


@inline
def _ggx(
    half: Vector,
    view: Vector,
    toward: Vector,
    cos_v: float,
    cos_l: float,
    along_: float,
    across: float,
) -> float:
    """Fraction that a rough mirror with anisotropic GGX slopes scatters.

    The three vectors are in the frame of tangent, bitangent and normal; ``along_`` and ``across``
    are the roughness.
    """
    h_t, h_b, h_n = half[0] / along_, half[1] / across, half[2]
    width = h_t * h_t + h_b * h_b + h_n * h_n
    density = ONE / (PI * along_ * across * width * width)
    v_t, v_b, l_t, l_b = along_ * view[0], across * view[1], along_ * toward[0], across * toward[1]
    mask_v = TWO * cos_v / (cos_v + math.sqrt(cos_v * cos_v + v_t * v_t + v_b * v_b))
    mask_l = TWO * cos_l / (cos_l + math.sqrt(cos_l * cos_l + l_t * l_t + l_b * l_b))
    return density * mask_v * mask_l / (FOUR * cos_v)


@inline
def _in_frame(tangent: Vector, across: Vector, normal: Vector, v: Vector) -> Vector:
    return dot(tangent, v), dot(across, v), dot(normal, v)


@kernel
def _add_metal(hits: Rows, n: int, color: Vector, size: float, sun_size: float) -> None:
    """Add light of a lamp of ``color`` that ``n`` hits of metal scatter.

    The lamp's apparent size is ``size`` by its squared distance, plus ``sun_size``.
    """
    for r in range(n):
        normal = load(hits, HIT_NORMAL, r)
        tangent, across = load(hits, HIT_TANGENT, r), load(hits, HIT_ACROSS, r)
        view, toward = load(hits, HIT_VIEW, r), load(hits, HIT_TOWARD, r)
        half = _in_frame(tangent, across, normal, unit(along(view, ONE, toward)))
        view = _in_frame(tangent, across, normal, view)
        toward = _in_frame(tangent, across, normal, toward)
        cos_v, cos_l = max(view[2], _LEAST), max(toward[2], _LEAST)
        blur = size / hits[HIT_SQUARE + r] + sun_size + hits[HIT_BLUR + r]
        a = math.sqrt(_ROUGH + blur)
        rough = _ggx(half, view, toward, cos_v, cos_l, _ALONG * a, _ACROSS * a)
        a = math.sqrt(_SMOOTH + blur)
        smooth = _ggx(half, view, toward, cos_v, cos_l, _ALONG * a, _ACROSS * a)
        lobes = _ROUGH_SHARE * rough + (ONE - _ROUGH_SHARE) * smooth
        power = lobes * hits[HIT_STRENGTH + r] * hits[HIT_LIT + r]
        power = power if toward[2] > ZERO else ZERO
        own, out = load(hits, HIT_COLOR, r), load(hits, HIT_OUT, r)
        red, green = out[0] + own[0] * power * color[0], out[1] + own[1] * power * color[1]
        store(hits, HIT_OUT, r, (red, green, out[2] + own[2] * power * color[2]))


@kernel
def _add_floor(hits: Rows, n: int, color: Vector) -> None:
    """Add what the ground around ``n`` hits sends of a lamp's light; see ``_floor``.

    ``HIT_TOWARD`` is normalised here, and ``HIT_SQUARE`` is set to its squared length.
    """
    for r in range(n):
        toward, normal = load(hits, HIT_TOWARD, r), load(hits, HIT_NORMAL, r)
        square = dot(toward, toward)
        toward = scaled(toward, ONE / math.sqrt(square))
        level = normal[0] * toward[0] + normal[1] * toward[1]
        share = max(toward[2], ZERO) * (ONE - _OWN_SHADOW * max(-level, ZERO))
        share = share * hits[HIT_STRENGTH + r]
        store(hits, HIT_TOWARD, r, toward)
        hits[HIT_SQUARE + r] = square
        store(hits, HIT_FLOOR, r, along(load(hits, HIT_FLOOR, r), share, color))


@kernel
def _finish(hits: Rows, n: int, is_metal: bool, last: float) -> None:
    """Add the ground's light that rubber scatters, or, where it is the ``last``, metal reflects."""
    for r in range(n):
        normal, view = load(hits, HIT_NORMAL, r), load(hits, HIT_VIEW, r)
        cos_v = min(max(dot(normal, view), ZERO), ONE)
        coat = _fresnel(cos_v, _COAT_INDEX)
        mirrored = TWO * cos_v * normal[2] - view[2]
        gleam = _AMBIENT * min(max(HALF - mirrored / _GLEAM_WIDTH, ZERO), ONE)
        below = _AMBIENT * (ONE - normal[2]) * HALF
        body = gleam * last if is_metal else (ONE - coat) * below
        shine = ZERO if is_metal else coat * _COAT * gleam
        own, floor = load(hits, HIT_COLOR, r), load(hits, HIT_FLOOR, r)
        out = load(hits, HIT_OUT, r)
        red = out[0] + (body * own[0] + shine) * floor[0]
        green = out[1] + (body * own[1] + shine) * floor[1]
        blue = out[2] + (body * own[2] + shine) * floor[2]
        store(hits, HIT_OUT, r, (red, green, blue))


@kernel
def _set_tangents(hits: Rows, n: int) -> None:
    """Rows ``HIT_TANGENT`` and ``HIT_ACROSS``."""
    for r in range(n):
        normal = load(hits, HIT_NORMAL, r)
        around = -hits[HIT_AROUND + LANES + r], hits[HIT_AROUND + r], ZERO
        tangent = unit(along(around, -dot(around, normal), normal))
        store(hits, HIT_TANGENT, r, tangent)
        store(hits, HIT_ACROSS, r, cross(normal, tangent))


@kernel
def _collect(
    rays: Rows,
    n: int,
    objects: Table,
    is_metal: bool,
    pixel: float,
    hits: Rows,
    who: NDArray[np.int64],
) -> int:
    """Copy the rays that hit objects of one material to ``hits``; see :func:`shade`."""
    m = 0
    for r in range(n):
        if rays[WHICH + r] < ZERO:
            continue
        k = int(rays[WHICH + r])
        if (objects[k, METAL] > ZERO) != is_metal:
            continue
        who[m] = r
        store(hits, HIT_NORMAL, m, load(rays, NORMAL, r))
        store(hits, HIT_VIEW, m, scaled(load(rays, DIRECTION, r), -ONE))
        store(hits, HIT_COLOR, m, (objects[k, RED], objects[k, GREEN], objects[k, BLUE]))
        hits[HIT_AROUND + m] = (rays[POINT + r] - objects[k, X]) / objects[k, RADIUS]
        hits[HIT_AROUND + LANES + m] = (rays[POINT + LANES + r] - objects[k, Y]) / objects[
            k, RADIUS
        ]
        footprint = rays[DISTANCE + r] * pixel * rays[CURVATURE + r]
        hits[HIT_BLUR + m] = footprint * footprint / FOUR
        hits[HIT_FACET + m] = rays[FACET + r]
        hits[HIT_FACET + LANES + m] = rays[FACET + LANES + r]
        m += 1
    return m


@inline
def filled(m: int) -> int:
    """The number of lanes that ``m`` rays are filled up to."""
    return (m + STEP - 1) // STEP * STEP


@kernel
def shade(
    rays: Rows,
    n: int,
    objects: Table,
    is_metal: bool,
    pixel: float,
    last: bool,
    hits: Rows,
    who: NDArray[np.int64],
) -> int:
    """Replace the radiance of the rays that hit objects of one material.

    Args:
        rays: surfaces and lights are known.
        n: number of rays.
        objects: (K, 14).
        is_metal: which material.
        pixel: angle between samples in radians; zero for mirrored rays.
        last: whether metal reflects a ground without objects, instead of a mirrored ray.
        hits: the array of hits; tangents of metal are left in it.
        who: for each hit its ray, written here.

    Returns:
        The number of hits.
    """
    m = _collect(rays, n, objects, is_metal, pixel, hits, who)
    if m == 0:
        return 0
    p = filled(m)
    for r in range(m, p):
        who[r] = who[0]
        for row in range(0, HIT_OUT, LANES):
            hits[row + r] = hits[row]
        for row in range(HIT_FACET, HIT_FACET + 2 * LANES, LANES):
            hits[row + r] = hits[row]
    if is_metal:
        _set_tangents(hits, p)
    for r in range(p):
        store(hits, HIT_FLOOR, r, (BOUNCE, BOUNCE, BOUNCE))
        store(hits, HIT_OUT, r, (ZERO, ZERO, ZERO))
    for light in range(LIGHTS):
        first = KEPT + light * LIGHT_ROWS * LANES
        for row in range(LIGHT_ROWS):
            for r in range(p):
                hits[HIT_TOWARD + row * LANES + r] = rays[first + row * LANES + who[r]]
        _add_floor(hits, p, radiance_of(GROUND_COLORS, light))
        if is_metal:
            sun_size = SUN_SIZE if light == SUN else ZERO
            _add_metal(hits, p, radiance_of(COLORS, light), SIZES[light], sun_size)
        else:
            _add_rubber(hits, p, radiance_of(COLORS, light))
    _finish(hits, p, is_metal, ONE if last else ZERO)
    for i in range(m):
        store(rays, RADIANCE, who[i], load(hits, HIT_OUT, i))
    return m


@kernel
def mirror(hits: Rows, n: int) -> None:
    """Row ``HIT_MIRROR``: where the facets of ``n`` hits of metal reflect the view."""
    for r in range(n):
        normal, view = load(hits, HIT_NORMAL, r), load(hits, HIT_VIEW, r)
        facet = along(normal, hits[HIT_FACET + r], load(hits, HIT_TANGENT, r))
        facet = unit(along(facet, hits[HIT_FACET + LANES + r], load(hits, HIT_ACROSS, r)))
        way = along(scaled(facet, TWO * dot(facet, view)), -ONE, view)
        # A path that a facet would reflect into the object continues along the surface instead.
        store(hits, HIT_MIRROR, r, unit(along(way, -min(dot(way, normal), ZERO), normal)))
