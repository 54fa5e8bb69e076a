from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurewise.worlds.clevr.camera import POSITION, Camera
from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.lights import LAMPS
from featurewise.worlds.clevr.render import render, visible_pixels
from featurewise.worlds.clevr.scene import (
    DIRECTIONS,
    Object,
    Scene,
    sample_scene,
    sample_scenes,
    solve_camera,
)
from featurewise.worlds.clevr.vocabulary import COGENT_COLORS, RADIUS

DATA = Path(__file__).parents[3].parent / "shared/data/clevr_blender"
THING = Object("cube", "large", "metal", "red", (0.0, 0.0, 0.7), 0.3)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_scenes(40, seed=3, stride=8)


def official() -> list[dict[str, object]]:
    if not DATA.is_dir():
        pytest.skip(f"needs the images of the original generator in {DATA}")
    loaded = json.loads((DATA / "scenes/CLEVR_val_scenes.json").read_text())
    return list(loaded["scenes"])


def read(entry: dict[str, object]) -> Scene:
    things = entry["objects"]
    assert isinstance(things, list)
    return Scene(
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
            for o in things
        )
    )


def test_objects_keep_their_distance(scenes: list[Scene]) -> None:
    for scene in scenes:
        for i, a in enumerate(scene.objects):
            for b in scene.objects[:i]:
                offset = np.subtract(a.position, b.position)
                gap = np.hypot(offset[0], offset[1]) - RADIUS[a.size] - RADIUS[b.size]
                assert gap >= 0.25
                assert abs(offset @ DIRECTIONS["right"]) >= 0.4
                assert abs(offset @ DIRECTIONS["behind"]) >= 0.4


def test_objects_are_on_the_ground_within_the_extent(scenes: list[Scene]) -> None:
    for thing in (o for s in scenes for o in s.objects):
        assert max(abs(thing.position[0]), abs(thing.position[1])) <= 3
        assert thing.position[2] == RADIUS[thing.size]
        assert 0 <= thing.rotation <= 360


def test_camera_and_lamps_are_jittered(scenes: list[Scene]) -> None:
    cameras = np.array([s.camera for s in scenes]) - POSITION
    lamps = np.array([s.lamps for s in scenes]) - [lamp.position for lamp in LAMPS]
    assert 0.4 < np.abs(cameras).max() <= 0.5
    assert 0.9 < np.abs(lamps).max() <= 1.0


def test_counts_and_attributes_are_uniform() -> None:
    sampled = sample_scenes(300, seed=0, min_pixels=0)
    counts = Counter(len(s.objects) for s in sampled)
    assert set(counts) == set(range(3, 11))
    assert min(counts.values()) > 300 / 8 / 2
    for name, ways in (("shape", 3), ("material", 2), ("color", 8)):
        tally = Counter(getattr(o, name) for s in sampled for o in s.objects)
        total = sum(tally.values())
        assert len(tally) == ways
        assert max(abs(n / total - 1 / ways) for n in tally.values()) < 0.05


def test_scene_i_depends_on_seed_and_index_alone(scenes: list[Scene]) -> None:
    assert sample_scenes(3, seed=3, first=7, stride=8) == scenes[7:10]
    assert sample_scene(np.random.default_rng([3, 5]), stride=8) == scenes[5]
    assert sample_scenes(1, seed=4, stride=8)[0] != scenes[0]


def test_every_object_is_visible(scenes: list[Scene]) -> None:
    assert min(min(p) for p in visible_pixels(scenes, stride=8)) >= 200
    exact = visible_pixels(scenes[:6], stride=1)
    masks = render(scenes[:1], samples=1).masks
    assert exact[0] == [int((masks[0] == i).sum()) for i in range(len(scenes[0].objects))]
    rough = visible_pixels(scenes[:6], stride=4)
    for a, b in zip(exact, rough, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.25, atol=64)


def test_scenes_with_hidden_objects_are_placed_again() -> None:
    loose, strict = (
        sample_scenes(30, seed=1, min_objects=10, min_pixels=n, stride=8) for n in (0, 200)
    )
    hiding = [min(p) < 200 for p in visible_pixels(loose, stride=8)]
    assert any(hiding)
    for hid, a, b in zip(hiding, loose, strict, strict=True):
        assert (a != b) == hid
        assert len(a.objects) == len(b.objects)


@pytest.mark.parametrize("condition", ["A", "B"])
def test_cogent_restricts_colours_by_shape(condition: str) -> None:
    for scene in sample_scenes(40, seed=2, cogent=condition, min_pixels=0):
        for thing in scene.objects:
            assert thing.color in COGENT_COLORS[condition][thing.shape]


def test_pixels_are_projections(scenes: list[Scene]) -> None:
    for scene in scenes[:5]:
        assert scene.camera is not None
        for thing in scene.objects:
            spot = Camera.at(scene.camera).project(np.array(thing.position))
            assert thing.pixel == pytest.approx((round(spot[0]), round(spot[1]), spot[2]), abs=1e-9)


def test_relations_are_strict_opposite_orders(scenes: list[Scene]) -> None:
    for scene in scenes:
        n = len(scene.objects)
        for one, other in (("left", "right"), ("front", "behind")):
            a, b = scene.related(one), scene.related(other)
            for i in range(n):
                assert sorted([i, *a[i], *b[i]]) == list(range(n))
                assert all(i in b[j] for j in a[i])


def test_relations_agree_with_the_original_generator() -> None:
    for entry in official():
        assert read(entry).relationships == {
            name: [sorted(row) for row in rows]
            for name, rows in entry["relationships"].items()  # type: ignore[attr-defined]
        }


def test_the_camera_of_sampled_scenes_is_recovered(scenes: list[Scene]) -> None:
    for scene in scenes[:10]:
        np.testing.assert_allclose(
            solve_camera(replace(scene, camera=None)), scene.camera, atol=5e-3
        )


def test_the_camera_of_official_scenes_is_recovered() -> None:
    for entry in official()[:30]:
        scene = read(entry)
        place = solve_camera(scene)
        assert np.abs(np.subtract(place, POSITION)).max() < 0.501
        spots = Camera.at(place).project(np.array([o.position for o in scene.objects]))
        recorded = np.array([o.pixel for o in scene.objects])
        assert np.abs(spots - recorded)[:, :2].max() < 0.52  # columns and rows were rounded
        assert np.abs(spots - recorded)[:, 2].max() < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "cone"}, "shape 'cone' is none of cube, sphere, cylinder"),
        ({"size": "huge"}, "size 'huge'"),
        ({"material": "wood"}, "material 'wood'"),
        ({"color": "pink"}, "color 'pink'"),
        ({"position": (0.0, np.nan, 0.7)}, "three finite coordinates"),
        ({"rotation": np.inf}, "finite rotation"),
    ],
)
def test_impossible_objects_are_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        replace(THING, **change)  # type: ignore[arg-type]


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(SceneError, match="1 to 10 objects"):
        sample_scenes(1, seed=0, min_objects=5, max_objects=4)
    with pytest.raises(SceneError, match="1 to 10 objects"):
        sample_scenes(1, seed=0, max_objects=11)
    with pytest.raises(SceneError, match="start at 0"):
        sample_scenes(-1, seed=0)
    with pytest.raises(SceneError, match="neither 'A' nor 'B'"):
        sample_scenes(1, seed=0, cogent="C")
    with pytest.raises(SceneError, match="stride must divide"):
        visible_pixels([], stride=7)
    with pytest.raises(SceneError, match="relation 'above'"):
        Scene((THING,)).related("above")
    with pytest.raises(SceneError, match="no object has pixel"):
        solve_camera(Scene((THING,)))
    with pytest.raises(SceneError, match="3 lamps, got 1"):
        Scene((THING,), lamps=((0.0, 0.0, 1.0),))
    assert sample_scenes(0, seed=0) == []
