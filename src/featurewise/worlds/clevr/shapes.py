"""The shapes of the CLEVR world and their intersections with rays.

Cube, sphere and cylinder are one family: a convex core and everything within a rounding distance of
it. In units of the object's radius, the core of the cube is a smaller cube, that of the cylinder a
smaller cylinder, that of the sphere a point. The distance to a convex set is a convex function of
the position on a ray, so Newton's method approaches the surface from outside and never crosses it.

Rays come in groups of R neighbours. Each group is tested against the bounding spheres of all
objects of its scene, and intersections are computed only for the pairs of group and object that may
intersect. Vectors are (3, G, R) for G groups, objects (S, K) for S scenes of up to K objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Final

import torch
from torch import Tensor

from featurewise.worlds.clevr.materials import ALBEDO
from featurewise.worlds.clevr.objects import Object
from featurewise.worlds.clevr.vocabulary import RADIUS

ROUNDING: Final = {"cube": 0.18, "sphere": 1.0, "cylinder": 0.1}
"""Distance from the core to the surface, in radii."""

SOLVE_STEPS: Final = 6
SHADOW_STEPS: Final = 3
TOLERANCE: Final = 4e-3


@dataclass(frozen=True, slots=True)
class Shapes:
    """The objects of several scenes as tensors, all of shape (S, K).

    Attributes:
        x: centre.
        y: centre.
        z: centre.
        cos: cosine of the turn about Z.
        sin: sine of the turn about Z.
        radius: half extent; zero marks padding.
        flat: half width of the core of a cube; zero for other shapes.
        core: radius of the core of a cylinder; zero for other shapes.
        rise: half height of the core.
        rounding: distance from core to surface.
        red: linear reflectance.
        green: linear reflectance.
        blue: linear reflectance.
        metal: one for metal, zero for rubber.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    cos: Tensor
    sin: Tensor
    radius: Tensor
    flat: Tensor
    core: Tensor
    rise: Tensor
    rounding: Tensor
    red: Tensor
    green: Tensor
    blue: Tensor
    metal: Tensor

    @classmethod
    def of(
        cls, scenes: Sequence[Sequence[Object]], device: torch.device, dtype: torch.dtype
    ) -> Shapes:
        """Tensors of the scenes' objects, padded to the number of objects of the largest scene."""
        width = max((len(objects) for objects in scenes), default=0)
        rows = [
            [*map(row_of, objects), *([PADDING] * (max(width, 1) - len(objects)))]
            for objects in scenes
        ]
        table = torch.tensor(rows, dtype=torch.float64)
        table = table.view(len(scenes), max(width, 1), len(PADDING))
        return cls(*table.permute(2, 0, 1).contiguous().to(device=device, dtype=dtype))

    @property
    def bound(self) -> Tensor:
        """Radius of the bounding sphere, in units of ``radius``."""
        wide = math.sqrt(2) * self.flat + self.core
        return (wide.square() + self.rise.square()).sqrt() + self.rounding

    def pick(self, scene: Tensor, index: Tensor) -> Shapes:
        """The fields (P, 1) of P objects, given their scene and their index in it, (P,) each."""
        return Shapes(*(getattr(self, f.name)[scene, index, None] for f in fields(self)))


PADDING: Final = [0.0] * len(fields(Shapes))
"""The fields of no object."""


def row_of(thing: Object) -> list[float]:
    """The fields of one object."""
    turn = math.cos(thing.rotation), math.sin(thing.rotation)
    kind = _kind(thing.shape, thing.size, thing.material, thing.color)
    return [*thing.position, *turn, *kind]


@cache
def _kind(shape: str, size: str, material: str, color: str) -> tuple[float, ...]:
    """The fields that objects of the same attributes share."""
    rounding = ROUNDING[shape]
    flat = 1 - rounding if shape == "cube" else 0.0
    core = 1 - rounding if shape == "cylinder" else 0.0
    metal = float(material == "metal")
    return RADIUS[size], flat, core, 1 - rounding, rounding, *ALBEDO[color], metal


def excess(x: Tensor, y: Tensor, z: Tensor, b: Shapes) -> tuple[Tensor, Tensor, Tensor]:
    """Vector from the nearest point of the core to a point, both in the object's own frame."""
    k = (1 - b.core / (x * x + y * y).sqrt().clamp_min(1e-9)).clamp_min(0)
    round_x, round_y = x * k, y * k
    cube = b.flat > 0
    flat_x, flat_y = x - x.clamp(-b.flat, b.flat), y - y.clamp(-b.flat, b.flat)
    ex, ey = torch.where(cube, flat_x, round_x), torch.where(cube, flat_y, round_y)
    return ex, ey, z - z.clamp(-b.rise, b.rise)


def intersect(origin: Tensor, direction: Tensor, b: Shapes, steps: int) -> Tensor:
    """Where rays first intersect their object.

    Args:
        origin: (3, P, R).
        direction: (3, P, R), of any length.
        b: fields that broadcast to (P, R).
        steps: Newton steps.

    Returns:
        Multiples of ``direction`` (P, R), infinite where the ray misses.
    """
    scale = 1 / b.radius
    cx, cy = origin[0] - b.x, origin[1] - b.y
    px, py = (b.cos * cx + b.sin * cy) * scale, (b.cos * cy - b.sin * cx) * scale
    qx = (b.cos * direction[0] + b.sin * direction[1]) * scale
    qy = (b.cos * direction[1] - b.sin * direction[0]) * scale
    pz, qz = (origin[2] - b.z) * scale, direction[2] * scale
    ax, bx = _slab(px, qx)
    ay, by = _slab(py, qy)
    az, bz = _slab(pz, qz)
    enter = torch.maximum(torch.maximum(ax, ay), az).clamp_min(0)
    leave = torch.minimum(torch.minimum(bx, by), bz)
    t, slope, gap = enter, torch.ones_like(enter), enter
    for _ in range(steps):
        ex, ey, ez = excess(px + t * qx, py + t * qy, pz + t * qz, b)
        length = (ex * ex + ey * ey + ez * ez).sqrt().clamp_min(1e-9)
        gap = length - b.rounding
        slope = -(ex * qx + ey * qy + ez * qz) / length
        t = t + gap.clamp_min(0) / slope.clamp_min(1e-3)
    hit = (enter < leave) & (slope > 0) & (gap < TOLERANCE)
    return torch.where(hit, t, torch.inf)


def _slab(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves the slab between -1 and 1."""
    inverse = 1 / torch.where(q.abs() < 1e-9, 1e-9, q)
    a, b = (-1 - p) * inverse, (1 - p) * inverse
    return torch.minimum(a, b), torch.maximum(a, b)


def _ball(points: Tensor) -> tuple[Tensor, Tensor]:
    """Center (3, G) and radius (G,) of a sphere around ``points`` (3, G, R)."""
    if points.shape[-1] == 1:
        return points[..., 0], torch.zeros_like(points[0, :, 0])
    low, high = points.amin(-1), points.amax(-1)
    return (low + high) / 2, ((high - low) / 2).square().sum(0).sqrt()


def candidates(
    origin: Tensor, reach: Tensor, scene: Tensor, shapes: Shapes
) -> tuple[Tensor, Tensor]:
    """Groups of rays and objects that may intersect.

    The rays of a group lie within the hull of a sphere around their origins and a sphere around
    their ends. An object is left out if its bounding sphere is outside that hull.

    Returns:
        Group and object of every candidate pair, (P,) each, ordered by group.
    """
    foot, foot_radius = _ball(origin)
    head, head_radius = _ball(origin + reach)
    axis = head - foot
    square = axis.square().sum(0).clamp_min(1e-12)
    center = torch.stack([shapes.x, shapes.y, shapes.z])[:, scene]
    size = (shapes.bound * shapes.radius)[scene]
    offset = center - foot[..., None]
    u = (offset * axis[..., None]).sum(0) / square[:, None]
    ends = u.clamp(0, 1)
    grow = head_radius - foot_radius
    narrow = (1 - grow.square() / square).clamp_min(0).sqrt()
    away = (offset - u * axis[..., None]).square().sum(0).sqrt()
    outside = away * narrow[:, None] - foot_radius[:, None] - u * grow[:, None]
    beyond = (offset - ends * axis[..., None]).square().sum(0).sqrt()
    beyond = beyond - torch.maximum(head_radius, foot_radius)[:, None]
    # Where one sphere contains the other, the hull is the larger sphere, and there is no cone.
    outside = outside.masked_fill((grow.square() >= square)[:, None], -torch.inf)
    near = (torch.maximum(outside, beyond) < size * 1.001 + 1e-4) & (size > 0)
    group, index = near.nonzero().unbind(1)
    if group.numel() == 1:  # a compiled solver would be compiled again for a single pair
        return group.expand(2), index.expand(2)
    return group, index


Solver = Callable[[Tensor, Tensor, Shapes, int], Tensor]


def closest_hit(
    origin: Tensor, reach: Tensor, scene: Tensor, shapes: Shapes, solve: Solver = intersect
) -> tuple[Tensor, Tensor]:
    """Where rays first intersect an object, and which.

    Args:
        origin: (3, G, R).
        reach: from the origin to the ray's end, (3, G, R).
        scene: row of ``shapes`` that belongs to each group, (G,).
        shapes: fields of shape (S, K).
        solve: :func:`intersect` or its compiled version.

    Returns:
        Fraction of ``reach`` (G, R), infinite for none, and index of the object, -1 for none.
    """
    nearest = torch.full_like(reach[0], torch.inf)
    which = torch.full_like(nearest, -1.0)
    group, index = candidates(origin, reach, scene, shapes)
    if group.numel():
        t = solve(origin[:, group], reach[:, group], shapes.pick(scene[group], index), SOLVE_STEPS)
        rows = group[:, None].expand_as(t)
        nearest.scatter_reduce_(0, rows, t, "amin")
        closest = (t == nearest[group]) & t.isfinite()
        hits = torch.where(closest, index[:, None].to(t.dtype), -1.0)
        which.scatter_reduce_(0, rows, hits, "amax")
    return nearest, which.long()


def occluded(
    origin: Tensor, reach: Tensor, scene: Tensor, shapes: Shapes, solve: Solver = intersect
) -> Tensor:
    """Whether an object lies between ``origin`` and ``origin + reach``, (G, R).

    The arguments are those of :func:`closest_hit`.
    """
    nearest = torch.full_like(reach[0], torch.inf)
    group, index = candidates(origin, reach, scene, shapes)
    if group.numel():
        picked = shapes.pick(scene[group], index)
        t = solve(origin[:, group], reach[:, group], picked, SHADOW_STEPS)
        nearest.scatter_reduce_(0, group[:, None].expand_as(t), t, "amin")
    return nearest < 1
