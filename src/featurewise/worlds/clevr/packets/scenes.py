"""Scenes as arrays, and calls of the compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from featurewise.worlds.clevr.camera import FOCAL, POSITION, WIDTH, Camera, Vector
from featurewise.worlds.clevr.lights import LAMPS
from featurewise.worlds.clevr.objects import Scene
from featurewise.worlds.clevr.packets.rows import (
    CORE,
    FLAT,
    LANES,
    RADIUS,
    RISE,
    ROUNDING,
    SPHERES,
    X,
)
from featurewise.worlds.clevr.packets.tiles import find_in_tiles, render_tiles
from featurewise.worlds.clevr.render import COLORS, facets, illuminate, light_points
from featurewise.worlds.clevr.shapes import PADDING, row_of

Array = NDArray[np.float32]
_TILES: Final = {1: 8, 4: 4, 9: 2, 16: 2}
"""Samples of a pixel -> pixels along the edge of a tile, so that a tile's rays fill a packet."""


def render_images(
    scenes: Sequence[Scene], *, width: int, height: int, samples: int
) -> NDArray[np.uint8]:
    """Images (S, 3, H, W) of scenes; the arguments are those of ``render``."""
    images = np.empty((len(scenes), 3, height, width), np.uint8)
    if scenes:
        batch, passes = _Batch.of(scenes), _passes(samples)
        side = math.isqrt(samples)
        pixel = np.float32(1 / (FOCAL * max(WIDTH, width * side)))
        render_tiles(
            batch.cameras,
            batch.lamps,
            batch.objects,
            batch.counts,
            batch.spheres,
            passes.patterns,
            passes.used,
            passes.middle,
            passes.side,
            samples,
            pixel,
            images,
        )
    return images


def find_objects(scenes: Sequence[Scene], *, width: int, height: int) -> NDArray[np.int64]:
    """Index of the object at the centre of every pixel (S, H, W), as ``Rendering.masks``."""
    masks = np.empty((len(scenes), height, width), np.int64)
    if scenes:
        batch, passes = _Batch.of(scenes), _passes(1)
        pattern = passes.patterns[0]
        arrays = batch.cameras, batch.objects, batch.counts, batch.spheres
        find_in_tiles(*arrays, pattern, passes.side, masks)
    return masks


@dataclass(frozen=True, slots=True)
class _Batch:
    """S scenes as arrays; see ``render_tiles``.

    Attributes:
        cameras: (S, 4, 3).
        lamps: (S, 3, 3).
        objects: (S, K, 14).
        counts: (S,).
        spheres: (S, blocks * SPHERE_BLOCK).
    """

    cameras: Array
    lamps: Array
    objects: Array
    counts: NDArray[np.int64]
    spheres: Array

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> _Batch:
        """The arrays of ``scenes``."""
        base = tuple(lamp.position for lamp in LAMPS)
        cameras = _axes([POSITION if s.camera is None else s.camera for s in scenes])
        lamps = np.array([base if s.lamps is None else s.lamps for s in scenes], np.float32)
        counts = np.array([len(s.objects) for s in scenes], np.int64)
        size = max(1, -(-int(counts.max()) // SPHERES)) * SPHERES
        objects = np.zeros((len(scenes), size, len(PADDING)), np.float32)
        scene, slot = np.nonzero(np.arange(size) < counts[:, None])
        if len(scene):
            objects[scene, slot] = [row_of(thing) for s in scenes for thing in s.objects]
        return cls(cameras, lamps, objects, counts, _spheres(objects))


def _axes(positions: Sequence[Vector]) -> Array:
    """Position, right, up and forward of the cameras at S positions, (S, 4, 3); see ``Camera``.

    Raises:
        ValueError: as ``Camera.at``.
    """
    position = np.array(positions, np.float64)
    flat = np.hypot(position[:, 0], position[:, 1])
    for one in np.flatnonzero(~(np.isfinite(position).all(1) & (flat > 1e-6))):
        Camera.at(position[one])  # raises the error
    forward = -position / np.sqrt((position**2).sum(1, keepdims=True))
    right = np.zeros_like(forward)
    right[:, 0], right[:, 1] = -position[:, 1] / flat, position[:, 0] / flat
    up = np.cross(right, forward)
    return np.stack([position, right, up, forward], 1).astype(np.float32)


def _spheres(objects: Array) -> Array:
    """The bounding spheres of objects (S, K, 14), in blocks; see :mod:`.rows`."""
    radius = objects[..., RADIUS]
    wide = math.sqrt(2) * objects[..., FLAT] + objects[..., CORE]
    bound = np.sqrt(wide**2 + objects[..., RISE] ** 2) + objects[..., ROUNDING]
    reach = np.where(radius > 0, bound * radius * 1.001 + 1e-4, -1)
    columns = [
        objects[..., X],
        objects[..., X + 1],
        objects[..., X + 2],
        reach,
        np.zeros_like(reach),
    ]
    blocks = np.stack(columns, 1).reshape(len(objects), 5, -1, SPHERES).swapaxes(1, 2)
    return np.ascontiguousarray(blocks.reshape(len(objects), -1), np.float32)


@dataclass(frozen=True, slots=True)
class _Passes:
    """How the rays of a tile are distributed over packets.

    Attributes:
        patterns: the rows that are the same for every tile, (passes, PATTERN_ROWS * LANES).
        used: rays of each pass, (passes,).
        middle: the rows of mirrored rays, (PATTERN_ROWS * LANES,).
        side: pixels along the edge of a tile.
    """

    patterns: Array
    used: NDArray[np.int64]
    middle: Array
    side: int


@lru_cache(maxsize=16)
def _passes(samples: int) -> _Passes:
    """The passes for a number of samples per pixel."""
    side, root = _TILES.get(samples, 1), math.isqrt(samples)
    total = samples * side * side
    lane = np.arange(-(-total // LANES) * LANES)
    lane[total:] = 0
    pixel, sample = lane // samples, lane % samples
    cell = np.stack([sample % root, sample // root])
    spot = np.stack([pixel % side, pixel // side]) + (cell + 0.5) / root
    uv = light_points(root, torch.device("cpu"))[..., torch.from_numpy(sample)]
    slope, weight = (each.numpy() for each in facets(samples, torch.device("cpu")))
    rows = np.concatenate([spot, _light_rows(uv), slope[:, sample], weight[None, sample]]).astype(
        np.float32
    )
    patterns = rows.reshape(len(rows), -1, LANES).swapaxes(0, 1).reshape(-1, len(rows) * LANES)
    used = np.minimum(LANES, total - np.arange(0, total, LANES))
    center = torch.full((2, len(COLORS), LANES), 0.5)
    middle = np.zeros((len(rows), LANES), np.float32)
    middle[2:-3] = _light_rows(center)
    return _Passes(np.ascontiguousarray(patterns), used, middle.ravel(), side)


def _light_rows(uv: torch.Tensor) -> Array:
    """Points on the lamps (2, L, R) as the rows ``LAMP_U`` and ``TO_SUN``."""
    spots = uv[:, :-1].transpose(0, 1).flatten(0, 1)
    nowhere = torch.zeros(3, 1, uv.shape[-1])
    toward, _ = illuminate(nowhere, torch.ones(3, len(LAMPS), 1, 1), uv[:, :, None])
    rows: Array = torch.cat([spots, toward[:, -1, 0]]).numpy()
    return rows
