"""The renderer against a reference renderer, measurements of the original, and invariances."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featurewise.worlds.clevr import materials
from featurewise.worlds.clevr.camera import Camera
from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.lights import LAMPS, SUN_DIRECTION
from featurewise.worlds.clevr.materials import ALBEDO
from featurewise.worlds.clevr.render import Rendering, render
from featurewise.worlds.clevr.scene import Object, Scene, sample_scenes, solve_camera

DATA = Path(__file__).parents[3].parent / "shared/data/clevr_blender"
MIXED = Scene(
    (
        Object("cube", "large", "metal", "red", (1.2, -1.4, 0.7), 0.4),
        Object("sphere", "large", "rubber", "cyan", (-1.5, -1.0, 0.7), 0.0),
        Object("cylinder", "large", "metal", "gray", (0.4, 1.6, 0.7), 0.0),
        Object("cube", "small", "rubber", "yellow", (-0.3, 0.1, 0.35), 1.1),
        Object("cylinder", "small", "rubber", "blue", (2.4, 0.6, 0.35), 0.0),
        Object("sphere", "small", "metal", "purple", (0.3, -2.4, 0.35), 0.0),
    )
)

# ---------------------------------------------------------------------------------------------
# The reference renderer: one ray at a time in double precision. Surfaces are found by sphere
# tracing of a distance field, and materials are written in angles.


def box_distance(p: np.ndarray, half: np.ndarray) -> float:
    return float(np.linalg.norm(np.maximum(np.abs(p) - half, 0)))


def distance(thing: Object, place: np.ndarray) -> float:
    p = (place - thing.position) / thing.radius
    c, s = math.cos(thing.rotation), math.sin(thing.rotation)
    x, y, z = c * p[0] + s * p[1], c * p[1] - s * p[0], p[2]
    if thing.shape == "sphere":
        d = math.sqrt(x * x + y * y + z * z) - 1
    elif thing.shape == "cube":
        d = box_distance(np.array([x, y, z]), np.full(3, 0.82)) - 0.18
    else:
        d = box_distance(np.array([math.hypot(x, y), z]), np.full(2, 0.9)) - 0.1
    return d * thing.radius


def gradient(thing: Object, place: np.ndarray) -> np.ndarray:
    h = 1e-5
    g = [distance(thing, place + h * e) - distance(thing, place - h * e) for e in np.eye(3)]
    return np.array(g) / np.linalg.norm(g)


def closest_hit(
    scene: Scene, origin: np.ndarray, toward: np.ndarray, end: float
) -> tuple[float, int]:
    best, which = end, -1
    for i, thing in enumerate(scene.objects):
        off = np.subtract(thing.position, origin)
        middle = off @ toward
        if off @ off - middle**2 > (1.61 * thing.radius) ** 2:
            continue
        t = max(middle - 1.61 * thing.radius, 0)
        for _ in range(80):
            d = distance(thing, origin + t * toward)
            t += d
            if d < 1e-6 or t > best:
                break
        if d < 1e-4 and t < best:
            best, which = t, i
    return best, which


def sheet(s: float) -> float:
    c = (-5.301265, 0.48630267, -0.0089824790, 7.8785896e-5, -1.8529143e-5, 2.2470588e-6)
    if s > 17:
        slope = (sheet(17) - sheet(17 - 1e-6)) / 1e-6
        return sheet(17) + slope * (s - 17)
    return math.exp(sum(a * s**i for i, a in enumerate(c)))


def distance_to_ground(origin: np.ndarray, toward: np.ndarray) -> float:
    sweep = np.array([-0.9032, 0.4292, 0.0])
    above = lambda t: (origin + t * toward)[2] - sheet((origin + t * toward) @ sweep)  # noqa: E731
    rate = sweep @ toward
    end = min(
        -origin[2] / toward[2] if toward[2] < 0 else math.inf,
        (18.1 - origin @ sweep) / rate if rate > 0 else math.inf,
        100.0,
    )
    if above(end) > 0:
        return math.inf
    low, high = 0.0, end
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) > 0 else (low, middle)
    spot = origin + high * toward
    side = abs(-0.9032 * spot[1] - 0.4292 * spot[0])
    return high if spot @ sweep > -9.5 and side < 27 else math.inf


def sheet_normal(place: np.ndarray) -> np.ndarray:
    s = place @ np.array([-0.9032, 0.4292, 0])
    slope = (sheet(s + 1e-5) - sheet(s - 1e-5)) / 2e-5
    n = np.array([0.9032 * slope, -0.4292 * slope, 1.0])
    return n / math.sqrt(1 + slope * slope)


def fresnel(cosine: float, index: float) -> float:
    inside = math.asin(min(1, math.sqrt(max(0, 1 - cosine**2)) / index))
    c = math.cos(inside)
    s_wave = (cosine - index * c) / (cosine + index * c)
    p_wave = (c - index * cosine) / (c + index * cosine)
    return (s_wave**2 + p_wave**2) / 2


def rubber(color: np.ndarray, n: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    cos_v, cos_l = max(n @ v, 1e-3), n @ w
    if cos_l <= 0:
        return np.zeros(3)
    h = (v + w) / np.linalg.norm(v + w)
    angle = math.acos(min(n @ h, 1))
    sheen = fresnel(min(max(n @ v, 0), 1), 1.45)
    coat = fresnel(min(max(n @ v, 0), 1), 1.25)
    sine2 = max(math.sin(angle) ** 2, 1e-4)
    fuzz = math.exp(-(math.cos(angle) ** 2) / sine2 / 0.36) / (math.pi * 0.36 * sine2**2)
    fuzz *= min(1, 2 * math.cos(angle) * min(cos_v, cos_l) / max(h @ v, 1e-3)) / (4 * cos_v)
    slope2 = math.tan(angle) ** 2
    shine = math.exp(-slope2 / 0.35**2) / (math.pi * 0.35**2 * math.cos(angle) ** 4)
    for cosine in (cos_v, max(cos_l, 1e-3)):
        a = 1 / (0.35 * max(math.tan(math.acos(min(cosine, 1))), 1e-3))
        if a < 1.6:
            shine *= (3.535 * a + 2.181 * a * a) / (1 + 2.276 * a + 2.577 * a * a)
    shine /= 4 * cos_v
    body = (1 - sheen) * cos_l / math.pi + sheen * fuzz
    return (1 - coat) * body * color + coat * 0.8 * shine


def metal(
    color: np.ndarray, n: np.ndarray, x: np.ndarray, v: np.ndarray, w: np.ndarray, blur: float
) -> np.ndarray:
    cos_v, cos_l = max(n @ v, 1e-3), n @ w
    if cos_l <= 0:
        return np.zeros(3)
    y = np.cross(n, x)
    h = (v + w) / np.linalg.norm(v + w)
    total = 0.0
    for share, alpha in ((0.4, 0.2), (0.6, 0.01)):
        wide = math.sqrt(alpha**2 + blur)
        ax, ay = wide * 0.75, wide / 0.75
        width = ((h @ x) / ax) ** 2 + ((h @ y) / ay) ** 2 + (h @ n) ** 2
        masks = 1.0
        for d, cosine in ((v, cos_v), (w, cos_l)):
            tan2 = ((ax * (d @ x)) ** 2 + (ay * (d @ y)) ** 2) / cosine**2
            masks *= 2 / (1 + math.sqrt(1 + tan2))
        total += share * masks / (math.pi * ax * ay * width**2 * 4 * cos_v)
    return total * color


def lights_at(place: np.ndarray) -> list[tuple[np.ndarray, float, np.ndarray, float]]:
    """Direction, distance, irradiance and apparent size of every light."""
    found = []
    for lamp in LAMPS:
        way = np.subtract(lamp.position, place)
        far = float(np.linalg.norm(way))
        aim = -np.array(lamp.position) / np.linalg.norm(lamp.position)
        facing = max(-(way / far) @ aim, 0)
        power = np.array(lamp.radiance) * lamp.side**2 * facing / far**2
        found.append((way / far, far, power, (lamp.side / 4 / far) ** 2))
    sun = np.array(SUN_DIRECTION) / np.linalg.norm(SUN_DIRECTION)
    return [*found, (sun, 2.0, np.full(3, 0.45), (0.09965 / 2) ** 2)]


def curvature(thing: Object, n: np.ndarray) -> float:
    c, s = math.cos(thing.rotation), math.sin(thing.rotation)
    local = np.array([c * n[0] + s * n[1], c * n[1] - s * n[0], n[2]])
    if thing.shape == "sphere":
        return 1 / thing.radius
    if thing.shape == "cube":
        return 0.0 if np.abs(local).max() > 1 - 1e-9 else 1 / 0.18 / thing.radius
    if abs(local[2]) < 1e-6:
        return 1 / thing.radius
    return 0.0 if abs(local[2]) > 1 - 1e-9 else 10 / thing.radius


def radiance(
    scene: Scene, origin: np.ndarray, toward: np.ndarray, pixel: float, last: bool
) -> np.ndarray:
    floor = distance_to_ground(origin, toward)
    far, which = closest_hit(scene, origin, toward, min(floor, 60.0))
    if which < 0 and not math.isfinite(floor):
        return np.zeros(3)
    place = origin + far * toward
    n = gradient(scene.objects[which], place) if which >= 0 else sheet_normal(place)
    start = place + 2e-3 * n
    total, foot = np.zeros(3), np.full(3, 0.0122)
    thing = scene.objects[which]
    color = np.array(ALBEDO[thing.color])
    around = np.cross((0, 0, 1), np.subtract(place, thing.position))
    around -= (around @ n) * n
    around /= max(np.linalg.norm(around), 1e-12)
    for w, reach, power, size in lights_at(place):
        lit = closest_hit(scene, start, w, reach)[1] < 0
        level = n[0] * w[0] + n[1] * w[1]
        foot += power * 0.8 / math.pi * max(w[2], 0) * (1 - 0.8 * max(-level, 0))
        if which < 0:
            total += 0.8 / math.pi * power * max(n @ w, 0) * lit
        elif thing.material == "rubber":
            total += rubber(color, n, -toward, w) * power * lit
        else:
            blur = size + (far * pixel * curvature(thing, n)) ** 2 / 4
            total += metal(color, n, around, -toward, w, blur) * power * lit
    if which < 0:
        return total + max(0.0122 + 0.00123 * (place @ np.array([-0.9032, 0.4292, 0])), 0)
    mirror = toward - 2 * (toward @ n) * n
    gleam = min(max(0.5 - mirror[2] / 0.7, 0), 1) * 0.8 * foot
    if thing.material == "metal":
        seen = gleam if last else 0.88 * radiance(scene, start, mirror, 0.0, True)
        return total + color * seen
    coat = fresnel(min(max(-toward @ n, 0), 1), 1.25)
    return total + (1 - coat) * color * 0.8 * foot * (1 - n[2]) / 2 + coat * 0.8 * gleam


def reference_image(scene: Scene, width: int, height: int) -> np.ndarray:
    camera = Camera.at()
    image = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            x = (column + 0.5 - width / 2) / (width * 35 / 32)
            y = (height / 2 - row - 0.5) / (width * 35 / 32)
            toward = camera.forward + x * camera.right + y * camera.up
            toward /= np.linalg.norm(toward)
            light = radiance(scene, camera.position, toward, 1 / (480 * 35 / 32), False)
            light = np.minimum(light, 1)
            small = light <= 0.0031308
            image[row, column] = np.where(small, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return image * 255


def test_images_agree_with_the_reference_renderer() -> None:
    ours = render([MIXED], width=36, height=24, samples=1).images[0].permute(1, 2, 0).numpy()
    error = np.abs(ours - reference_image(MIXED, 36, 24)).max(-1)
    assert np.median(error) < 0.51  # 8-bit rounding alone
    # Rays close to an edge or to the border of a shadow may be on either side of it.
    assert (error > 1.5).mean() < 0.03, np.argwhere(error > 1.5)


def test_materials_agree_with_the_reference() -> None:
    rng = np.random.default_rng(0)
    n, v, w = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in rng.normal(size=(3, 300, 3)))
    v *= np.sign((n * v).sum(-1, keepdims=True))
    x = np.cross(n, rng.normal(size=(300, 3)))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    color = np.array(ALBEDO["brown"])
    tint = torch.tensor(color)[:, None]
    n_, v_, w_, x_ = (torch.tensor(a).T for a in (n, v, w, x))
    matte = materials.rubber(tint, n_, v_, w_).T.numpy()
    blur = torch.full((300,), 2e-3, dtype=torch.float64)
    shiny = materials.metal(tint, n_, x_, v_, w_, blur).T.numpy()
    for i in range(300):
        np.testing.assert_allclose(matte[i], rubber(color, n[i], v[i], w[i]), rtol=2e-3, atol=1e-9)
        gloss = metal(color, n[i], x[i], v[i], w[i], 2e-3)
        np.testing.assert_allclose(shiny[i], gloss, rtol=1e-6, atol=1e-12)


# ---------------------------------------------------------------------------------------------
# Measurements of the original


def test_empty_scene_has_the_original_brightness() -> None:
    image = render([Scene(())], samples=1).images[0]
    expected = {
        (240, 160): (135, 135, 134),
        (120, 160): (132, 132, 134),
        (360, 160): (132, 131, 130),
        (240, 300): (148, 146, 142),
        (400, 280): (150, 148, 144),
        (80, 280): (128, 127, 125),
        (240, 80): (122, 122, 122),
        (240, 40): (107, 107, 107),
        (40, 40): (105, 105, 105),
        (440, 40): (101, 101, 101),
    }
    for (x, y), color in expected.items():
        np.testing.assert_allclose(image[:, y, x].numpy(), color, atol=2)


@pytest.fixture(scope="module")
def many() -> tuple[list[Scene], Rendering]:
    scenes = sample_scenes(80, seed=5, stride=8)
    return scenes, render(scenes, width=96, height=64, samples=1)


def test_backgrounds_have_the_original_medians(many: tuple[list[Scene], Rendering]) -> None:
    objects = (many[1].masks >= 0)[:, None]
    median = many[1].images.float().masked_fill(objects, torch.nan).nanmedian(0).values
    expected = {
        10: (106, 106, 105, 103, 101),
        60: (104, 109, 112, 107, 102),
        110: (119, 122, 127, 122, 110),
        160: (133, 120, 130, 124, 119),
        210: (123, 125, 133, 134, 125),
        260: (120, 129, 138, 144, 135),
        310: (120, 132, 144, 151, 143),
    }
    for y, row in expected.items():
        for x, value in zip((10, 125, 240, 355, 470), row, strict=True):
            assert abs(float(median[:, y // 5, x // 5].mean()) - value) < 8, (x, y)


def test_object_colours_have_the_original_medians(many: tuple[list[Scene], Rendering]) -> None:
    expected = {
        "gray": ((86, 85, 83), (76, 76, 75)),
        "red": ((120, 55, 53), (107, 47, 47)),
        "blue": ((60, 79, 128), (52, 69, 114)),
        "green": ((50, 93, 39), (42, 82, 33)),
        "brown": ((103, 78, 44), (92, 69, 38)),
        "purple": ((103, 57, 120), (91, 48, 108)),
        "cyan": ((61, 131, 127), (52, 116, 115)),
        "yellow": ((144, 138, 64), (131, 124, 57)),
    }
    scenes, rendering = many
    seen: dict[tuple[str, str], list[np.ndarray]] = {}
    for scene, image, mask in zip(scenes, rendering.images, rendering.masks, strict=True):
        for i, thing in enumerate(scene.objects):
            assert thing.pixel is not None
            x, y = thing.pixel[0] // 5, thing.pixel[1] // 5
            if 0 <= x < 96 and 0 <= y < 64 and mask[y, x] == i:
                seen.setdefault((thing.color, thing.material), []).append(image[:, y, x].numpy())
    for color, pair in expected.items():
        for material, value in zip(("rubber", "metal"), pair, strict=True):
            median = np.median(seen[color, material], axis=0)
            # With a single path, reflections are not blurred, so the colours of metals vary more.
            assert np.abs(median - value).max() < (9 if material == "rubber" else 16), color


def test_images_resemble_those_of_the_original() -> None:
    if not DATA.is_dir():
        pytest.skip(f"needs the images of the original generator in {DATA}")
    entries = json.loads((DATA / "scenes/CLEVR_val_scenes.json").read_text())["scenes"][:6]
    errors, plain = [], []
    for entry in entries:
        scene = Scene(
            tuple(
                Object(
                    o["shape"],
                    o["size"],
                    o["material"],
                    o["color"],
                    tuple(o["3d_coords"]),
                    o["rotation"],
                    tuple(o["pixel_coords"]),
                )
                for o in entry["objects"]
            )
        )
        ours = render([replace(scene, camera=solve_camera(scene))], width=120, height=80, samples=4)
        image = Image.open(DATA / "images/val" / entry["image_filename"]).convert("RGB")
        real = np.asarray(image.resize((120, 80), Image.Resampling.BOX), dtype=np.float64)
        error = np.abs(ours.images[0].permute(1, 2, 0).numpy() - real).mean(-1)
        on_object = ours.masks[0].numpy() >= 0
        errors.append(error[on_object].mean())
        plain.append(error[~on_object].mean())
    # Most of the difference is due to the lamps: their jitter is not recorded.
    assert np.mean(errors) < 12
    assert np.mean(plain) < 9


# ---------------------------------------------------------------------------------------------
# Invariances


def test_an_image_does_not_depend_on_the_rest_of_the_batch() -> None:
    scenes = [*sample_scenes(3, seed=9, stride=8), MIXED, Scene(())]
    batch = render(scenes, width=50, height=34, samples=4)
    for i, scene in enumerate(scenes):
        alone = render([scene], width=50, height=34, samples=4)
        assert torch.equal(alone.images[0], batch.images[i])
        assert torch.equal(alone.masks[0], batch.masks[i])


def test_rendering_is_deterministic() -> None:
    first, second = (render([MIXED], width=60, height=40, samples=9) for _ in range(2))
    assert torch.equal(first.images, second.images)


def test_masks_agree_with_images() -> None:
    with_all = render([MIXED], width=120, height=80, samples=1)
    assert set(with_all.masks.unique().tolist()) == {-1, *range(len(MIXED.objects))}
    recolored = [0, 1, 3, 4]  # without metals that reflect their surroundings
    for i in recolored:
        other = "green" if MIXED.objects[i].color != "green" else "red"
        things = list(MIXED.objects)
        things[i] = replace(things[i], color=other)
        changed = render([replace(MIXED, objects=tuple(things))], width=120, height=80, samples=1)
        differs = (changed.images != with_all.images).any(1)
        on_object = with_all.masks == i
        assert differs[on_object].float().mean() > 0.98
        shiny = (with_all.masks == 0) | (with_all.masks == 2) | (with_all.masks == 5)
        assert not differs[~on_object & ~shiny].any()


def test_more_samples_soften_edges_and_shadows_and_keep_the_brightness() -> None:
    images = [render([MIXED], width=96, height=64, samples=n).images.float() for n in (1, 4, 16)]
    rough = [float((p[..., 1:] - p[..., :-1]).abs().square().mean()) for p in images]
    assert rough[0] > rough[1] > rough[2]
    for image in images:
        assert abs(float(image.mean() - images[-1].mean())) < 1


def test_shadows_follow_the_lamps() -> None:
    base = tuple(lamp.position for lamp in LAMPS)
    moved = (tuple(-c if i == 1 else c for i, c in enumerate(base[0])), *base[1:])
    scene = Scene((Object("sphere", "large", "rubber", "red", (0.0, 0.0, 0.7), 0.0),))
    a, b, c = (
        render([s], width=60, height=40, samples=1).images.float()
        for s in (scene, replace(scene, lamps=base), replace(scene, lamps=moved))  # type: ignore[arg-type]
    )
    assert torch.equal(a, b)
    assert (a - c).abs().max() > 20


@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 64), (45, 30), (33, 70)])
def test_any_size(width: int, height: int) -> None:
    rendering = render([MIXED, Scene(())], width=width, height=height, samples=1)
    assert rendering.images.shape == (2, 3, height, width)
    assert rendering.masks.shape == (2, height, width)
    assert (rendering.masks[1] == -1).all()


def test_the_field_of_view_is_fixed_by_the_width() -> None:
    tall, wide = (render([MIXED], width=64, height=h, samples=1).images for h in (64, 40))
    assert torch.equal(tall[:, :, 12:52], wide)


def test_no_scenes_give_no_images() -> None:
    rendering = render([], width=8, height=8)
    assert rendering.images.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("samples", [0, -1, 2, 8])
def test_samples_must_be_square(samples: int) -> None:
    with pytest.raises(SceneError, match="square number such as 1, 4, 9, 16"):
        render([MIXED], width=8, height=8, samples=samples)


def test_width_and_height_are_positive() -> None:
    with pytest.raises(SceneError, match="at least 1 pixel, got 0 x 8"):
        render([MIXED], width=0, height=8)
