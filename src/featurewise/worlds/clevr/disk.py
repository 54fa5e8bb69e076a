"""Training batches from files in the format of CLEVR v1.0, CLEVR-CoGenT and CLEVR-Humans."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from featurewise.common.cache import cache_folder
from featurewise.common.files import file_sha256
from featurewise.worlds.clevr import pool
from featurewise.worlds.clevr.data import PoolSource, type_index
from featurewise.worlds.clevr.errors import FormatError
from featurewise.worlds.clevr.formats import ClevrFolder, QuestionRecord, iter_questions
from featurewise.worlds.clevr.images import load_image
from featurewise.worlds.clevr.pool import Block, Plan, Progress
from featurewise.worlds.clevr.vocabulary import ANSWERS
from featurewise.worlds.clevr.words import VOCABULARY, encode
from featurewise.worlds.digests import content_digests
from featurewise.worlds.files import as_json

#: Pictures read between two points at which an interrupted reading can go on.
_BLOCK: Final = 250


class DiskSource(PoolSource):
    """Batches from files in the format of CLEVR v1.0, CLEVR-CoGenT or CLEVR-Humans.

    The first use reads and checks every question and picture and keeps them as a pool in
    ``cache``; later uses open that. The pool's name holds a hash of the questions file, of the
    names and contents of the pictures and of the wanted size, so a changed data set is read
    anew. Pictures without questions are left out; questions keep their order within a picture.

    Args:
        folder: the data set, with ``images`` and ``questions``.
        split: name of the split, such as ``val``.
        width: width of the pictures in a batch.
        height: height of the pictures in a batch.
        questions: another questions file about the split's pictures (CLEVR-Humans).
        cache: folder for pools; by default :func:`featurewise.worlds.files.cache_folder`.
        progress: called with the number of pictures read and wanted.
        seed: as in :class:`PoolSource`.
        images_per_batch: as in :class:`PoolSource`.
        questions_per_image: as in :class:`PoolSource`.

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
        cache: Path | str | None = None,
        progress: Progress | None = None,
        seed: int = 0,
        images_per_batch: int = 16,
        questions_per_image: int | None = None,
    ) -> None:
        place = ClevrFolder(Path(folder), split)
        asked = place.questions if questions is None else Path(questions)
        root = cache_folder() if cache is None else Path(cache)
        settings = _fingerprint(place, asked, width, height, root)
        digest = hashlib.sha256(as_json(settings)).hexdigest()
        target = root / f"clevr-{split}-{width}x{height}-{digest[:16]}"
        if not (target / pool.MANIFEST).exists():
            pool.build(target, _plan(place, asked, settings), progress=progress)
        super().__init__(
            target,
            seed=seed,
            images_per_batch=images_per_batch,
            questions_per_image=questions_per_image,
        )


def _fingerprint(
    place: ClevrFolder, questions: Path, width: int, height: int, cache: Path
) -> dict[str, int | str]:
    """What decides the content of the pool made from a data set's files."""
    for path, kind in ((place.images, Path.is_dir), (questions, Path.is_file)):
        if not kind(path):
            raise FormatError.at(path, "not found")
    folder = place.images.resolve()
    pictures = sorted(path for path in folder.iterdir() if path.is_file())
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    digests = content_digests(pictures, cache / "digests" / f"{name}.json")
    listing = hashlib.sha256()
    for path, digest in zip(pictures, digests, strict=True):
        listing.update(f"{path.name}\0{digest}\n".encode(errors="surrogateescape"))
    return {
        "width": width,
        "height": height,
        "questions_sha256": file_sha256(questions),
        "pictures_sha256": listing.hexdigest(),
        "vocabulary_sha256": hashlib.sha256("\n".join(VOCABULARY).encode()).hexdigest(),
    }


class _Asked(NamedTuple):
    tokens: NDArray[np.uint16]
    answer: int
    type: int


def _plan(place: ClevrFolder, questions: Path, settings: Mapping[str, int | str]) -> Plan:
    names, asked = _by_picture(place, questions)
    width, height = int(settings["width"]), int(settings["height"])
    indices = sorted(names)

    def make(block: int, size: int) -> Block:
        start = block * _BLOCK
        some = indices[start : start + size]
        pictures = [load_image(place.image(names[index]), width, height) for index in some]
        about = [question for index in some for question in asked[index]]
        return Block(
            images=torch.stack(pictures).numpy(),
            objects=np.full((len(some), 10, 6), -1, dtype=np.int16),
            counts=[len(asked[index]) for index in some],
            tokens=[question.tokens for question in about],
            answers=[question.answer for question in about],
            types=[question.type for question in about],
        )

    return Plan(settings, (len(indices), 3, height, width), _BLOCK, make)


def _by_picture(
    place: ClevrFolder, questions: Path
) -> tuple[dict[int, str], dict[int, list[_Asked]]]:
    """File name of every picture that is asked about, and what is asked, in the file's order."""
    names: dict[int, str] = {}
    asked: dict[int, list[_Asked]] = {}
    for record in iter_questions(questions):
        index, name = record.image_index, record.image_filename
        if record.split != place.split:
            raise FormatError.at(questions, f"is of split {record.split!r}, not {place.split!r}")
        if names.setdefault(index, name) != name:
            raise FormatError.at(questions, f"picture {index} is both {names[index]} and {name}")
        asked.setdefault(index, []).append(_asked(record))
    if not names:
        raise FormatError.at(questions, "holds no question")
    return names, asked


def _asked(record: QuestionRecord) -> _Asked:
    tokens = np.asarray(encode(record.text), dtype=np.uint16)
    answer = -1 if record.answer is None else ANSWERS.index(record.answer)
    kind = -1 if record.program is None else type_index(record.program)
    return _Asked(tokens, answer, kind)
