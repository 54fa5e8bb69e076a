"""Images of CLEVR scenes by ray casting.

There are two renderers of the same formulas: this module, in torch, on any device, and
:mod:`.packets`, in numba, about ten times as fast on a processor.

Every sample of a pixel is one path: from the camera to the first surface, from there to one point
of every lamp and of the sun's disc and, from metal, once more along a mirrored direction. Light
after more than one diffuse bounce follows closed forms that were fitted to a path tracer. Samples
form a regular grid within the pixel and on the lamps; nothing is random.

Images are divided into square tiles. Dimensions of tensors: 3 coordinates or colours, L lights, G
groups of rays (tiles, or single rays after a mirror), R rays of a group, M rays that hit an object.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from featurewise.worlds.clevr import ground, materials, shapes
from featurewise.worlds.clevr.camera import FOCAL, HEIGHT, POSITION, WIDTH, Camera
from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.lights import LAMPS, SUN_DIRECTION, SUN_IRRADIANCE, SUN_RADIUS
from featurewise.worlds.clevr.materials import GROUND_ALBEDO, dot, unit
from featurewise.worlds.clevr.objects import Scene
from featurewise.worlds.clevr.shapes import Shapes

Renderer = Literal["numba", "torch"]
RENDERERS: Final[tuple[str, ...]] = get_args(Renderer)

OFFSET: Final = 2e-3
CHUNK: Final = 1 << 14
TILE: Final = 4
FAR: Final = 60.0
BOUNCE: Final = (0.0122, 0.00123)
"""Radiance of the ground after several bounces: at the origin, and its slope along the sweep."""

AMBIENT: Final = 0.8
"""Fraction of the ground's light that reaches objects in spite of shadows around them."""

OWN_SHADOW: Final = 0.8
"""Fraction of a lamp's light that an object blocks from the ground behind it."""

HIDDEN: Final = 0.12
"""Fraction of the rough lobe of metal that is lost to masking between its facets."""

SUN_REACH: Final = 2.0
"""Length of shadow rays toward the sun; they end above every object."""

COLORS: Final = (*(lamp.radiance for lamp in LAMPS), (SUN_IRRADIANCE,) * 3)
"""Radiance of the lamps and irradiance by the sun."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """Images of a batch of scenes.

    Attributes:
        images: 8-bit sRGB, (B, 3, H, W).
        masks: index of the object that is visible at the pixel's centre (B, H, W); -1 is the
            ground. Empty if none were requested (0, H, W).
    """

    images: UInt8[Tensor, "B 3 H W"]
    masks: Int[Tensor, "M H W"]


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """S scenes as tensors.

    Attributes:
        cameras: (3, 4, S); the four vectors of a camera are its position, right, up and forward.
        lamps: (3, L - 1, S), positions of the lamps, the sun excluded.
        shapes: (S, K), objects of each scene.
    """

    cameras: Tensor
    lamps: Tensor
    shapes: Shapes

    @classmethod
    def of(cls, scenes: Sequence[Scene], device: torch.device, dtype: torch.dtype) -> SceneBatch:
        """The tensors of ``scenes``."""
        cameras = [Camera.at(POSITION if s.camera is None else s.camera) for s in scenes]
        base = tuple(lamp.position for lamp in LAMPS)

        def vectors(rows: list[list[list[float]]], count: int) -> Tensor:
            table = torch.tensor(rows, dtype=torch.float64).view(len(scenes), count, 3)
            return table.permute(2, 1, 0).to(device, dtype)

        axes = [[a.tolist() for a in (c.position, c.right, c.up, c.forward)] for c in cameras]
        lamps = [[list(p) for p in (base if s.lamps is None else s.lamps)] for s in scenes]
        objects = Shapes.of([s.objects for s in scenes], device, dtype)
        return cls(vectors(axes, 4), vectors(lamps, len(LAMPS)), objects)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions that may be compiled; all are elementwise over rays.

    Attributes:
        intersect: distances at which rays hit objects.
        camera_rays: origins and directions of rays through pixels.
        illuminate: light that arrives at points from samples of a lamp.
        ground_radiance: light that the ground sends along rays.
        shade: light that surfaces send along rays.
    """

    intersect: Callable[..., Tensor]
    camera_rays: Callable[..., tuple[Tensor, Tensor, Tensor]]
    illuminate: Callable[..., tuple[Tensor, Tensor]]
    ground_radiance: Callable[..., Tensor]
    shade: Callable[..., Tensor]


@functools.cache
def _kernels(compiled: bool) -> Kernels:
    functions: tuple[Callable[..., Any], ...] = (
        shapes.intersect,
        _camera_rays,
        illuminate,
        _ground_radiance,
        _shade,
    )
    if compiled:
        return Kernels(*(torch.compile(f, dynamic=True) for f in functions))
    return Kernels(*functions)


def render(
    scenes: Sequence[Scene],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    samples: int = 4,
    device: torch.device | str = "cpu",
    compiled: bool = False,
    renderer: Renderer | None = None,
    with_masks: bool = True,
) -> Rendering:
    """Render scenes.

    Args:
        scenes: what to render; may be empty.
        width: image width in pixels; the horizontal field of view is always the same.
        height: image height in pixels.
        samples: paths per pixel, a square number. 1 gives hard shadows and jagged edges, 4 is
            enough for training, 16 is close to the published images at a quarter of their size.
        device: device of the computation.
        compiled: compile the computation of the torch renderer. Images may then differ by a few
            grey levels at edges, so all images of a data set should use the same value.
        renderer: "torch" or "numba". Their images differ by at most one grey level, but for the
            few rays whose hit is decided by rounding; so all images of a data set should use the
            same one. Default: as :func:`default_renderer`.
        with_masks: also find the object at each pixel; otherwise ``masks`` is empty, (0, H, W).

    Raises:
        SceneError: if a size is not positive, ``samples`` is not a square number, or the renderer
            is not installed or cannot do what is requested.
    """
    side = math.isqrt(max(samples, 0))
    if width < 1 or height < 1:
        raise SceneError(f"width and height must be at least 1 pixel, got {width} x {height}")
    if samples < 1 or side * side != samples:
        raise SceneError(f"samples must be a square number such as 1, 4, 9, 16; got {samples}")
    target = torch.device(device)
    if renderer is None:
        renderer = default_renderer(target, compiled)
    require_renderer(renderer, target, compiled)
    if renderer == "numba":
        return _render_by_numba(scenes, width, height, samples, with_masks)
    kernels = _kernels(compiled)
    with torch.inference_mode():
        batch = SceneBatch.of(scenes, target, torch.float32)
        frame = _Frame.of(width, height, side, target)
        total = len(scenes) * frame.tiles
        images = torch.empty(total, 3, TILE, TILE, dtype=torch.uint8, device=target)
        masks = torch.empty(total, TILE, TILE, dtype=torch.int64, device=target)
        step = max(1, CHUNK // (TILE * TILE * samples))
        for begin in range(0, total, step):
            index = torch.arange(begin, min(begin + step, total), device=target)
            images[index], masks[index] = _tiles(batch, frame, index, kernels)
        shown = masks if with_masks else masks[:0]
        return Rendering(frame.assemble(images), frame.assemble(shown))


def default_renderer(device: torch.device | str = "cpu", compiled: bool = False) -> Renderer:
    """The renderer in numba where it is installed, on a processor; otherwise the one in torch.

    Args:
        device: device of the computation.
        compiled: whether torch compiles it.
    """
    fits = torch.device(device).type == "cpu" and not compiled
    return "numba" if fits and find_spec("numba") is not None else "torch"


def require_renderer(
    renderer: str, device: torch.device | str = "cpu", compiled: bool = False
) -> None:
    """Raise an error unless the renderer is known, installed, and can do what is requested.

    Args:
        renderer: its name.
        device: device of the computation.
        compiled: whether torch compiles it.

    Raises:
        SceneError: if it is not.
    """
    if renderer not in RENDERERS:
        raise SceneError(f"renderer must be one of {', '.join(RENDERERS)}, got {renderer!r}")
    if renderer == "numba":
        if compiled or torch.device(device).type != "cpu":
            raise SceneError(
                "the renderer 'numba' runs on a processor and is compiled by itself; use 'torch' "
                f"for compiled={compiled} and device {str(device)!r}"
            )
        if find_spec("numba") is None:
            raise SceneError(
                "the renderer 'numba' is not installed: pip install 'featurewise[fast]', or use "
                "the renderer 'torch'"
            )


def _render_by_numba(
    scenes: Sequence[Scene], width: int, height: int, samples: int, with_masks: bool
) -> Rendering:
    from featurewise.worlds.clevr import packets

    images = packets.render_images(scenes, width=width, height=height, samples=samples)
    shown = scenes if with_masks else ()
    masks = packets.find_objects(shown, width=width, height=height)
    return Rendering(torch.from_numpy(images), torch.from_numpy(masks))


@dataclass(frozen=True, slots=True)
class _Frame:
    """The tiles of an image and their samples.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        side: samples along a pixel's edge.
        across: tiles in a row.
        tiles: tiles in the image.
        spot: positions of the samples in the image (2, tiles, R).
        center: positions of the pixels' centres (2, tiles, T T).
        light_uv: for each light and sample a point of the unit square (2, L, R).
    """

    width: int
    height: int
    side: int
    across: int
    tiles: int
    spot: Tensor
    center: Tensor
    light_uv: Tensor

    @classmethod
    def of(cls, width: int, height: int, side: int, device: torch.device) -> _Frame:
        """The tiles of an image with ``side`` squared samples per pixel."""
        across, down = -(-width // TILE), -(-height // TILE)
        tile = torch.arange(across * down, device=device)
        corner = torch.stack([tile % across, tile // across]) * TILE
        inside = torch.arange(TILE * TILE, device=device)
        pixel = corner[..., None] + torch.stack([inside % TILE, inside // TILE])[:, None]
        index = torch.arange(side * side, device=device)
        sub = (torch.stack([index % side, index // side]) + 0.5) / side
        spot = (pixel[..., None] + sub[:, None, None]).flatten(2)
        light_uv = light_points(side, device).repeat(1, 1, TILE * TILE)
        return cls(width, height, side, across, tile.numel(), spot, pixel + 0.5, light_uv)

    def assemble(self, tiles: Tensor) -> Tensor:
        """Images (B, ..., H, W) from tiles (B tiles, ..., T, T)."""
        down = self.tiles // self.across
        image = tiles.view(-1, down, self.across, *tiles.shape[1:])
        image = image.movedim(1, -3).movedim(1, -2)
        image = image.flatten(-4, -3).flatten(-2)
        return image[..., : self.height, : self.width].contiguous()


def light_points(side: int, device: torch.device) -> Tensor:
    """For each light and each sample of a pixel, a point of the unit square, (2, L, N).

    The points are the cell centres of a ``side`` x ``side`` grid, in an order that is uncorrelated
    with the order of the samples within the pixel. They are the same in every pixel, so penumbrae
    are smooth.
    """
    index = torch.arange(side * side, device=device)
    key = (index + 1).square() * 0.618033988749895
    orders = [(key * (light + 1) % 1).argsort() for light in range(len(COLORS))]
    cell = torch.stack(orders)
    return (torch.stack([cell % side, cell // side]) + 0.5) / side


def _tiles(
    batch: SceneBatch, frame: _Frame, index: Tensor, kernels: Kernels
) -> tuple[Tensor, Tensor]:
    """Images (G, 3, T, T) and masks (G, T, T) of the tiles ``index`` of all images."""
    scene, tile = index // frame.tiles, index % frame.tiles
    camera = batch.cameras[:, :, scene, None]
    spot, center = frame.spot[:, tile], frame.center[:, tile]
    sight = kernels.camera_rays(camera, spot, frame.width, frame.height)
    pixel = 1 / (FOCAL * max(WIDTH, frame.width * frame.side))
    radiance = _radiance(
        batch, scene, sight, frame.light_uv[:, :, None], pixel, frame.side**2, kernels
    )
    # Highlights are clipped before averaging, as when a larger image is scaled down.
    shape = (3, len(index), TILE, TILE, frame.side**2)
    mean = radiance.clamp_max(1).view(shape).mean(-1)
    origin, direction, _ = kernels.camera_rays(camera, center, frame.width, frame.height)
    _, which = shapes.closest_hit(origin, FAR * direction, scene, batch.shapes, kernels.intersect)
    image = (display(mean) * 255).round().to(torch.uint8).transpose(0, 1)
    return image, which.view(len(index), TILE, TILE)


def display(radiance: Tensor) -> Tensor:
    """The sRGB transfer curve of linear values, clipped to 0..1."""
    x = radiance.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


def _camera_rays(
    camera: Tensor, spot: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Camera rays through points of the image.

    Args:
        camera: position, right, up, forward (3, 4, G, 1).
        spot: columns and rows (2, G, R).
        width: image width in pixels.
        height: image height in pixels.

    Returns:
        Origin and unit direction (3, G, R), and distance to the ground (G, R).
    """
    x = (spot[0] - width / 2) / (FOCAL * width)
    y = (height / 2 - spot[1]) / (FOCAL * width)
    direction = unit(camera[:, 3] + x * camera[:, 1] + y * camera[:, 2])
    origin = camera[:, 0].expand_as(direction)
    return origin, direction, ground.intersect(origin, direction)


def illuminate(point: Tensor, lamps: Tensor, light_uv: Tensor) -> tuple[Tensor, Tensor]:
    """Light of the three lamps and the sun, without shadows.

    Args:
        point: (3, G, R).
        lamps: (3, L - 1, G, 1).
        light_uv: points on the lamps, in their own coordinates (2, L, 1, R).

    Returns:
        The vector to each light (3, L, G, R) and the irradiance of a surface perpendicular to it
        (L, G, R), in units of the lamp's radiance or of the sun's irradiance.
    """
    reach, strength = [], []
    for i, lamp in enumerate(LAMPS):
        center = lamps[:, i]
        aim = -unit(center)
        across, upward = _across(aim)
        u, v = lamp.side * (light_uv[:, i] - 0.5)
        way = center + u * across + v * upward - point
        square = dot(way, way)
        facing = (-dot(way, aim)).clamp_min(0) * square.rsqrt()
        reach.append(way)
        strength.append(lamp.side**2 * facing / square)
    sun = unit(torch.tensor(SUN_DIRECTION, dtype=point.dtype, device=point.device))[:, None, None]
    across, upward = _across(sun)
    x, y = _disc(light_uv[:, -1])
    way = SUN_REACH * unit(sun + SUN_RADIUS * (x * across + y * upward))
    sunlit = torch.ones_like(point[0])
    return torch.stack([*reach, way.expand_as(point)], 1), torch.stack([*strength, sunlit])


def _across(axis: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors perpendicular to ``axis`` and each other, the first of them horizontal."""
    level = unit(torch.stack([-axis[1], axis[0], torch.zeros_like(axis[0])]))
    return level, torch.linalg.cross(level, axis, dim=0)


def _disc(square: Tensor) -> tuple[Tensor, Tensor]:
    """The concentric, area-preserving map from unit square to disc (Shirley and Chiu 1997)."""
    a, b = 2 * square - 1
    wide = a.abs() > b.abs()
    radius = torch.where(wide, a, b)
    ratio = torch.where(wide, b, a) / torch.where(radius == 0, 1.0, radius)
    long, short = radius * (math.pi / 4 * ratio).cos(), radius * (math.pi / 4 * ratio).sin()
    return torch.where(wide, long, short), torch.where(wide, short, long)


def _colors(like: Tensor) -> Tensor:
    """The units of light of ``illuminate``, (3, L)."""
    return torch.tensor(COLORS, dtype=like.dtype, device=like.device).T


def _ground_radiance(point: Tensor, normal: Tensor, reach: Tensor, strength: Tensor) -> Tensor:
    """Radiance (3, G, R) of the ground at ``point`` (3, G, R).

    ``reach`` and ``strength`` are those of :func:`illuminate`, the latter zero in shadow.
    """
    cosine = dot(reach, normal[:, None]) * dot(reach, reach).rsqrt()
    received = strength * cosine.clamp_min(0)
    bounce = (BOUNCE[0] + BOUNCE[1] * ground.along(point)).clamp_min(0)
    color = _colors(point) * (GROUND_ALBEDO / math.pi)
    return torch.stack([sum((c[i] * received[i] for i in range(4)), bounce) for c in color])


def _radiance(
    batch: SceneBatch,
    scene: Tensor,
    sight: tuple[Tensor, Tensor, Tensor],
    light_uv: Tensor,
    pixel: float,
    samples: int,
    kernels: Kernels,
) -> Tensor:
    """Radiance (3, G, R) along the rays ``sight``, which are as from :func:`_camera_rays`.

    ``pixel`` is the angle between samples in radians. It is zero for mirrored rays, which are not
    mirrored again.
    """
    origin, direction, floor = sight
    span = floor.clamp_max(FAR)
    t, which = shapes.closest_hit(origin, span * direction, scene, batch.shapes, kernels.intersect)
    distance = span * t.clamp_max(1)
    point = origin + distance * direction
    normal = ground.normal(point)
    group, ray = (which >= 0).nonzero().unbind(1)
    surface = _surface(batch, scene[group], point[:, group, ray], which[group, ray])
    normal[:, group, ray] = surface.normal
    reach, strength = kernels.illuminate(point, batch.lamps[:, :, scene, None], light_uv)
    start = (point + OFFSET * normal)[:, None].expand_as(reach).flatten(1, 2)
    lights = reach.shape[1]
    lit = ~shapes.occluded(
        start, reach.flatten(1, 2), scene.repeat(lights), batch.shapes, kernels.intersect
    ).view_as(strength)
    radiance = kernels.ground_radiance(point, normal, reach, strength * lit)
    radiance = radiance.masked_fill(floor.isinf(), 0)
    if group.numel() == 0:
        return radiance
    toward, received = reach[:, :, group, ray], strength[:, group, ray]
    unshaded = lit[:, group, ray]
    view = -direction[:, group, ray]
    footprint = distance[group, ray] * pixel
    outgoing = kernels.shade(surface, view, footprint, toward, received, unshaded, pixel == 0)
    if pixel > 0:
        rows = (surface.metal > 0).nonzero()[:, 0]
        slope, weight = facets(samples, view.device)
        shiny, path = surface.at(rows), ray[rows] % samples
        reflected = _mirrored(batch, scene[group[rows]], shiny, slope[:, path], view[:, rows])
        outgoing[:, rows] += shiny.color * weight[path] * reflected
    radiance[:, group, ray] = outgoing
    return radiance


def facets(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The facet of metal that each of a pixel's ``count`` paths hits.

    A fraction of the paths samples the rough lobe; the others sample the smooth lobe, which is
    treated as a perfect mirror. A single path samples the mirror. The choice is the same in every
    pixel, so blurred reflections have no noise.

    Returns:
        Slopes of the facet along and across the tangent (2, count) and the path's weight (count,).
    """
    rough_count = round(materials.ROUGH_SHARE * count)
    slope, weight = torch.zeros(2, count), torch.full((count,), 1 - HIDDEN)
    if rough_count:
        # 7 is coprime to the usual counts and distributes the rough paths over the pixel.
        chosen = (torch.arange(count) * 7) % count < rough_count
        rank = torch.arange(rough_count) + 0.5
        # GGX slopes by inverse transform sampling, without the steepest, nearly masked facets.
        u, turn = (1 - HIDDEN) * rank / rough_count, 2 * math.pi * 0.618034 * rank
        steep = materials.ROUGH * (u / (1 - u)).sqrt()
        squeeze = 1 - materials.ANISOTROPY
        slope[:, chosen] = torch.stack([squeeze * steep * turn.cos(), steep / squeeze * turn.sin()])
        weight[chosen] = (1 - HIDDEN) * materials.ROUGH_SHARE * count / rough_count
        weight[~chosen] = (1 - materials.ROUGH_SHARE) * count / (count - rough_count)
    return slope.to(device), weight.to(device)


def _mirrored(
    batch: SceneBatch, scene: Tensor, surface: Surface, slope: Tensor, view: Tensor
) -> Tensor:
    """Radiance (3, M) that arrives at metal along the mirror direction of ``view``."""
    if scene.numel() == 0:
        return torch.zeros_like(view)
    s = surface
    bitangent = torch.linalg.cross(s.normal, s.tangent, dim=0)
    facet = unit(s.normal + slope[0] * s.tangent + slope[1] * bitangent)
    direction = 2 * dot(facet, view) * facet - view
    # A path that a facet would reflect into the object continues along the surface instead.
    direction = unit(direction - dot(direction, s.normal).clamp_max(0) * s.normal)[..., None]
    origin = (s.point + OFFSET * s.normal)[..., None]
    sight = origin, direction, ground.intersect(origin, direction)
    middle = torch.full((2, len(COLORS), 1, 1), 0.5, device=view.device)
    return _radiance(batch, scene, sight, middle, 0.0, 1, _kernels(False))[..., 0]


@dataclass(frozen=True, slots=True)
class Surface:
    """The surface at M ray hits.

    Attributes:
        point: position of the hit, (3, M).
        normal: unit normal, (3, M).
        tangent: unit tangent, (3, M).
        color: reflectance of red, green and blue, (3, M).
        metal: whether it is metal, (M,).
        curvature: the curvature that widens a highlight, (M,), in 1 / Blender units.
    """

    point: Tensor
    normal: Tensor
    tangent: Tensor
    color: Tensor
    metal: Tensor
    curvature: Tensor

    def at(self, rows: Tensor) -> Surface:
        """The surface at a subset of the rays."""
        return Surface(*(getattr(self, name)[..., rows] for name in Surface.__slots__))


def _surface(batch: SceneBatch, scene: Tensor, point: Tensor, which: Tensor) -> Surface:
    """The surface of objects ``which`` (M,) at ``point`` (3, M)."""
    own = Shapes(*(getattr(batch.shapes, name)[scene, which] for name in Shapes.__slots__))
    cx, cy = (point[0] - own.x) / own.radius, (point[1] - own.y) / own.radius
    cz = (point[2] - own.z) / own.radius
    px, py = own.cos * cx + own.sin * cy, own.cos * cy - own.sin * cx
    ex, ey, ez = shapes.excess(px, py, cz, own)
    normal = unit(torch.stack([own.cos * ex - own.sin * ey, own.sin * ex + own.cos * ey, ez]))
    around = torch.stack([-cy, cx, torch.zeros_like(cx)])
    tangent = unit(around - dot(around, normal) * normal)
    flat_side = (ez == 0) & (own.core > 0)
    facets = (ex != 0).int() + (ey != 0).int() + (ez != 0).int()
    plain = torch.where(own.flat > 0, facets == 1, (ex == 0) & (ey == 0))
    curvature = torch.where(flat_side, 1.0, torch.where(plain, 0.0, 1 / own.rounding)) / own.radius
    color = torch.stack([own.red, own.green, own.blue])
    return Surface(point, normal, tangent, color, own.metal, curvature)


def _floor(surface: Surface, reach: Tensor, strength: Tensor) -> Tensor:
    """Radiance (3, M) of the ground around the base of objects, on the side of the surface.

    Behind an object, as reflected from a lamp, the ground is in the object's own shadow.
    """
    total = torch.full_like(surface.point, BOUNCE[0])
    for i, color in enumerate(_colors(reach).T * (GROUND_ALBEDO / math.pi)):
        toward = unit(reach[:, i])
        level = surface.normal[0] * toward[0] + surface.normal[1] * toward[1]
        fraction = toward[2].clamp_min(0) * (1 - OWN_SHADOW * (-level).clamp_min(0))
        total = total + color[:, None] * (strength[i] * fraction)
    return AMBIENT * total


def _shade(
    surface: Surface,
    view: Tensor,
    footprint: Tensor,
    reach: Tensor,
    strength: Tensor,
    lit: Tensor,
    last: bool,
) -> Tensor:
    """Radiance (3, M) of objects along ``view``, without mirror reflections of metal.

    Where the mirrored path is not traced (``last``), metal reflects a ground without objects.
    """
    s = surface
    total = torch.zeros_like(s.point)
    shiny = s.metal > 0
    colors = _colors(view).T
    for i in range(len(COLORS)):
        square = dot(reach[:, i], reach[:, i])
        toward = reach[:, i] * square.rsqrt()
        size = LAMPS[i].side ** 2 / (16 * square) if i < len(LAMPS) else SUN_RADIUS**2 / 4
        blur = size + (footprint * s.curvature).square() / 4
        matte = materials.rubber(s.color, s.normal, view, toward)
        gloss = materials.metal(s.color, s.normal, s.tangent, view, toward, blur)
        total = total + torch.where(shiny, gloss, matte) * (
            colors[i][:, None] * (strength[i] * lit[i])
        )
    floor = _floor(s, reach, strength)
    below = (1 - s.normal[2]) / 2
    cos_v = dot(s.normal, view).clamp(0, 1)
    mirrored = 2 * cos_v * s.normal[2] - view[2]
    gleam = (0.5 - mirrored / 0.7).clamp(0, 1) * floor
    coat = materials.fresnel(cos_v, 1.25)
    soft = (1 - coat) * s.color * (below * floor) + coat * materials.COAT * gleam
    return total + torch.where(shiny, s.color * gleam * last, soft)


def visible_pixels(
    scenes: Sequence[Scene], *, stride: int = 4, renderer: Renderer | None = None
) -> list[list[int]]:
    """Number of visible pixels of every object of every scene, in a 480 x 320 image.

    Args:
        scenes: the scenes.
        stride: one pixel in every ``stride`` x ``stride`` is traced and counts for all of them.
        renderer: as in :func:`render`.

    Raises:
        SceneError: if ``stride`` does not divide 480 and 320.
    """
    if stride < 1 or WIDTH % stride or HEIGHT % stride:
        raise SceneError(f"stride must divide {WIDTH} and {HEIGHT}, got {stride}")
    width, height = WIDTH // stride, HEIGHT // stride
    if (renderer or default_renderer()) == "numba":
        from featurewise.worlds.clevr import packets

        masks = packets.find_objects(scenes, width=width, height=height)
        which = torch.from_numpy(masks).flatten(1)
    else:
        which = _objects_at_centers(scenes, width, height)
    return [
        (torch.bincount(w + 1, minlength=len(s.objects) + 1)[1:] * stride**2).tolist()
        for s, w in zip(scenes, which, strict=True)
    ]


def _objects_at_centers(scenes: Sequence[Scene], width: int, height: int) -> Tensor:
    """Index of the object at the centre of every pixel, tile by tile, (S, P)."""
    with torch.inference_mode():
        device = torch.device("cpu")
        batch = SceneBatch.of(scenes, device, torch.float32)
        frame = _Frame.of(width, height, 1, device)
        index = torch.arange(len(scenes) * frame.tiles)
        scene, tile = index // frame.tiles, index % frame.tiles
        camera = batch.cameras[:, :, scene, None]
        origin, direction, _ = _camera_rays(
            camera, frame.center[:, tile], frame.width, frame.height
        )
        _, which = shapes.closest_hit(origin, FAR * direction, scene, batch.shapes)
        return which.view(len(scenes), frame.tiles * TILE * TILE)
