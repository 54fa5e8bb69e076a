"""Write a data set that readers of CLEVR v1.0 can read.

The pictures are drawn and the questions asked by this package; nothing in the folder comes from
CLEVR. File names, keys and the RGBA pictures are those of the release, so that public loaders work
unchanged.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image
from torch import Tensor

from featurewise.common.files import file_sha256, write_bytes
from featurewise.worlds.clevr.camera import HEIGHT, WIDTH
from featurewise.worlds.clevr.errors import FormatError, WorldError
from featurewise.worlds.clevr.formats import (
    MAX_INDEX,
    ClevrFolder,
    QuestionRecord,
    SceneRecord,
    image_name,
    is_split,
    question_to_json,
    scene_to_json,
    write_array,
)
from featurewise.worlds.clevr.generate import BALANCE_BLOCK, Recipe
from featurewise.worlds.clevr.processes import completed
from featurewise.worlds.clevr.questions import Question
from featurewise.worlds.clevr.scene import Scene
from featurewise.worlds.files import as_json

#: Pictures drawn between two looks at what is finished already.
_DRAWN_AT_ONCE: Final = 2
#: A process is started for so many pictures, or it would take longer to start than to draw.
_WORTH_A_PROCESS: Final = 4


def write_dataset(
    out: Path | str,
    *,
    count: int,
    seed: int,
    split: str = "train",
    questions_per_image: int = 10,
    width: int = 480,
    height: int = 320,
    samples: int = 16,
    cogent: Literal["A", "B"] | None = None,
    workers: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw and write one split of a data set; several splits may share a folder.

    Interrupted at any moment, the same call keeps the finished pictures and goes on; the result has
    the same bytes. So it does when a smaller number was written before. Every file appears whole.
    ``manifest_<split>.json`` is written last and holds the settings and the SHA-256 of every other
    file. As in the release, splits whose names begin
    with "test" get questions without answers and programs, and no scenes file.

    Args:
        out: folder of the data set; made if missing.
        count: number of pictures.
        seed: decides the content, together with the settings; give each split another one.
        split: name of the split (letters, digits, "_" and "-").
        questions_per_image: questions about each picture; a few pictures allow fewer.
        width: width of the pictures in pixels.
        height: height of the pictures in pixels.
        samples: paths per pixel, a square number.
        cogent: CLEVR-CoGenT condition of the colours, or None for all of them. The release calls
            the splits of condition A trainA, valA and testA.
        workers: processes to draw in, each with one thread; 0 draws in this one. The bytes do not
            depend on it.
        on_progress: called with the number of finished pictures and ``count``.

    Returns:
        The path of the manifest.

    Raises:
        WorldError: if an argument is out of its range, or the folder holds a split of this name
            with other settings, or with more pictures.
        FormatError: if a picture that is to be kept was changed.
    """
    if not 1 <= count <= MAX_INDEX + 1:
        raise WorldError(f"count must lie in 1..{MAX_INDEX + 1}, got {count}")
    if not is_split(split):
        raise WorldError(f"{split!r} is no name of a split; use letters, digits, '_' and '-'")
    recipe = Recipe(
        seed=seed,
        width=width,
        height=height,
        samples=samples,
        questions_per_image=questions_per_image,
        cogent=cogent,
    )
    return _Writer(ClevrFolder(Path(out), split), recipe, count, workers).write(on_progress)


class _Writer:
    """Writes one split, block by block."""

    def __init__(self, place: ClevrFolder, recipe: Recipe, count: int, workers: int) -> None:
        self.place, self.recipe, self.count, self.workers = place, recipe, count, workers
        self.manifest = place.root / f"manifest_{place.split}.json"
        self.begun = place.root / f".begun_{place.split}"
        self.settings = {
            "split": place.split,
            "count": count,
            "seed": recipe.seed,
            "questions_per_image": recipe.questions_per_image,
            "width": recipe.width,
            "height": recipe.height,
            "samples": recipe.samples,
            "cogent": recipe.cogent,
            "renderer": "featurewise.worlds.clevr.render",
        }
        self.is_test = place.split.startswith("test")

    def write(self, on_progress: Callable[[int, int], None] | None) -> Path:
        if self.manifest.exists() and self._settings_in(self.manifest) == self.settings:
            return self.manifest
        self._begin()
        for block in range(-(-self.count // BALANCE_BLOCK)):
            self._write_block(block, on_progress)
        self._join()
        self._write_manifest()
        self._clear()
        return self.manifest

    def _begin(self) -> None:
        """Begins, or goes on with what was begun, or with a finished smaller number."""
        settings = self.begun / "settings.json"
        earlier = next(filter(Path.exists, (settings, self.manifest)), None)
        if earlier is None:
            self._require_empty()
        else:
            self._continue(earlier)
        for folder in (self.place.images, self.place.questions.parent, self.begun):
            folder.mkdir(parents=True, exist_ok=True)
        write_bytes(settings, as_json({"settings": self.settings}))
        self.manifest.unlink(missing_ok=True)

    def _require_empty(self) -> None:
        images = self.place.images
        if images.is_dir() and any(images.iterdir()):
            raise WorldError(f"{images}: holds pictures already; name another folder")
        for path in (self.place.scenes, self.place.questions):
            if path.exists():
                raise WorldError(f"{path}: exists already; name another folder or split")

    def _continue(self, earlier: Path) -> None:
        found = self._settings_in(earlier)
        differing = [
            f"{name} {found.get(name)}, not {value}"
            for name, value in self.settings.items()
            if name != "count" and found.get(name) != value
        ]
        if differing:
            raise WorldError(
                f"{earlier}: this split was begun with other settings: {'; '.join(differing)}; "
                "name another folder or split"
            )
        if found["count"] > self.count:
            raise WorldError(
                f"{earlier}: this split has {found['count']} pictures, more than {self.count}; "
                "name another folder or split"
            )
        if earlier == self.manifest:
            self._verify(found["count"])
        if found["count"] < self.count:  # the last block gets more pictures
            self._part(found["count"] // BALANCE_BLOCK).unlink(missing_ok=True)

    def _verify(self, count: int) -> None:
        """Makes sure that the pictures that are kept are those that were written."""
        try:
            hashes = json.loads(self.manifest.read_text(encoding="utf-8"))["sha256"]
            known = [hashes[self._name(index)] for index in range(count)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FormatError.at(self.manifest, f"not a readable manifest ({error!r})") from error
        for index, digest in enumerate(known):
            path = self._path(index)
            if path.exists() and file_sha256(path) != digest:
                raise FormatError.at(path, "was changed since it was written; delete it")

    def _settings_in(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["settings"]
            return {**found, "count": int(found["count"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FormatError.at(path, f"not a readable manifest ({error!r})") from error

    def _write_block(self, block: int, on_progress: Callable[[int, int], None] | None) -> None:
        start = block * BALANCE_BLOCK
        stop = min(start + BALANCE_BLOCK, self.count)
        part = self._part(block)
        if not part.exists() or self._missing(start, stop):
            scenes = self.recipe.scenes(block, stop - start)
            self._draw(start, scenes, on_progress)
            write_bytes(part, as_json(self._entries(block, start, scenes)))
        if on_progress:
            on_progress(stop, self.count)

    def _part(self, block: int) -> Path:
        return self.begun / f"{block:06d}.json"

    def _path(self, index: int) -> Path:
        return self.place.images / image_name(self.place.split, index)

    def _name(self, index: int) -> str:
        """As the manifest calls a picture."""
        return self._path(index).relative_to(self.place.root).as_posix()

    def _missing(self, start: int, stop: int) -> list[int]:
        return [index for index in range(start, stop) if not self._path(index).exists()]

    def _draw(
        self,
        start: int,
        scenes: Sequence[Scene],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        missing = self._missing(start, start + len(scenes))
        done = start + len(scenes) - len(missing)
        jobs = [
            [(self._path(index), scenes[index - start]) for index in missing[first:stop]]
            for first in range(0, len(missing), _DRAWN_AT_ONCE)
            for stop in [first + _DRAWN_AT_ONCE]
        ]
        if on_progress:
            on_progress(done, self.count)
        workers = min(self.workers, len(missing) // _WORTH_A_PROCESS)
        draw = partial(_draw_files, self.recipe)
        for drawn in completed(draw, jobs, workers if workers > 1 else 0, self.place.root):
            done += drawn
            if on_progress:
                on_progress(done, self.count)

    def _entries(self, block: int, start: int, scenes: Sequence[Scene]) -> dict[str, Any]:
        """The block's entries of the two JSON files; questions get their numbers when joined."""
        asked = self.recipe.questions(block, scenes)
        split = self.place.split
        return {
            "scenes": [
                scene_to_json(SceneRecord(scene, split, index, image_name(split, index)))
                for index, scene in enumerate(map(self._in_pixels, scenes), start)
            ],
            "questions": [
                self._question(question, index)
                for index, questions in enumerate(asked, start)
                for question in questions
            ],
        }

    def _in_pixels(self, scene: Scene) -> Scene:
        """The scene with pixel coordinates of the written size instead of 480 x 320."""
        scale = self.recipe.width / WIDTH
        objects = []
        for thing in scene.objects:
            if thing.pixel is not None:
                column, row, depth = thing.pixel
                below = (row - HEIGHT / 2) * scale + self.recipe.height / 2
                thing = replace(thing, pixel=(round(column * scale), round(below), depth))
            objects.append(thing)
        return replace(scene, objects=tuple(objects))

    def _question(self, question: Question, image_index: int) -> dict[str, Any]:
        split = self.place.split
        record = QuestionRecord.of(question, split=split, image_index=image_index, index=0)
        entry = question_to_json(record)
        hidden = ("answer", "program", "question_family_index") if self.is_test else ()
        return {key: value for key, value in entry.items() if key not in hidden}

    def _join(self) -> None:
        info = {
            "split": self.place.split,
            "version": "1.0",
            "date": "not recorded",
            "license": "Procedural data made by featurewise; not the CLEVR release",
        }
        if not self.is_test:
            self.place.scenes.parent.mkdir(exist_ok=True)
            write_array(self.place.scenes, "scenes", self._parts("scenes"), info)
        numbered = (
            {**entry, "question_index": number}
            for number, entry in enumerate(self._parts("questions"))
        )
        write_array(self.place.questions, "questions", numbered, info)

    def _parts(self, key: str) -> Iterator[dict[str, Any]]:
        for block in range(-(-self.count // BALANCE_BLOCK)):
            yield from json.loads(self._part(block).read_text(encoding="utf-8"))[key]

    def _write_manifest(self) -> None:
        root = self.place.root
        paths = [self._path(index) for index in range(self.count)]
        paths += (
            [self.place.questions] if self.is_test else [self.place.scenes, self.place.questions]
        )
        hashes = {path.relative_to(root).as_posix(): file_sha256(path) for path in paths}
        write_bytes(self.manifest, as_json({"settings": self.settings, "sha256": hashes}))

    def _clear(self) -> None:
        for path in self.begun.iterdir():
            path.unlink()
        self.begun.rmdir()
        for left_by_a_kill in self.place.images.glob(".CLEVR_*"):
            left_by_a_kill.unlink()


def _draw_files(recipe: Recipe, some: Sequence[tuple[Path, Scene]]) -> int:
    """Draws scenes to files; returns how many."""
    pictures = recipe.images([scene for _, scene in some])
    for (path, _), picture in zip(some, pictures, strict=True):
        write_bytes(path, as_png(picture))
    return len(some)


def as_png(picture: Tensor) -> bytes:
    """An RGB picture (3, H, W) as an opaque RGBA PNG, the kind of the release."""
    rgb = Image.fromarray(np.ascontiguousarray(picture.numpy().transpose(1, 2, 0)))
    stream = io.BytesIO()
    rgb.convert("RGBA").save(stream, "PNG")
    return stream.getvalue()
