"""A pool: images and questions as arrays on disk, memory-mapped for fast random access.

A finished pool is a folder with three files (and an empty lock file):

* ``images.npy``: uint8 (images, 3, height, width);
* ``questions.safetensors``: ``tokens`` (the token ids of all questions, concatenated), ``starts``
  (offset of each question in ``tokens``, and their number), ``first`` (index of the first question
  of each image, and the number of questions), ``answers`` and ``types`` (-1 where unknown), and
  ``objects`` (the objects of each image, see ``Block``);
* ``pool.json``: settings, vocabulary, the SHA-256 of the two other files and of its own content. It
  is written last, so a pool without it is unfinished.

Pools are made block by block. A block is complete when its part file is in the folder and contains
the right hash of itself and of the block's images; a damaged block is made again. So making a pool
can be interrupted at any time and resumed, by any number of processes, and the files are identical
byte for byte to those of an uninterrupted run.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from featurewise.common.files import file_sha256, write_bytes
from featurewise.common.locks import file_lock
from featurewise.common.opening import open_regular, read_bytes
from featurewise.common.processes import exit_if_unguarded
from featurewise.worlds.clevr.errors import FormatError, WorldError
from featurewise.worlds.clevr.processes import completed
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES, VOCABULARY
from featurewise.worlds.files import as_json

FORMAT_VERSION: Final = 2
IMAGES, QUESTIONS, MANIFEST = "images.npy", "questions.safetensors", "pool.json"
_PARTS, _SETTINGS, _UNFINISHED = "parts", "settings.json", "unfinished.npy"
_LOCK: Final = ".lock"
#: Bytes of a SHA-256.
_DIGEST: Final = 32
#: Keys that keep their spelling of version 0.1, whose pools are still read: the number of images in
#: ``pool.json``, and the hash of image files in the settings of a ``DiskSource``.
IMAGE_COUNT_KEY: Final = "pictures"
IMAGES_HASH_KEY: Final = "pictures_sha256"
_KEYS: Final = frozenset(
    {"format", "settings", IMAGE_COUNT_KEY, "questions", "vocabulary", "answers", "types", "sha256"}
)

#: Settings that version 0.1 did not write, and their values then.
_FORMER: Final[Mapping[str, Any]] = {"renderer": "torch"}

#: Called with the number of images made so far and the number to make.
Progress = Callable[[int, int], None]
#: Names and values that determine the content of a pool, as JSON values.
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive images of a pool with their questions.

    Args:
        images: uint8 (I, 3, H, W).
        counts: number of questions about each of the I images.
        tokens: token ids of each question, image by image.
        answers: index in ``ANSWERS`` of each question's answer, or -1.
        types: index in ``QUESTION_TYPES`` of each question's type, or -1.
        objects: int16 (I, 10, 6), size, color, material and shape of each object as indices in
            ``ATTRIBUTES``, and its column and row in a 480 x 320 image; -1 where there is no
            object.
    """

    images: NDArray[np.uint8]
    objects: NDArray[np.int16]
    counts: Sequence[int]
    tokens: Sequence[Sequence[int] | NDArray[np.uint16]]
    answers: Sequence[int]
    types: Sequence[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """The specification of a pool: its size, and the function that makes its blocks.

    Args:
        settings: what determines the content; a folder with other settings raises an error.
        shape: (images, 3, height, width).
        block_size: images in a block (the last one may be shorter).
        make: (index of the block, number of its images) -> the block. Must be picklable where
            there are worker processes.
    """

    settings: Settings
    shape: tuple[int, int, int, int]
    block_size: int
    make: Callable[[int, int], Block]

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.shape[0] // self.block_size)

    def rows(self, block: int) -> slice:
        """The images of block number ``block``."""
        start = block * self.block_size
        return slice(start, min(start + self.block_size, self.shape[0]))


def build(
    folder: Path, plan: Plan, *, workers: int = 0, on_progress: Progress | None = None
) -> Path:
    """Make the pool of ``plan`` in ``folder``, or resume an interrupted run.

    If another process or thread is making it, waits for it to finish.

    Args:
        folder: made if it is missing.
        plan: what to make.
        workers: most processes to make blocks in; 0 makes them in this process. So does a single
            missing block, and a program that other processes cannot import (one that comes from
            a pipe).
        on_progress: called after each block.

    Returns:
        The folder, now a finished pool.

    Raises:
        WorldError: if the folder holds a pool of other settings, a worker process died, or a block
            was damaged while others were made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).exists():
        exit_if_unguarded()  # it would wait here for its parent, which waits for it
        with file_lock(folder / _LOCK):
            _build(folder, plan, workers, on_progress)
    _require_same(folder / MANIFEST, plan)
    _clear(folder)
    return folder


def _build(folder: Path, plan: Plan, workers: int, on_progress: Progress | None) -> None:
    if (folder / MANIFEST).exists():  # made by another process or thread, while this one waited
        return
    _begin(folder, plan)
    total = plan.shape[0]
    pending = [block for block, part in enumerate(_parts(folder, plan)) if part is None]
    made = total - sum(_length(plan, block) for block in pending)
    if on_progress and made:
        on_progress(made, total)
    for block in _made_in(folder, plan, pending, workers):
        made += _length(plan, block)
        if on_progress:
            on_progress(made, total)
    _finish(folder, plan, _parts(folder, plan))


def _length(plan: Plan, block: int) -> int:
    rows = plan.rows(block)
    return int(rows.stop - rows.start)


def _begin(folder: Path, plan: Plan) -> None:
    (folder / _PARTS).mkdir(exist_ok=True)
    if (folder / _SETTINGS).exists():
        _require_same(folder / _SETTINGS, plan)
    else:
        write_bytes(folder / _SETTINGS, as_json({"settings": dict(plan.settings)}))
    images = folder / IMAGES
    if not _has_right_header(images, plan):
        # Renamed when it has its full size: a kill must not leave a file cut short.
        unfinished = folder / _UNFINISHED
        np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=plan.shape).flush()
        unfinished.replace(images)


def _has_right_header(images: Path, plan: Plan) -> bool:
    """Whether the file of images exists, with the right type, shape and size."""
    header = BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": plan.shape}
    np.lib.format.write_array_header_1_0(header, described)
    size = len(header.getvalue()) + math.prod(plan.shape)
    try:
        with open_regular(images) as file:
            found = file.read(len(header.getvalue()))
        return found == header.getvalue() and images.stat().st_size == size
    except FileNotFoundError:
        return False


def _require_same(path: Path, plan: Plan) -> None:
    found = _read_json(path).get("settings")
    expected = json.loads(as_json(dict(plan.settings)))
    if not isinstance(found, dict) or {**_FORMER, **found} != {**_FORMER, **expected}:
        raise WorldError(
            f"{path}: this folder was begun with other settings ({found}), not those of this call "
            f"({expected}); choose another folder, or delete this one"
        )


def is_finished(folder: Path) -> bool:
    """Whether ``folder`` holds a finished pool."""
    return (folder / MANIFEST).exists()


def begun_settings(folder: Path) -> Settings | None:
    """The settings of the pool in ``folder``, finished or not; None if there is none.

    Raises:
        FormatError: if they cannot be read.
    """
    for name in (MANIFEST, _SETTINGS):
        if (folder / name).exists():
            found = _read_json(folder / name).get("settings")
            return {**_FORMER, **found} if isinstance(found, dict) else None
    return None


def _made_in(folder: Path, plan: Plan, pending: Sequence[int], workers: int) -> Iterator[int]:
    """Make the ``pending`` blocks; yields each when it is on disk."""
    yield from completed(partial(_make, folder, plan), pending, workers, folder)


def _part(folder: Path, block: int) -> Path:
    return folder / _PARTS / f"{block:06d}.part"


def _make(folder: Path, plan: Plan, block: int) -> int:
    """Make one block: first its images, then the part file, which contains their hash.

    A part file is a SHA-256 followed by the safetensors file that it is the hash of.
    """
    rows = plan.rows(block)
    made = plan.make(block, _length(plan, block))
    images = np.lib.format.open_memmap(folder / IMAGES, mode="r+")
    images[rows] = made.images
    images.flush()
    digest = hashlib.sha256(made.images.tobytes()).digest()
    arrays: dict[str, NDArray[Any]] = {
        "images_sha256": np.frombuffer(digest, dtype=np.uint8).copy(),
        "counts": np.asarray(made.counts, dtype=np.int64),
        "lengths": np.asarray([len(tokens) for tokens in made.tokens], dtype=np.int64),
        "tokens": _flat(made.tokens),
        "answers": np.asarray(made.answers, dtype=np.int8),
        "types": np.asarray(made.types, dtype=np.int8),
        "objects": made.objects,
    }
    content = save(arrays)
    write_bytes(_part(folder, block), hashlib.sha256(content).digest() + content)
    return block


def _flat(tokens: Sequence[Sequence[int] | NDArray[np.uint16]]) -> NDArray[np.uint16]:
    rows = [np.asarray(ids, dtype=np.uint16) for ids in tokens]
    return np.concatenate(rows) if rows else np.zeros(0, np.uint16)


def _parts(folder: Path, plan: Plan) -> list[Mapping[str, NDArray[Any]] | None]:
    """The arrays of every block except its images; None where part or images are incomplete."""
    images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    found: list[Mapping[str, NDArray[Any]] | None] = []
    for block in range(plan.blocks):
        part = _read_part(_part(folder, block))
        digest = hashlib.sha256(images[plan.rows(block)].tobytes()).digest()
        whole = part is not None and part["images_sha256"].tobytes() == digest
        found.append(part if whole else None)
    return found


def _read_part(path: Path) -> Mapping[str, NDArray[Any]] | None:
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return None
    digest, arrays = content[:_DIGEST], content[_DIGEST:]
    return load(arrays) if hashlib.sha256(arrays).digest() == digest else None


def _finish(folder: Path, plan: Plan, parts: Sequence[Mapping[str, NDArray[Any]] | None]) -> None:
    """Join the parts and write the manifest, which marks the pool as finished."""
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise WorldError(
            f"{folder}: block {parts.index(None)} was damaged while others were made; if no other "
            "program writes there, the disk may be failing; run the same call to make the block "
            "again"
        )
    joined = {name: np.concatenate([part[name] for part in whole]) for name in whole[0]}
    questions = {
        "tokens": joined["tokens"],
        "starts": _running_total(joined["lengths"]),
        "first": _running_total(joined["counts"]),
        "answers": joined["answers"],
        "types": joined["types"],
        "objects": joined["objects"],
    }
    write_bytes(folder / QUESTIONS, save(questions))
    manifest = {
        "format": FORMAT_VERSION,
        "settings": dict(plan.settings),
        IMAGE_COUNT_KEY: plan.shape[0],
        "questions": len(joined["answers"]),
        "vocabulary": list(VOCABULARY),
        "answers": list(ANSWERS),
        "types": list(QUESTION_TYPES),
        "sha256": {name: file_sha256(folder / name) for name in (IMAGES, QUESTIONS)},
    }
    write_bytes(folder / MANIFEST, as_json({**manifest, "seal": _seal(manifest)}))


def _seal(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(as_json(manifest)).hexdigest()


def _clear(folder: Path) -> None:
    """Remove temporary files."""
    shutil.rmtree(folder / _PARTS, ignore_errors=True)
    (folder / _SETTINGS).unlink(missing_ok=True)


def _running_total(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


class Pool:
    """A finished pool, opened for reading.

    Args:
        folder: folder that :func:`build` made.
        verify: read both files once and compare their SHA-256 with the manifest.

    Raises:
        FormatError: if a file is missing, altered, of another version, or was made with another
            vocabulary.
    """

    images: NDArray[np.uint8]
    first: NDArray[np.int64]
    answers: NDArray[np.int8]
    types: NDArray[np.int8]
    objects: NDArray[np.int16]

    def __init__(self, folder: Path, *, verify: bool = True) -> None:
        path = folder / MANIFEST
        if not path.is_file():
            raise FormatError.at(path, "not found; the folder holds no finished pool")
        manifest = _read_json(path)
        _check_manifest(path, manifest)
        if verify:
            _check_hashes(folder, manifest)
        self.folder = folder
        self.settings: Settings = manifest["settings"]
        try:
            self.images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FormatError.at(folder / IMAGES, str(error)) from error
        arrays = _read_arrays(folder / QUESTIONS)
        self._tokens, self._starts = arrays["tokens"], arrays["starts"]
        self.first, self.answers, self.types = arrays["first"], arrays["answers"], arrays["types"]
        self.objects = arrays["objects"]
        for name, found in ((IMAGE_COUNT_KEY, len(self.images)), ("questions", len(self.answers))):
            if manifest[name] != found:
                problem = f'"{name}" is {manifest[name]!r}, but the pool holds {found}'
                raise FormatError.at(path, problem)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __reduce__(self) -> tuple[Callable[[Path], Pool], tuple[Path]]:
        # A pickled memory map would contain all images, so another process opens the files again.
        return _reopen, (self.folder,)

    def tokens(self, question: int) -> NDArray[np.uint16]:
        """The token ids of question number ``question``."""
        return self._tokens[self._starts[question] : self._starts[question + 1]]


def _reopen(folder: Path) -> Pool:
    return Pool(folder, verify=False)


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    if manifest.get("format") != FORMAT_VERSION:
        raise FormatError.at(path, f"format {manifest.get('format')!r} instead of {FORMAT_VERSION}")
    content = {name: value for name, value in manifest.items() if name != "seal"}
    try:
        seal = _seal(content)
    except ValueError as error:  # a number that is not finite
        raise FormatError.at(path, str(error)) from error
    # Version 0.1 wrote no seal.
    if content.keys() != _KEYS or manifest.get("seal", seal) != seal:
        raise FormatError.at(path, "altered: its seal is not the hash of its content")
    for name in ("settings", "sha256"):
        if not isinstance(manifest.get(name), dict):
            raise FormatError.at(path, f'"{name}" is missing or not an object')
    contracts = {"vocabulary": VOCABULARY, "answers": ANSWERS, "types": QUESTION_TYPES}
    for name, expected in contracts.items():
        if manifest.get(name) != list(expected):
            raise FormatError.at(path, f"made with other {name}; delete it and make it again")


def _check_hashes(folder: Path, manifest: Mapping[str, Any]) -> None:
    for name in (IMAGES, QUESTIONS):
        path, expected = folder / name, manifest["sha256"].get(name)
        if not path.is_file():
            raise FormatError.at(path, "not found")
        found = file_sha256(path)
        if found != expected:
            raise FormatError.at(path, f"altered: SHA-256 {found} instead of {expected}")


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return load(read_bytes(path))
    except (OSError, SafetensorError) as error:
        raise FormatError.at(path, str(error)) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError.at(path, str(error)) from error
    if not isinstance(content, dict):
        raise FormatError.at(path, "not a JSON object")
    return content
