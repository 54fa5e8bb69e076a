"""The renderer in numba against its twin in torch; which of the two is chosen and recorded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featurewise.worlds.clevr import (
    PoolSource,
    Recipe,
    WorldError,
    build_pool,
    cache,
    render,
    sample_scenes,
    write_dataset,
)
from featurewise.worlds.clevr.cache import cached_pool
from featurewise.worlds.clevr.errors import SceneError
from featurewise.worlds.clevr.lights import LAMPS
from featurewise.worlds.clevr.render import default_renderer, require_renderer
from featurewise.worlds.clevr.scene import Object, Scene

needs_numba = pytest.mark.skipif(
    default_renderer() != "numba", reason="needs numba: pip install 'featurewise[fast]'"
)
TINY = Recipe(seed=5, width=12, height=8, samples=1, questions_per_image=2, max_objects=3)
BALL = Object("sphere", "large", "metal", "red", (0.0, 0.0, 0.7), 0.0)


def both(scenes: list[Scene], **options: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of the images (S, H, W), in grey levels, and whether the masks differ."""
    ours, twin = (render(scenes, renderer=r, **options) for r in ("numba", "torch"))
    assert ours.images.shape == twin.images.shape and ours.images.dtype == torch.uint8
    assert ours.masks.shape == twin.masks.shape and ours.masks.dtype == twin.masks.dtype
    levels = (ours.images.int() - twin.images.int()).abs().amax(1)
    return levels.numpy(), (ours.masks != twin.masks).numpy()


# --- the same images ------------------------------------------------------------------------------


@needs_numba
def test_images_of_one_sample_are_those_of_the_twin() -> None:
    levels, masks = both(sample_scenes(24, seed=3, stride=8), width=96, height=64, samples=1)
    # Rounding decides what a ray hits that touches an edge; of 150,000 rays, these are a few.
    assert (levels > 1).sum() <= 10 and masks.sum() <= 10
    assert (levels > 0).mean() < 1e-3


@needs_numba
@pytest.mark.parametrize("samples", [4, 9, 16, 25, 36, 64, 100, 144])
def test_images_of_several_samples_are_those_of_the_twin(samples: int) -> None:
    width, height = (60, 40) if samples < 20 else (21, 13)
    levels, _ = both(
        sample_scenes(8, seed=4, stride=8), width=width, height=height, samples=samples
    )
    assert levels.mean() < 5e-3 and levels.max() <= 16
    assert np.sqrt((levels.astype(float) ** 2).mean()) < 255 * 10 ** (-65 / 20)  # 65 dB


@needs_numba
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 3), (33, 70), (65, 9)])
def test_any_size(width: int, height: int) -> None:
    for samples in (1, 4):
        levels, masks = both(
            [*sample_scenes(2, seed=1, stride=8), Scene(())],
            width=width,
            height=height,
            samples=samples,
        )
        assert (levels > 1).sum() <= 1 and masks.sum() <= 1


EDGES = {
    "one": Scene((BALL,)),
    "none": Scene(()),
    "ten": sample_scenes(1, seed=0, stride=8, min_objects=10)[0],
    "behind the camera": Scene((replace(BALL, position=(10.0, -9.0, 0.7)), BALL)),
    "around the camera": Scene((replace(BALL, position=(7.5, -6.5, 5.3)),)),
    "around a lamp": Scene((replace(BALL, position=LAMPS[0].position), BALL)),
    "between camera and lamp": Scene((replace(BALL, position=(7.0, -4.7, 4.8)), BALL)),
    "in one another": Scene((BALL, replace(BALL, size="small", color="cyan"))),
    "own camera": Scene((BALL,), camera=(-6.0, 5.0, 3.0)),
    "own lamps": Scene((BALL,), lamps=((2.0, 2.0, 6.0), (-4.0, 1.0, 3.0), (1.0, -6.0, 4.0))),
    "cubes and cylinders": Scene(
        tuple(
            Object(shape, size, material, "gray", (1.4 * i - 2, 1.5 * j - 2, 0.7), 0.4 * i)
            for i, (shape, size) in enumerate(
                [("cube", "large"), ("cylinder", "large"), ("cube", "small"), ("sphere", "small")]
            )
            for j, material in enumerate(("metal", "rubber"))
        )
    ),
    "twenty": Scene(
        tuple(
            Object("sphere", "small", "rubber", "red", (i % 5 - 2.0, i // 5 - 2.0, 0.35), 0.0)
            for i in range(20)
        )
    ),
}


@needs_numba
@pytest.mark.parametrize("name", EDGES)
def test_unusual_scenes(name: str) -> None:
    levels, masks = both([EDGES[name]], width=64, height=48, samples=1)
    assert (levels > 1).sum() <= 2 and masks.sum() <= 2


@needs_numba
def test_objects_beside_a_lamp_shade_a_part_of_it() -> None:
    x, y, z = LAMPS[2].position  # the largest one; its light falls from the left and the front
    beside = [
        Object("sphere", "small", "rubber", "red", (x + dx, y + dy, z - 0.25), 0.0)
        for dx, dy in ((0.75, 0.0), (-0.75, 0.0), (0.0, 0.75), (0.0, -0.75))
    ]
    scene = Scene(tuple(beside))
    levels, _ = both([scene], width=48, height=32, samples=16)
    assert (levels > 1).sum() <= 2
    shadows = render([scene, Scene(())], width=48, height=32, samples=16, renderer="numba").images
    assert (shadows[0] != shadows[1]).float().mean() > 0.05


@needs_numba
def test_no_scenes_give_no_images() -> None:
    assert render([], width=8, height=4, renderer="numba").images.shape == (0, 3, 4, 8)
    assert render([], width=8, height=4, renderer="numba").masks.shape == (0, 4, 8)


@needs_numba
def test_the_camera_is_checked() -> None:
    with pytest.raises(ValueError, match="three finite coordinates off the Z axis"):
        render([Scene((), camera=(0.0, 0.0, 5.0))], width=8, height=8, renderer="numba")


@needs_numba
def test_an_image_does_not_depend_on_the_others() -> None:
    scenes = sample_scenes(6, seed=9, stride=8)
    options: dict[str, Any] = {"width": 40, "height": 30, "samples": 4, "renderer": "numba"}
    together = render(scenes, **options)
    alone = [render([scene], **options) for scene in reversed(scenes)]
    assert torch.equal(together.images, torch.cat([a.images for a in reversed(alone)]))
    assert torch.equal(together.masks, torch.cat([a.masks for a in reversed(alone)]))


@pytest.mark.parametrize("renderer", ["torch", pytest.param("numba", marks=needs_numba)])
def test_masks_are_left_out_on_request(renderer: Any) -> None:
    options: dict[str, Any] = {"width": 8, "height": 6, "renderer": renderer}
    ours, whole = (render([Scene((BALL,))], with_masks=w, **options) for w in (False, True))
    assert torch.equal(ours.images, whole.images)
    assert ours.masks.shape == (0, 6, 8) and whole.masks.shape == (1, 6, 8)


@needs_numba
def test_scenes_do_not_depend_on_the_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = sample_scenes(40, seed=6, min_objects=8)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert sample_scenes(40, seed=6, min_objects=8) == ours


def test_scenes_are_the_same_on_every_machine() -> None:
    """To the last bit. Those of version 0.1 had other last bits of depth on other processors."""
    scenes = sample_scenes(12, seed=0) + sample_scenes(4, seed=9, min_objects=10)
    assert hashlib.sha256(repr(scenes).encode()).hexdigest()[:16] == "45553251b6dbbd3c"


@needs_numba
def test_packets_of_every_size_are_enclosed() -> None:
    from featurewise.worlds.clevr.packets import hits, rows

    rng = np.random.default_rng(0)
    for n in (16, 32, 48, 64):
        for _ in range(20):
            packet = rng.normal(size=rows.PACKET).astype(np.float32)
            balls = np.zeros(8, np.float32)
            hits.enclose_starts(packet, n, balls, 4)
            points = packet[rows.START : rows.START + 3 * rows.LANES].reshape(3, -1)[:, :n]
            low, high = points.min(1), points.max(1)
            np.testing.assert_allclose(balls[4:7], (low + high) / 2, atol=1e-6)
            np.testing.assert_allclose(balls[7], np.linalg.norm(high - low) / 2, rtol=1e-5)


@needs_numba
@pytest.mark.parametrize(
    ("foot", "head", "center", "kept"),
    [
        ((0.0, 0, 0, 1.0), (9.0, 0, 0, 1.0), (4.0, 1.5, 0), True),
        ((0.0, 0, 0, 1.0), (9.0, 0, 0, 1.0), (4.0, 2.5, 0), False),
        ((0.0, 0, 0, 0.1), (9.0, 0, 0, 3.0), (1.0, 2.0, 0), False),
        ((0.0, 0, 0, 1.0), (0.5, 0, 0, 8.0), (-6.0, 0, 0), True),  # one contains the other
        ((0.5, 0, 0, 8.0), (0.0, 0, 0, 1.0), (-6.0, 0, 0), True),
        ((0.0, 0, 0, 1.0), (0.5, 0, 0, 8.0), (-9.5, 0, 0), False),
    ],
)
def test_objects_outside_of_the_hull_of_two_balls_are_culled(
    foot: tuple[float, ...], head: tuple[float, ...], center: tuple[float, ...], kept: bool
) -> None:
    from featurewise.worlds.clevr.packets import hits, rows

    spheres = np.zeros(rows.SPHERE_BLOCK, np.float32)
    spheres[rows.SPHERE_RADIUS] = 1
    for axis in range(3):
        spheres[axis * rows.SPHERES] = center[axis]
    hits.cull(spheres, 1, np.array([*foot, *head], np.float32))
    assert bool(spheres[rows.SPHERE_NEAR]) is kept


DIGEST = """
import hashlib
from featurewise.worlds.clevr import render, sample_scenes
images = render(sample_scenes(3, seed=2, stride=8), width=40, height=30, renderer="numba").images
print(hashlib.sha256(images.numpy().tobytes()).hexdigest())
"""


@needs_numba
def test_every_process_renders_the_same_bytes() -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", DIGEST], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert len({process.communicate(timeout=280)[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0, 0]


@needs_numba
def test_the_version_of_the_code_is_part_of_the_key_of_the_compiled_code() -> None:
    from featurewise.worlds.clevr.packets import tiles

    for function in (tiles.render_tiles, tiles.find_in_tiles):
        cells = [cell.cell_contents for cell in function.py_func.__closure__]
        assert cells == [tiles._version()]


def test_importing_the_world_imports_no_numba() -> None:
    code = "import sys, featurewise.worlds.clevr; print('numba' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


# --- which renderer -------------------------------------------------------------------------------


@pytest.fixture
def no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if numba were not installed."""
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.mark.usefixtures("no_numba")
def test_without_numba_torch_renders() -> None:
    assert default_renderer() == "torch"
    scene = Scene((BALL,))
    ours, twin = (render([scene], width=9, height=6, renderer=r) for r in (None, "torch"))
    assert torch.equal(ours.images, twin.images)
    assert Recipe(seed=0).settings()["renderer"] == "torch"


@pytest.mark.usefixtures("no_numba")
def test_numba_that_is_not_installed_is_reported(tmp_path: Path) -> None:
    expected = r"pip install 'featurewise\[fast\]'"
    with pytest.raises(SceneError, match=expected):
        render([], renderer="numba")
    with pytest.raises(WorldError, match=expected):
        build_pool(tmp_path, replace(TINY, renderer="numba"), images=1)
    assert not list(tmp_path.iterdir())


def test_impossible_renderers_are_rejected() -> None:
    with pytest.raises(SceneError, match="one of numba, torch, got 'blender'"):
        require_renderer("blender")
    with pytest.raises((WorldError, TypeError), match="blender"):  # the latter by run-time checks
        Recipe(seed=0, renderer="blender")  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="compiled=True"):
        render([], renderer="numba", compiled=True)
    with pytest.raises(SceneError, match="device 'meta'"):
        render([], renderer="numba", device="meta")
    assert default_renderer("meta") == default_renderer(compiled=True) == "torch"


# --- what records it ------------------------------------------------------------------------------


@needs_numba
def test_a_pool_records_its_renderer(tmp_path: Path) -> None:
    for renderer, expected in ((None, "numba"), ("numba", "numba"), ("torch", "torch")):
        recipe = replace(TINY, renderer=renderer)
        folder = build_pool(tmp_path / str(renderer), recipe, images=2)
        assert PoolSource(folder, images_per_batch=2).pool.settings["renderer"] == expected
    with pytest.raises(WorldError, match="other settings"):
        build_pool(tmp_path / "torch", replace(TINY, renderer="numba"), images=2)


def test_a_pool_of_version_0_1_is_opened_and_resumed(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(made: int, total: int) -> None:
        raise StopError

    twin = build_pool(tmp_path / "twin", replace(TINY, renderer="torch"), images=3)
    begun = tmp_path / "begun"
    with pytest.raises(StopError):
        build_pool(begun, replace(TINY, renderer="torch"), images=3, on_progress=stop)
    path = begun / "settings.json"
    settings = json.loads(path.read_text())
    assert settings["settings"].pop("renderer") == "torch"
    path.write_text(json.dumps(settings))
    assert build_pool(begun, TINY, images=3) == begun  # with its own renderer
    assert (begun / "images.npy").read_bytes() == (twin / "images.npy").read_bytes()

    path = begun / "pool.json"  # as version 0.1 wrote it
    manifest = json.loads(path.read_text())
    del manifest["settings"]["renderer"], manifest["seal"]
    path.write_text(json.dumps(manifest))
    assert build_pool(begun, TINY, images=3) == begun
    assert len(PoolSource(begun, images_per_batch=3).pool) == 3
    with pytest.raises(WorldError, match="other settings"):
        build_pool(begun, replace(TINY, seed=6, renderer="torch"), images=3)


def test_pools_of_version_0_1_are_found_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "build_pool", lambda folder, recipe, **_: folder)
    torch_pool = cached_pool(replace(TINY, renderer="torch"), 3)
    assert torch_pool.name == "29f70ce3c0307a5e"
    if default_renderer() == "numba":
        assert cached_pool(TINY, 3) == cached_pool(replace(TINY, renderer="numba"), 3) != torch_pool


@needs_numba
def test_a_data_set_is_resumed_with_its_own_renderer(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seed": 4, "width": 24, "height": 16, "samples": 1}
    write_dataset(tmp_path / "a", count=2, renderer="torch", **options)
    write_dataset(tmp_path / "a", count=3, **options)
    write_dataset(tmp_path / "b", count=3, renderer="torch", **options)
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "ab"
    )
    assert first == second
    with pytest.raises(WorldError, match="renderer"):
        write_dataset(tmp_path / "a", count=3, renderer="numba", **options)
