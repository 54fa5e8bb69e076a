"""Random scenes of the CLEVR world, and the camera of scenes read from files.

Source: Johnson et al. 2017, *CLEVR: A Diagnostic Dataset for Compositional Language and Elementary
Visual Reasoning*, section 3 and supplement. Lengths are in Blender units, Z points up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from featurewise.worlds.clevr.camera import JITTER, POSITION, Array, Camera, Vector
from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.lights import LAMP_JITTER, LAMPS
from featurewise.worlds.clevr.objects import DIRECTIONS, Object, Scene
from featurewise.worlds.clevr.render import visible_pixels
from featurewise.worlds.clevr.vocabulary import (
    COGENT_COLORS,
    COLORS,
    MATERIALS,
    RADIUS,
    SHAPES,
    SIZES,
)

__all__ = ["DIRECTIONS", "Object", "Scene", "sample_scene", "sample_scenes", "solve_camera"]

PLACEMENT_MARGIN: Final = 0.4
"""Least distance between two objects along the axis of each relation."""

CLEARANCE: Final = 0.25
"""Least gap between the surfaces of two objects."""

EXTENT: Final = 3.0
TRIES: Final = 50
MIN_PIXELS: Final = 200
DOUBT: Final = 2
"""Traced pixels by which the renderers may differ about an object."""


def sample_scene(
    rng: np.random.Generator,
    *,
    min_objects: int = 3,
    max_objects: int = 10,
    cogent: str | None = None,
    min_pixels: int = MIN_PIXELS,
    stride: int = 4,
) -> Scene:
    """Sample one scene; see :func:`sample_scenes` for the rules and arguments."""
    return _sample([rng], min_objects, max_objects, cogent, min_pixels, stride)[0]


def sample_scenes(
    count: int,
    *,
    seed: int,
    first: int = 0,
    min_objects: int = 3,
    max_objects: int = 10,
    cogent: str | None = None,
    min_pixels: int = MIN_PIXELS,
    stride: int = 4,
) -> list[Scene]:
    """Sample scenes. Scene i depends only on ``seed`` and ``first + i``.

    Args:
        count: number of scenes.
        seed: any non-negative integer.
        first: index of the first scene.
        min_objects: least number of objects in a scene.
        max_objects: greatest number of objects in a scene.
        cogent: condition of CLEVR-CoGenT, "A" or "B", which restricts colours by shape; None for
            all colours.
        min_pixels: least number of visible pixels of every object, in a 480 x 320 image.
        stride: visible pixels are counted in every ``stride``-th column and row.

    Raises:
        SceneError: if an argument is out of its range.
    """
    if count < 0 or seed < 0 or first < 0:
        raise SceneError(f"count, seed and first start at 0, got {count}, {seed} and {first}")
    rngs = [np.random.default_rng([seed, first + i]) for i in range(count)]
    return _sample(rngs, min_objects, max_objects, cogent, min_pixels, stride)


def _sample(
    rngs: Sequence[np.random.Generator],
    min_objects: int,
    max_objects: int,
    cogent: str | None,
    min_pixels: int,
    stride: int,
) -> list[Scene]:
    """Sample one scene from every generator; if it hides an object, place its objects again."""
    if not 1 <= min_objects <= max_objects <= 10:
        raise SceneError(
            "a scene has 1 to 10 objects, got "
            f"min_objects={min_objects} and max_objects={max_objects}"
        )
    if cogent is not None and cogent not in COGENT_COLORS:
        raise SceneError(f"cogent condition {cogent!r} is neither 'A' nor 'B'")
    scenes = [_empty_scene(rng) for rng in rngs]
    counts = [int(rng.integers(min_objects, max_objects + 1)) for rng in rngs]
    pending = list(range(len(scenes)))
    while pending:
        for i in pending:
            scenes[i] = replace(scenes[i], objects=_place(rngs[i], counts[i], cogent))
        pending = _hiding(scenes, pending, min_pixels, stride)
    return [_with_pixels(scene) for scene in scenes]


def _hiding(scenes: list[Scene], which: list[int], min_pixels: int, stride: int) -> list[int]:
    """Those of ``which`` whose scene has an object with too few visible pixels."""
    if min_pixels <= 0:
        return []
    visible = visible_pixels([scenes[i] for i in which], stride=stride)
    least = dict(zip(which, map(min, visible), strict=True))
    # Renderers may differ by a pixel at an edge. Scenes must not, so one of them decides.
    close = [i for i in which if abs(least[i] - min_pixels) <= DOUBT * stride**2]
    exact = visible_pixels([scenes[i] for i in close], stride=stride, renderer="torch")
    least.update(zip(close, map(min, exact), strict=True))
    return [i for i in which if least[i] < min_pixels]


def _empty_scene(rng: np.random.Generator) -> Scene:
    """An empty scene with jittered camera and lamps."""
    camera = _jittered(rng, POSITION, JITTER)
    lamps = tuple(_jittered(rng, lamp.position, LAMP_JITTER) for lamp in LAMPS)
    return Scene((), camera, lamps)


def _jittered(rng: np.random.Generator, base: Vector, width: float) -> Vector:
    x, y, z = (np.array(base) + rng.uniform(-width, width, 3)).tolist()
    return x, y, z


_RIGHT, _BEHIND = DIRECTIONS["right"], DIRECTIONS["behind"]


def _place(rng: np.random.Generator, count: int, cogent: str | None) -> tuple[Object, ...]:
    """Place ``count`` objects on the ground; start again if there is no room for one of them."""
    while True:
        objects: list[Object] = []
        while len(objects) < count:
            placed = _place_one(rng, objects, cogent)
            if placed is None:
                break
            objects.append(placed)
        else:
            return tuple(objects)


def _place_one(rng: np.random.Generator, others: list[Object], cogent: str | None) -> Object | None:
    """One more object that keeps its distance from ``others``, or None after 50 tries."""
    size = SIZES[rng.integers(len(SIZES))]
    radius = RADIUS[size]
    for x, y in rng.uniform(-EXTENT, EXTENT, (TRIES, 2)).tolist():
        if all(_apart(x, y, radius, other) for other in others):
            break
    else:
        return None
    shape = SHAPES[rng.integers(len(SHAPES))]
    palette = COLORS if cogent is None else COGENT_COLORS[cogent][shape]
    return Object(
        shape=shape,
        size=size,
        material=MATERIALS[rng.integers(len(MATERIALS))],
        color=palette[rng.integers(len(palette))],
        position=(x, y, radius),
        rotation=float(rng.uniform(0, 360)),
    )


def _apart(x: float, y: float, radius: float, other: Object) -> bool:
    """Whether two objects have enough clearance, and distance along the axis of each relation."""
    dx, dy = x - other.position[0], y - other.position[1]
    return (
        abs(complex(dx, dy)) - radius - other.radius >= CLEARANCE
        and abs(dx * _RIGHT[0] + dy * _RIGHT[1]) >= PLACEMENT_MARGIN
        and abs(dx * _BEHIND[0] + dy * _BEHIND[1]) >= PLACEMENT_MARGIN
    )


def _with_pixels(scene: Scene) -> Scene:
    """The scene with its objects' ``pixel`` filled in."""
    camera = Camera.at(POSITION if scene.camera is None else scene.camera)
    spots = camera.project(np.array([o.position for o in scene.objects]))
    objects = tuple(
        replace(o, pixel=(round(column), round(row), depth))
        for o, (column, row, depth) in zip(scene.objects, spots.tolist(), strict=True)
    )
    return replace(scene, objects=objects)


def solve_camera(scene: Scene) -> Vector:
    """Estimate the camera's position from the positions and pixel coordinates of the objects.

    The files of CLEVR store every object's position in the world and in the image, but not the
    jittered camera. Its three coordinates are fitted to the columns, rows and depths by damped
    least squares (Levenberg and Marquardt).

    Raises:
        SceneError: if no object records its pixel coordinates.
    """
    visible = [o for o in scene.objects if o.pixel is not None]
    if not visible:
        raise SceneError("the camera cannot be solved: no object has pixel coordinates")
    centers = np.array([o.position for o in visible])
    target = np.array([o.pixel for o in visible])
    # A column or row is known to half a pixel, a depth to single precision.
    weight = np.array([1.0, 1.0, 1e4])

    def residuals(position: Array) -> Array:
        return np.asarray(((Camera.at(position).project(centers) - target) * weight).ravel())

    position, damping, steps = np.array(POSITION), 1.0, 1e-5 * np.eye(3)
    error = residuals(position)
    for _ in range(60):
        columns = [(residuals(position + h) - residuals(position - h)) / 2e-5 for h in steps]
        jacobian = np.stack(columns, axis=1)
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.diag(normal.diagonal()), jacobian.T @ error)
        candidate = residuals(position - step)
        if candidate @ candidate < error @ error:
            position, error, damping = position - step, candidate, damping / 10
        else:
            damping *= 10
        if np.abs(step).max() < 1e-10:
            break
    x, y, z = position.tolist()
    return x, y, z
