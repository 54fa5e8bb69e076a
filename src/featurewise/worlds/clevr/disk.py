"""Batches from files in the format of CLEVR v1.0, CLEVR-CoGenT and CLEVR-Humans.

Of a question, only what a batch needs is read: its words, its image, its answer where it has one,
and the last function of its program, which is its type. The rest of the file is ignored here;
:func:`.formats.read_questions` reads all of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from featurewise.common.cache import cache_folder
from featurewise.common.files import file_sha256
from featurewise.common.json import Node, failing, stream_array
from featurewise.worlds.clevr import pool
from featurewise.worlds.clevr.camera import HEIGHT, WIDTH
from featurewise.worlds.clevr.data import PoolSource, object_table
from featurewise.worlds.clevr.errors import FormatError
from featurewise.worlds.clevr.formats import (
    ClevrFolder,
    answer_word,
    iter_scenes,
    number_of,
    question_text,
    read_image_name,
)
from featurewise.worlds.clevr.images import image_size, load_image
from featurewise.worlds.clevr.pool import IMAGES_HASH_KEY, Block, Plan, Progress
from featurewise.worlds.clevr.scene import Scene
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES, VOCABULARY
from featurewise.worlds.clevr.words import encode
from featurewise.worlds.digests import content_digests
from featurewise.worlds.files import as_json

#: Images in a block; an interrupted reading resumes with the first missing block.
_BLOCK: Final = 250
#: Version of the rules of reading (framing, spelling variants); increased when they change.
_READING: Final = 2


class DiskSource(PoolSource):
    """Batches from files in the format of CLEVR v1.0, CLEVR-CoGenT or CLEVR-Humans.

    The first use reads and checks every question and image and stores them as a pool in ``cache``;
    later uses open that pool. Its name contains a hash of the questions file, of the names and
    contents of the images, and of the size of the images, so a changed data set is read again.
    Images without questions are left out; questions keep their order within an image.

    Args:
        folder: the data set, with ``images`` and ``questions``.
        split: name of the split, such as ``val``.
        width: width of the images in a batch.
        height: height of the images in a batch.
        questions: another questions file about the split's images (CLEVR-Humans).
        limit: only the first ``limit`` images of the questions file, and the questions about them
            that come before the next image; no other image is read.
        labels: also read the objects of the images, from the scenes file (``Batch.objects``).
        cache: folder for pools; default: :func:`featurewise.common.cache.cache_folder`.
        on_progress: called with the number of images read so far and the number to read.
        seed: as in :class:`PoolSource`.
        images_per_batch: as in :class:`PoolSource`.
        questions_per_image: as in :class:`PoolSource`.
        share: as in :class:`PoolSource`.

    Raises:
        FormatError: if a file is missing or not what the format promises.
        WorldError: as :class:`PoolSource`.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        *,
        width: int = 120,
        height: int = 80,
        questions: Path | str | None = None,
        limit: int | None = None,
        labels: bool = False,
        cache: Path | str | None = None,
        on_progress: Progress | None = None,
        seed: int = 0,
        images_per_batch: int = 16,
        questions_per_image: int | None = None,
        share: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        dataset = ClevrFolder(Path(folder), split)
        path = dataset.questions if questions is None else Path(questions)
        root = cache_folder() if cache is None else Path(cache)
        files = _Files(dataset, path, limit, labels)
        settings = files.fingerprint(width, height, root)
        digest = hashlib.sha256(as_json(settings)).hexdigest()
        target = root / f"clevr-{split}-{width}x{height}-{digest[:16]}"
        if not (target / pool.MANIFEST).exists():
            pool.build(target, files.plan(settings), on_progress=on_progress)
        super().__init__(
            target,
            seed=seed,
            images_per_batch=images_per_batch,
            questions_per_image=questions_per_image,
            share=share,
        )


class Query(NamedTuple):
    """The parts of a question that a batch needs.

    Attributes:
        name: file name of its image, without folder.
        text: the question.
        answer: index in ``ANSWERS``, -1 where the file has none.
        type: index in ``QUESTION_TYPES``, -1 where the file names none of these.
        number: its number in the file ("question_index"); where the file has none, its position.
    """

    name: str
    text: str
    answer: int
    type: int
    number: int


def read_queries(
    dataset: ClevrFolder, questions: Path | None = None, limit: int | None = None
) -> dict[str, list[Query]]:
    """The questions about each image of a split, in the order of :class:`DiskSource`.

    Args:
        dataset: the split.
        questions: the file; default: that of the split.
        limit: stop before the image that follows the first ``limit``.

    Raises:
        FormatError: if the file is missing, holds no question, or lacks what a batch needs.
    """
    path = dataset.questions if questions is None else questions
    if not path.is_file():
        raise FormatError.at(path, "not found")
    found: dict[str, list[Query]] = {}
    indices: dict[int, str] = {}
    for position, node in enumerate(stream_array(path, "questions", failing(FormatError, path))):
        name = read_image_name(node)
        if name not in found:
            if len(found) == limit:
                break
            _require_one_name(node, name, indices)
        found.setdefault(name, []).append(_query(node, name, position, dataset.split))
    if not found:
        raise FormatError.at(path, "holds no question")
    _require_answers_throughout(path, found)
    order = {name: index for index, name in indices.items()}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _require_one_name(node: Node, name: str, indices: dict[int, str]) -> None:
    """Raise an error if two images of a file have the same index."""
    index = node["image_index"].integer(0, 10**9) if "image_index" in node else number_of(name)
    if index is not None and indices.setdefault(index, name) != name:
        raise node.error(f"image {index} is both {indices[index]} and {name}")


def _query(node: Node, name: str, position: int, split: str) -> Query:
    if "split" in node and node["split"].text() != split:
        raise node["split"].error(f"is of split {node['split'].text()[:60]!r}, not {split!r}")
    answer = "answer" in node and node["answer"].value is not None
    number = "question_index" in node and node["question_index"].value is not None
    return Query(
        name=name,
        text=question_text(node["question"]),
        answer=ANSWERS.index(answer_word(node["answer"])) if answer else -1,
        type=_type(node),
        number=node["question_index"].integer(0, 10**9) if number else position,
    )


def _type(node: Node) -> int:
    """Index of the program's last function, in the spelling of the release or the generator."""
    program = node["program"].value if "program" in node else None
    last = program[-1] if isinstance(program, list) and program else None
    if not isinstance(last, dict):
        return -1
    function = last.get("function", last.get("type"))
    return QUESTION_TYPES.index(function) if function in QUESTION_TYPES else -1


def _require_answers_throughout(path: Path, queries: Mapping[str, Sequence[Query]]) -> None:
    known = {question.answer >= 0 for some in queries.values() for question in some}
    if len(known) > 1:
        raise FormatError.at(path, "some questions of this file have an answer and some have none")


class _Files:
    """The files of a split that a pool is made of."""

    def __init__(
        self, dataset: ClevrFolder, questions: Path, limit: int | None, labels: bool
    ) -> None:
        self.dataset, self.questions, self.limit, self.labels = dataset, questions, limit, labels
        for path, kind in ((dataset.images, Path.is_dir), (questions, Path.is_file)):
            if not kind(path):
                raise FormatError.at(path, "not found")

    def fingerprint(self, width: int, height: int, cache: Path) -> dict[str, int | str]:
        """Settings that determine the content of the pool made from these files.

        Their hash names the pool's folder, so they keep the keys of version 0.1.
        """
        settings: dict[str, int | str] = {
            "width": width,
            "height": height,
            "reading": _READING,
            "questions_sha256": file_sha256(self.questions),
            IMAGES_HASH_KEY: self._listing(cache),
            "vocabulary_sha256": hashlib.sha256("\n".join(VOCABULARY).encode()).hexdigest(),
        }
        if self.limit is not None:
            settings["limit"] = self.limit
        if self.labels:
            settings["scenes_sha256"] = file_sha256(self.dataset.scenes)
        return settings

    def _listing(self, cache: Path) -> str:
        """Hash of the names and contents of the images; for a link, the content of its target."""
        images = sorted(self._images(), key=lambda path: path.name)
        name = hashlib.sha256(os.fsencode(self.dataset.images.resolve())).hexdigest()[:16]
        digests = content_digests(images, cache / "digests" / f"{name}.json")
        found = hashlib.sha256()
        for path, digest in zip(images, digests, strict=True):
            found.update(f"{path.name}\0{digest}\n".encode(errors="surrogateescape"))
        return found.hexdigest()

    def _images(self) -> Iterable[Path]:
        if self.limit is None:
            return (path for path in self.dataset.images.iterdir() if path.is_file())
        return (self.dataset.image(name) for name in read_queries(*self._source))

    @property
    def _source(self) -> tuple[ClevrFolder, Path, int | None]:
        return self.dataset, self.questions, self.limit

    def plan(self, settings: Mapping[str, int | str]) -> Plan:
        """Plan of the pool."""
        queries = read_queries(*self._source)
        width, height = int(settings["width"]), int(settings["height"])
        names = list(queries)
        objects = self._objects(names)

        def make(block: int, size: int) -> Block:
            some = slice(block * _BLOCK, block * _BLOCK + size)
            paths = [self.dataset.image(name) for name in names[some]]
            about = [question for name in names[some] for question in queries[name]]
            return Block(
                images=torch.stack([load_image(path, width, height) for path in paths]).numpy(),
                objects=objects[some],
                counts=[len(queries[name]) for name in names[some]],
                tokens=[np.asarray(encode(question.text), np.uint16) for question in about],
                answers=[question.answer for question in about],
                types=[question.type for question in about],
            )

        return Plan(settings, (len(names), 3, height, width), _BLOCK, make)

    def _objects(self, names: Sequence[str]) -> NDArray[np.int16]:
        """The objects of each image, as in ``Block.objects``; -1 without ``labels``."""
        table = np.full((len(names), 10, 6), -1, dtype=np.int16)
        if not self.labels:
            return table
        rows = {name: row for row, name in enumerate(names)}
        for record in iter_scenes(self.dataset.scenes):
            if (row := rows.pop(record.image_filename, None)) is not None:
                size = image_size(self.dataset.image(record.image_filename))
                table[row] = _in_frame(record.scene, size)
        if rows:
            raise FormatError.at(self.dataset.scenes, f"has no scene of {next(iter(rows))}")
        return table


def _in_frame(scene: Scene, size: tuple[int, int]) -> NDArray[np.int16]:
    """A row of ``Block.objects``, from coordinates in an image of this width and height."""
    row: NDArray[np.int16] = object_table([scene])[0]
    present = row[:, 0] >= 0
    scale = WIDTH / size[0]
    row[present, 4] = np.rint(row[present, 4] * scale)
    row[present, 5] = np.rint((row[present, 5] - size[1] / 2) * scale + HEIGHT / 2)
    return row
