"""Written data sets can be read by this package and by loaders for CLEVR v1.0."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featurewise.worlds.clevr import (
    ClevrFolder,
    DiskSource,
    FormatError,
    Recipe,
    WorldError,
    execute,
    read_questions,
    read_scenes,
    write_dataset,
)
from featurewise.worlds.clevr.camera import Camera
from featurewise.worlds.clevr.render import default_renderer

COUNT, BLOCK = 7, 3
SETTINGS: dict[str, Any] = {
    "count": COUNT,
    "seed": 4,
    "split": "val",
    "questions_per_image": 4,
    "width": 24,
    "height": 16,
    "samples": 1,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a few images."""
    monkeypatch.setattr("featurewise.worlds.clevr.write.BALANCE_BLOCK", BLOCK)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurewise.worlds.clevr.write.BALANCE_BLOCK", BLOCK)
        write_dataset(root, **SETTINGS)
    return root


def digest(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def public_loader(root: Path, split: str) -> Iterator[tuple[np.ndarray, dict[str, Any], list[str]]]:
    """As published CLEVR code: questions, images by name, programs as function[value]."""
    with open(root / f"questions/CLEVR_{split}_questions.json") as file:  # noqa: PTH123
        questions = json.load(file)["questions"]
    for question in questions:
        path = root / "images" / split / question["image_filename"]
        image = np.asarray(Image.open(path).convert("RGB"))
        program = []
        for step in question["program"]:
            value = step["value_inputs"]
            assert len(step["inputs"]) <= 2 and len(value) <= 1
            program.append(step["function"] + (f"[{value[0]}]" if value else ""))
        yield image, question, program


def test_a_public_loader_reads_written_data_sets(root: Path) -> None:
    rows = list(public_loader(root, "val"))
    assert len(rows) == 4 * COUNT
    for number, (image, question, program) in enumerate(rows):
        assert image.shape == (16, 24, 3) and image.std() > 1
        assert set(question) == {
            "split",
            "image_index",
            "image_filename",
            "question",
            "answer",
            "program",
            "question_family_index",
            "question_index",
        }
        assert question["split"] == "val" and question["question_index"] == number
        assert question["image_filename"] == f"CLEVR_val_{question['image_index']:06d}.png"
        assert isinstance(question["answer"], str)
        assert program[0] == "scene"
    assert sorted({question["image_index"] for _, question, _ in rows}) == list(range(COUNT))


def test_names_are_those_of_the_release(root: Path) -> None:
    images = [f"images/val/CLEVR_val_{index:06d}.png" for index in range(COUNT)]
    files = ["questions/CLEVR_val_questions.json", "scenes/CLEVR_val_scenes.json"]
    assert sorted(digest(root)) == sorted([*images, *files, "manifest_val.json"])


def test_keys_of_scenes_are_those_of_the_release(root: Path) -> None:
    content = json.loads((root / "scenes/CLEVR_val_scenes.json").read_text())
    assert set(content) == {"info", "scenes"}
    assert set(content["info"]) == {"split", "version", "date", "license"}
    for scene in content["scenes"]:
        assert set(scene) == {
            "split",
            "image_index",
            "image_filename",
            "objects",
            "directions",
            "relationships",
        }
        assert set(scene["directions"]) == {"left", "right", "front", "behind", "above", "below"}
        for thing in scene["objects"]:
            assert set(thing) == {
                "shape",
                "size",
                "material",
                "color",
                "3d_coords",
                "rotation",
                "pixel_coords",
            }


def test_images_are_opaque_rgba_of_the_renderer(root: Path) -> None:
    recipe = Recipe(seed=4, width=24, height=16, samples=1, questions_per_image=4)
    images = torch.cat(
        [recipe.images(recipe.scenes(block, size)) for block, size in enumerate((3, 3, 1))]
    )
    for index, expected in enumerate(images):
        with Image.open(root / f"images/val/CLEVR_val_{index:06d}.png") as image:
            assert image.mode == "RGBA" and image.format == "PNG"
            pixels = np.array(image)
        assert (pixels[..., 3] == 255).all()
        np.testing.assert_array_equal(pixels[..., :3], expected.numpy().transpose(1, 2, 0))


def test_written_scenes_and_questions_can_be_read(root: Path, tmp_path: Path) -> None:
    place = ClevrFolder(root, "val")
    scenes = read_scenes(place.scenes)
    recipe = Recipe(seed=4, width=24, height=16, samples=1, questions_per_image=4)
    sampled = [scene for b, size in enumerate((3, 3, 1)) for scene in recipe.scenes(b, size)]
    for record, original in zip(scenes, sampled, strict=True):
        for thing, was in zip(record.scene.objects, original.objects, strict=True):
            assert thing.position == was.position and thing.color == was.color
    for question in read_questions(place.questions):
        assert question.program is not None
        assert execute(question.program, scenes[question.image_index].scene) == question.answer
    source = DiskSource(root, "val", width=12, height=8, cache=tmp_path, images_per_batch=COUNT)
    assert source.batch(0).images.shape == (COUNT, 3, 8, 12)


def test_pixel_coordinates_are_those_of_the_written_size(root: Path) -> None:
    recipe = Recipe(seed=4, width=24, height=16, samples=1)
    (scene, *_) = recipe.scenes(0, 3)
    assert scene.camera is not None
    (record, *_) = read_scenes(root / "scenes/CLEVR_val_scenes.json")
    for thing in record.scene.objects:
        assert thing.pixel is not None
        x, y, depth = Camera.at(scene.camera).project(np.array([thing.position]), 24, 16)[0]
        assert abs(thing.pixel[0] - x) <= 1.0 and abs(thing.pixel[1] - y) <= 1.0
        assert thing.pixel[2] == pytest.approx(depth, rel=1e-6)


def test_the_manifest_has_the_hash_of_every_file(root: Path) -> None:
    manifest = json.loads((root / "manifest_val.json").read_text())
    files = digest(root)
    del files["manifest_val.json"]
    assert manifest["sha256"] == files
    assert manifest["settings"]["seed"] == 4 and manifest["settings"]["count"] == COUNT
    modules = {"numba": "packets", "torch": "render"}
    module = f"featurewise.worlds.clevr.{modules[default_renderer()]}"
    assert manifest["settings"]["renderer"] == module


def test_the_same_settings_give_identical_files(root: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, **SETTINGS)
    assert digest(tmp_path) == digest(root)
    write_dataset(tmp_path / "other", **{**SETTINGS, "seed": 5})
    other = digest(tmp_path / "other")
    assert not set(other.values()) & set(digest(root).values())


class InterruptionError(Exception):
    """Ends a run from its progress callback."""


@pytest.mark.parametrize("after", [1, BLOCK, 2 * BLOCK, COUNT])
def test_an_interrupted_call_is_resumed(
    root: Path, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurewise.worlds.clevr.write._IMAGES_PER_JOB", 1)

    def stop(done: int, total: int) -> None:
        if done >= after:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        write_dataset(tmp_path, **SETTINGS, on_progress=stop)
    assert not (tmp_path / "manifest_val.json").exists()
    (tmp_path / "images/val/.CLEVR_val_000099.png.123").write_bytes(b"half a pic")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "images/val").glob("CLEVR_*.png")}
    assert len(kept) == after
    seen: list[int] = []
    write_dataset(tmp_path, **SETTINGS, on_progress=lambda done, total: seen.append(done))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert seen == sorted(seen) and seen[-1] == COUNT
    assert digest(tmp_path) == digest(root)


def test_a_finished_data_set_is_not_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(root)

    def fail(*args: object) -> None:
        raise AssertionError("rendered again")

    monkeypatch.setattr(Recipe, "scenes", fail)
    assert write_dataset(root, **SETTINGS) == root / "manifest_val.json"
    assert digest(root) == before


def test_other_settings_in_the_same_folder_are_rejected(root: Path, tmp_path: Path) -> None:
    before = digest(root)
    with pytest.raises(WorldError, match="other settings: seed 4, not 5; width 24, not 25; choose"):
        write_dataset(root, **{**SETTINGS, "count": COUNT + 1, "seed": 5, "width": 25})
    with pytest.raises(WorldError, match=f"has {COUNT} images, more than {COUNT - 1}"):
        write_dataset(root, **{**SETTINGS, "count": COUNT - 1})
    assert digest(root) == before
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "images/val/CLEVR_val_000000.png").write_bytes(b"of another program")
    with pytest.raises(WorldError, match="contains images already"):
        write_dataset(tmp_path, **SETTINGS)
    assert (tmp_path / "images/val/CLEVR_val_000000.png").read_bytes() == b"of another program"


@pytest.mark.parametrize("name", ["scenes", "questions"])
def test_other_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name / f"CLEVR_val_{name}.json"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with pytest.raises(WorldError, match="exists already; choose another folder"):
        write_dataset(tmp_path, **SETTINGS)
    assert theirs.read_text() == "mine"


@pytest.mark.parametrize("first", [1, BLOCK, BLOCK + 1, COUNT - 1])
def test_a_finished_data_set_can_be_extended(root: Path, tmp_path: Path, first: int) -> None:
    write_dataset(tmp_path, **{**SETTINGS, "count": first})
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "images/val").iterdir()}
    assert len(kept) == first
    write_dataset(tmp_path, **SETTINGS)
    assert digest(tmp_path) == digest(root)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize("after", [2, BLOCK, COUNT])
def test_an_interrupted_extension_is_resumed(root: Path, tmp_path: Path, after: int) -> None:
    def stop(done: int, total: int) -> None:
        if done >= after:
            raise InterruptionError

    write_dataset(tmp_path, **{**SETTINGS, "count": 1})
    with pytest.raises(InterruptionError):
        write_dataset(tmp_path, **SETTINGS, on_progress=stop)
    write_dataset(tmp_path, **SETTINGS)
    assert digest(tmp_path) == digest(root)


def test_an_unfinished_data_set_can_be_extended(root: Path, tmp_path: Path) -> None:
    """Interrupted after its only block, then extended and interrupted after that block's images."""

    def stop(count: int, after: int, times: int) -> None:
        seen: list[int] = []

        def progress(done: int, total: int) -> None:
            seen.append(done)
            if seen.count(after) == times:
                raise InterruptionError

        with pytest.raises(InterruptionError):
            write_dataset(tmp_path, **{**SETTINGS, "count": count}, on_progress=progress)

    stop(1, after=1, times=2)  # its entries are written, the manifest is not
    stop(COUNT, after=BLOCK, times=1)
    write_dataset(tmp_path, **SETTINGS)
    assert digest(tmp_path) == digest(root)


def test_a_data_set_with_a_changed_image_cannot_be_extended(tmp_path: Path) -> None:
    write_dataset(tmp_path, **{**SETTINGS, "count": 2})
    (tmp_path / "images/val/CLEVR_val_000001.png").write_bytes(b"changed")
    with pytest.raises(FormatError, match=r"000001\.png: was changed since it was written"):
        write_dataset(tmp_path, **SETTINGS)


def test_several_processes_write_identical_files(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featurewise.worlds.clevr.write._MIN_IMAGES_PER_WORKER", 1)
    write_dataset(tmp_path, **SETTINGS, workers=2)
    assert digest(tmp_path) == digest(root)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_broken_manifest_is_rejected(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest_val.json").write_text(text)
    with pytest.raises(FormatError, match=r"manifest_val\.json"):
        write_dataset(tmp_path, **SETTINGS)


def test_splits_share_a_folder_and_test_splits_hide_answers(tmp_path: Path) -> None:
    few = {**SETTINGS, "count": 2}
    write_dataset(tmp_path, **{**few, "split": "valB", "cogent": "B"})
    write_dataset(tmp_path, **{**few, "split": "testA", "cogent": "A", "seed": 9})
    assert not (tmp_path / "scenes/CLEVR_testA_scenes.json").exists()
    entries = json.loads((tmp_path / "questions/CLEVR_testA_questions.json").read_text())
    for entry in entries["questions"]:
        assert set(entry) == {
            "split",
            "image_index",
            "image_filename",
            "question",
            "question_index",
        }
    for record in read_scenes(tmp_path / "scenes/CLEVR_valB_scenes.json"):
        for thing in record.scene.objects:
            assert not (thing.shape == "cube" and thing.color in ("gray", "blue"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 0}, "count"),
        ({"count": 10**6 + 1}, "count"),
        ({"seed": -1}, "seed"),
        ({"split": "../val"}, "split"),
        ({"split": ""}, "split"),
        ({"width": 0}, "width"),
        ({"questions_per_image": 0}, "questions_per_image"),
    ],
)
def test_impossible_settings_are_rejected(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(WorldError, match=says):
        write_dataset(tmp_path / "out", **{**SETTINGS, **change})
    assert not (tmp_path / "out").exists()
