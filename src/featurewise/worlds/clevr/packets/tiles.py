"""Images in compiled code: packets of rays, tile by tile."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurewise.worlds.clevr.camera import FOCAL
from featurewise.worlds.clevr.packets.compiler import (
    HALF,
    ONE,
    ZERO,
    Rows,
    Table,
    as_single,
    entry,
    inline,
    kernel,
    single,
)
from featurewise.worlds.clevr.packets.ground import SIGHT, ground_normal, intersect_ground
from featurewise.worlds.clevr.packets.hits import FOOT, closest_hit, enclose_origins, surface
from featurewise.worlds.clevr.packets.lights import illuminate, set_starts
from featurewise.worlds.clevr.packets.rows import (
    BLUE,
    CURVATURE,
    DIRECTION,
    DISTANCE,
    GREEN,
    HIT_MIRROR,
    HITS,
    LANES,
    NEAREST,
    NORMAL,
    ORIGIN,
    PACKET,
    PATTERN,
    POINT,
    RADIANCE,
    REACH,
    RED,
    SPAN,
    START,
    WEIGHT,
    WHICH,
)
from featurewise.worlds.clevr.packets.shading import filled, mirror, shade
from featurewise.worlds.clevr.packets.vectors import along, load, scaled, store, unit

_FOCAL: Final = single(FOCAL)

_LEVELS: Final = 255
_CELLS: Final = 8191


def _thresholds() -> NDArray[np.float32]:
    """The least linear value of each level of an image, 0..255, and one above all values."""
    coded = (np.arange(_LEVELS + 2) - 0.5) / _LEVELS
    linear = np.where(coded <= 0.0031308 * 12.92, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    linear[0], linear[-1] = 0, 2
    return linear.astype(np.float32)


_LEAST_OF_LEVEL: Final = _thresholds()
_LEVEL_OF_CELL: Final = (
    np.searchsorted(_LEAST_OF_LEVEL, (np.arange(_CELLS + 1) - 0.01) / _CELLS, side="right") - 1
).clip(0, _LEVELS)
_LEVEL: Final = _LEVEL_OF_CELL.astype(np.float32)
"""The level at the lower end of cells of linear values; no cell has more than two levels."""

_NEXT: Final = _LEAST_OF_LEVEL[_LEVEL_OF_CELL + 1]
"""The least linear value of the other one."""

_CELLS_PER_ONE: Final = single(_CELLS)


@kernel
def _set_camera_rays(
    rays: Rows,
    n: int,
    cameras: Table,
    scene: int,
    left: float,
    top: float,
    scale: float,
    balls: Rows,
) -> None:
    """Rows ``ORIGIN`` and ``DIRECTION`` of the rays through a tile.

    Args:
        rays: the pattern is loaded.
        n: number of rays.
        cameras: position, right, up and forward (S, 4, 3).
        scene: row of ``cameras``.
        left: column of the tile relative to the image's centre, in pixels.
        top: row of the tile relative to the image's centre, upward, in pixels.
        scale: of a pixel at distance 1.
        balls: gets that of the origins, which is a point.
    """
    c = cameras
    origin = c[scene, 0, 0], c[scene, 0, 1], c[scene, 0, 2]
    right = c[scene, 1, 0], c[scene, 1, 1], c[scene, 1, 2]
    up = c[scene, 2, 0], c[scene, 2, 1], c[scene, 2, 2]
    forward = c[scene, 3, 0], c[scene, 3, 1], c[scene, 3, 2]
    balls[FOOT], balls[FOOT + 1], balls[FOOT + 2], balls[FOOT + 3] = (
        origin[0],
        origin[1],
        origin[2],
        ZERO,
    )
    for r in range(n):
        x = (left + rays[PATTERN + r]) * scale
        y = (top - rays[PATTERN + LANES + r]) * scale
        store(rays, ORIGIN, r, origin)
        store(rays, DIRECTION, r, unit(along(along(forward, x, right), y, up)))


@kernel
def _trace(
    rays: Rows,
    n: int,
    objects: Table,
    count: int,
    spheres: Rows,
    lamps: Table,
    balls: Rows,
) -> bool:
    """Trace rays to the first surface and from there to the lights.

    Returns:
        Whether a ray hits an object.
    """
    intersect_ground(rays, n)
    closest_hit(rays, n, objects, count, spheres, balls)
    hit = False
    for r in range(n):
        distance = rays[SPAN + r] * min(rays[NEAREST + r], ONE)
        point = along(load(rays, ORIGIN, r), distance, load(rays, DIRECTION, r))
        rays[DISTANCE + r] = distance
        store(rays, POINT, r, point)
        store(rays, NORMAL, r, ground_normal(point))
    for r in range(n):
        if rays[WHICH + r] >= ZERO:
            hit = True
            normal, curvature = surface(load(rays, POINT, r), objects, int(rays[WHICH + r]))
            store(rays, NORMAL, r, normal)
            rays[CURVATURE + r] = curvature
    if set_starts(rays, n, balls):
        illuminate(rays, n, objects, count, spheres, lamps, balls, hit)
    else:
        for r in range(n):
            store(rays, RADIANCE, r, (ZERO, ZERO, ZERO))
    return hit


@inline
def _set_mirrored_rays(rays: Rows, hits: Rows, who: NDArray[np.int64], n: int, to: Rows) -> None:
    """Rows ``ORIGIN`` and ``DIRECTION`` of the mirrored rays ``to``."""
    for i in range(n):
        store(to, ORIGIN, i, load(rays, START, who[i]))
        store(to, DIRECTION, i, load(hits, HIT_MIRROR, i))


@kernel
def _add_to_pixels(
    rays: Rows, pixels: int, per_pixel: int, number: int, samples: int, sums: Rows
) -> None:
    """Add the rays of pass ``number`` to the means of their pixels.

    Highlights are clipped before averaging, as when a larger image is scaled down.
    """
    weight = ONE / as_single(samples)
    if samples == 1:
        for i in range(3 * LANES):
            sums[i] = min(rays[RADIANCE + i], ONE)
        return
    for c in range(3):
        for p in range(pixels):
            total = ZERO if number == 0 else sums[c * LANES + p]
            first = RADIANCE + c * LANES + p * per_pixel
            for r in range(first, first + per_pixel):
                total += min(rays[r], ONE) * weight
            sums[c * LANES + p] = total


@kernel
def _write_tile(sums: Rows, side: int, image: NDArray[np.uint8], y: int, x: int) -> None:
    """Write the pixels of a tile, as far as they lie in the image (3, H, W).

    Their linear values are encoded as by ``display``.
    """
    for i in range(3 * LANES):
        value = min(max(sums[i], ZERO), ONE)
        cell = np.int32(value * _CELLS_PER_ONE)
        sums[i] = _LEVEL[cell] + (ONE if value >= _NEXT[cell] else ZERO)
    rows, columns = min(side, image.shape[1] - y), min(side, image.shape[2] - x)
    for c in range(3):
        for row in range(rows):
            first = c * LANES + row * side
            for column in range(columns):
                image[c, y + row, x + column] = np.uint8(sums[first + column])


def _entries(version: int) -> tuple[Any, Any]:
    """The functions that Python code calls.

    Numba takes compiled code from its cache if the function's own file and variables are
    unchanged, whatever became of the functions and constants that it uses. So the variables include
    the version of all of them.
    """

    @entry
    def render_tiles(
        cameras: Table,
        lamps: Any,
        objects: Any,
        counts: NDArray[np.int64],
        spheres: Any,
        patterns: Any,
        used: NDArray[np.int64],
        middle: Any,
        side: int,
        samples: int,
        pixel: float,
        images: NDArray[np.uint8],
    ) -> None:
        """Write images (S, 3, H, W).

        Args:
            cameras: (S, 4, 3).
            lamps: (S, 3, 3).
            objects: (S, K, 14).
            counts: number of objects of each scene, (S,).
            spheres: bounding spheres (S, blocks * SPHERE_BLOCK).
            patterns: of the passes over a tile, (passes, PATTERN_ROWS * LANES).
            used: number of rays of each pass, (passes,).
            middle: pattern of mirrored rays, (PATTERN_ROWS * LANES,).
            side: pixels along the edge of a tile.
            samples: rays of a pixel, in all passes.
            pixel: angle between samples in radians.
            images: the result.
        """
        if version < 0:
            return
        rays, mirrored = np.zeros(PACKET, np.float32), np.zeros(PACKET, np.float32)
        hits, others = np.zeros(HITS, np.float32), np.zeros(HITS, np.float32)
        who, unused = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
        balls, sums = np.zeros(8, np.float32), np.zeros(3 * LANES, np.float32)
        count, _, height, width = images.shape
        passes = len(used)
        scale = ONE / (_FOCAL * as_single(width))
        mirrored[PATTERN:PACKET] = middle
        rays[PATTERN:PACKET] = patterns[0]
        for scene in range(count):
            lamp, thing, near = lamps[scene], objects[scene], spheres[scene]
            things = counts[scene]
            for y in range(0, height, side):
                for x in range(0, width, side):
                    left = as_single(x) - as_single(width) * HALF
                    top = as_single(height) * HALF - as_single(y)
                    for number in range(passes):
                        if passes > 1:
                            rays[PATTERN:PACKET] = patterns[number]
                        n = filled(used[number])
                        _set_camera_rays(rays, n, cameras, scene, left, top, scale, balls)
                        if _trace(rays, n, thing, things, near, lamp, balls):
                            shade(rays, n, thing, False, pixel, False, hits, who)
                            metals = shade(rays, n, thing, True, pixel, False, hits, who)
                            if metals:
                                m = filled(metals)
                                mirror(hits, m)
                                _set_mirrored_rays(rays, hits, who, m, mirrored)
                                enclose_origins(mirrored, m, balls, FOOT)
                                if _trace(mirrored, m, thing, things, near, lamp, balls):
                                    shade(mirrored, m, thing, False, ZERO, True, others, unused)
                                    shade(mirrored, m, thing, True, ZERO, True, others, unused)
                                for i in range(metals):
                                    r = who[i]
                                    k = int(rays[WHICH + r])
                                    seen = scaled(load(mirrored, RADIANCE, i), rays[WEIGHT + r])
                                    own = load(rays, RADIANCE, r)
                                    red = own[0] + thing[k, RED] * seen[0]
                                    green = own[1] + thing[k, GREEN] * seen[1]
                                    blue = own[2] + thing[k, BLUE] * seen[2]
                                    store(rays, RADIANCE, r, (red, green, blue))
                        per_pixel = used[number] // (side * side)
                        _add_to_pixels(rays, side * side, per_pixel, number, samples, sums)
                    _write_tile(sums, side, images[scene], y, x)

    @entry
    def find_in_tiles(
        cameras: Table,
        objects: Any,
        counts: NDArray[np.int64],
        spheres: Any,
        pattern: Any,
        side: int,
        masks: NDArray[np.int64],
    ) -> None:
        """Write the index of the object at the centre of every pixel, masks (S, H, W).

        The arguments are those of ``render_tiles``; ``pattern`` is of one sample a pixel.
        """
        if version < 0:
            return
        rays, balls = np.zeros(PACKET, np.float32), np.zeros(8, np.float32)
        count, height, width = masks.shape
        scale = ONE / (_FOCAL * as_single(width))
        rays[PATTERN:PACKET] = pattern
        for scene in range(count):
            thing, near = objects[scene], spheres[scene]
            for y in range(0, height, side):
                for x in range(0, width, side):
                    left = as_single(x) - as_single(width) * HALF
                    top = as_single(height) * HALF - as_single(y)
                    _set_camera_rays(rays, LANES, cameras, scene, left, top, scale, balls)
                    for r in range(LANES):
                        store(rays, REACH, r, scaled(load(rays, DIRECTION, r), SIGHT))
                    closest_hit(rays, LANES, thing, counts[scene], near, balls)
                    for r in range(LANES):
                        row, column = y + r // side, x + r % side
                        if row < height and column < width:
                            masks[scene, row, column] = int(rays[WHICH + r])

    return render_tiles, find_in_tiles


_FOLLOWED: Final = ("camera", "ground", "lights", "materials", "render", "shapes")
"""The modules whose constants the compiled code contains."""


def _version() -> int:
    """A number that changes with the source of this package or of the modules that it follows."""
    own = Path(__file__).parent
    files = [*sorted(own.glob("*.py")), *(own.parent / f"{name}.py" for name in _FOLLOWED)]
    content = b"".join(path.read_bytes() for path in files)
    return int.from_bytes(hashlib.sha256(content).digest()[:6], "big")


render_tiles, find_in_tiles = _entries(_version())
