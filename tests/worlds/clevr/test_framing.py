"""One framing for all: what is rendered, read, written and projected lies at the same place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from featurewise.worlds.clevr import (
    Recipe,
    Scene,
    load_image,
    render,
    sample_scenes,
    write_dataset,
)
from featurewise.worlds.clevr.camera import Camera
from featurewise.worlds.clevr.images import framing_note, image_size, visible_rows

SIZES = [(120, 80), (224, 224), (160, 120), (480, 320), (80, 120), (200, 100), (121, 80)]
SOURCES = [(480, 320), (320, 240), (300, 300), (240, 480), (480, 200), (320, 213)]
POINTS = np.array([(0, 0, 0.7), (3, 3, 0.35), (-3, -3, 0.7), (3, -3, 0.35), (-2, 1, 0.35)])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", SIZES)
def test_a_point_is_read_where_the_camera_projects_it(
    tmp_path: Path, source: tuple[int, int], size: tuple[int, int]
) -> None:
    path = tmp_path / "a.png"
    y, x = np.mgrid[: source[1], : source[0]] + 0.5
    sigma = max(4.0, source[0] / size[0])
    compared = 0
    for column, row, _ in Camera.at().project(POINTS, *source):
        spot = np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma**2))
        Image.fromarray((spot[..., None].repeat(3, 2) * 255).astype(np.uint8)).save(path)
        light = load_image(path, *size)[0].double().numpy()
        u, v = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
        k = size[0] / source[0]
        wanted = (column - source[0] / 2) * k + size[0] / 2, (row - source[1] / 2) * k + size[1] / 2
        margin = 4 * sigma * k
        inside = margin < wanted[1] < size[1] - margin and 4 * sigma < row < source[1] - 4 * sigma
        if not inside or not margin < wanted[0] < size[0] - margin:
            continue
        found = (light * u).sum() / light.sum(), (light * v).sum() / light.sum()
        assert found == pytest.approx(wanted, abs=0.6)
        compared += 1
    assert compared >= 2


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_scenes(2, seed=3)


@pytest.fixture(scope="module")
def official(scenes: list[Scene]) -> list[NDArray[np.uint8]]:
    """The scenes as images of the official size."""
    images = render(scenes, width=480, height=320, samples=1).images
    return [image.permute(1, 2, 0).numpy() for image in images]


@pytest.mark.parametrize("size", [(120, 80), (112, 112), (80, 60), (60, 90), (120, 60)])
def test_a_rendering_agrees_with_a_file_of_the_official_size(
    tmp_path: Path,
    scenes: list[Scene],
    official: list[NDArray[np.uint8]],
    size: tuple[int, int],
) -> None:
    small = render(scenes, width=size[0], height=size[1], samples=4).images
    top, bottom = visible_rows(size, (480, 320))
    shown = slice(max(0, round(top) + 1), min(size[1], round(bottom) - 1))
    for image, expected in zip(official, small, strict=True):
        Image.fromarray(image).save(tmp_path / "a.png")
        found = load_image(tmp_path / "a.png", *size)
        difference = (found.int() - expected.int()).abs().double()[:, shown].mean()
        assert difference < 2.5
        stretched = Image.open(tmp_path / "a.png").resize(size, Image.Resampling.BOX)
        off = torch.from_numpy(np.array(stretched)).permute(2, 0, 1).int() - expected.int()
        if size != (120, 80):
            assert off.abs().double()[:, shown].mean() > 2 * difference


@pytest.mark.parametrize("size", [(48, 32), (32, 32), (24, 36)])
def test_written_pixel_coordinates_are_projections_of_the_camera(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    write_dataset(
        tmp_path, count=1, seed=3, split="val", width=size[0], height=size[1], samples=1,
        questions_per_image=1,
    )  # fmt: skip
    (entry,) = json.loads((tmp_path / "scenes/CLEVR_val_scenes.json").read_text())["scenes"]
    recipe = Recipe(seed=3, width=size[0], height=size[1], samples=1)
    (scene,) = recipe.scenes(0, 1)
    assert scene.camera is not None
    for thing in entry["objects"]:
        expected = Camera.at(scene.camera).project(np.array(thing["3d_coords"]), *size)
        assert tuple(thing["pixel_coords"][:2]) == pytest.approx(tuple(expected[:2]), abs=0.6)


def test_missing_rows_repeat_the_first_and_last_row(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (100, 300, 3), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 300, 200)
    assert torch.equal(image[:, 50:150], torch.from_numpy(wide).permute(2, 0, 1))
    assert (image[:, :50] == image[:, 50:51]).all() and (image[:, 150:] == image[:, 149:150]).all()


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((480, 320), None),
        ((120, 80), None),
        ((320, 213), None),
        ((320, 240), "only its middle 320 x 213 pixels are used"),
        ((300, 300), "only its middle 300 x 200 pixels are used"),
        ((640, 360), "extended by 33 rows above and below"),
    ],
)
def test_framing_note_describes_cropping_and_padding(
    size: tuple[int, int], says: str | None
) -> None:
    note = framing_note(size, (120, 80))
    assert note is None if says is None else says in str(note)


def test_the_size_of_a_file_is_that_of_its_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "b.png")
    assert image_size(tmp_path / "a.jpg") == (20, 30)
    assert image_size(tmp_path / "b.png") == (30, 20)
