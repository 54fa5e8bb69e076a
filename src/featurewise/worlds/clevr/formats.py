"""The files of CLEVR v1.0, CLEVR-CoGenT and CLEVR-Humans: reading and writing.

A data set is a folder with ``images/<split>/CLEVR_<split>_000000.png``,
``scenes/CLEVR_<split>_scenes.json`` and ``questions/CLEVR_<split>_questions.json``. CLEVR has the
splits train, val and test, CoGenT trainA, valA, valB, testA and testB; test splits have neither
scenes nor answers. CLEVR-Humans are files of questions without programs about CLEVR's images.
Source: Johnson et al. 2017 (CLEVR and CoGenT) and *Inferring and Executing Programs for Visual
Reasoning* (CLEVR-Humans).

The output of the public generator is read too. It differs from the release: its programs have the
keys "type" instead of "function" and "side_inputs" instead of "value_inputs", its answers are JSON
booleans and integers, and its family index counts within one template file.

All returned values are checked. Errors in a file raise a ``FormatError``, whose message begins with
the path and names the position in the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from featurewise.common.files import write_bytes
from featurewise.common.json import Node, failing, stream_array
from featurewise.worlds.clevr.errors import FormatError, SceneError
from featurewise.worlds.clevr.images import SUFFIXES
from featurewise.worlds.clevr.programs import (
    FUNCTIONS,
    Program,
    ProgramError,
    program_from_json,
    program_to_json,
)
from featurewise.worlds.clevr.questions import Question
from featurewise.worlds.clevr.scene import DIRECTIONS, Object, Scene
from featurewise.worlds.clevr.vocabulary import (
    ANSWERS,
    ATTRIBUTES,
    COLORS,
    MATERIALS,
    SHAPES,
    SIZES,
)
from featurewise.worlds.clevr.words import tokenize

#: Longest question that is accepted, in words; the longest of CLEVR has 44.
MAX_WORDS: Final = 256
#: Most objects in a scene, because the greatest number among the answers is 10.
MAX_OBJECTS: Final = 10
#: Greatest index of an image: file names have six digits.
MAX_INDEX: Final = 999_999

#: Template file of the public generator -> index of its first question family.
FIRST_FAMILY: Final[dict[str, int]] = {
    "compare_integer.json": 0,
    "comparison.json": 9,
    "one_hop.json": 25,
    "same_relate.json": 31,
    "single_and.json": 59,
    "single_or.json": 64,
    "three_hop.json": 72,
    "two_hop.json": 78,
    "zero_hop.json": 84,
}
_FAMILIES: Final = 90
#: Greatest family index that is read; other templates may use any index up to this.
MAX_FAMILY: Final = 10**9

_SPLIT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NUMBER: Final = re.compile(r"_(\d+)\.\w+$")


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A scene as a scenes file stores it.

    Args:
        scene: objects with positions; files do not store camera and lamps.
        split: name of the split.
        image_index: number of the image in its split.
        image_filename: name of the image's file, without folder.
    """

    scene: Scene
    split: str
    image_index: int
    image_filename: str


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """A question as a questions file stores it.

    Args:
        text: the question.
        split: name of the split.
        image_index: number of the image in its split.
        image_filename: name of the image's file, without folder.
        answer: one of ``ANSWERS``, or None in a test split.
        program: the question's functional program, or None (test splits, CLEVR-Humans).
        family: question family, 0 to 89, or None if the file names none of these.
        index: number of the question in its file, or None if the file has none.
    """

    text: str
    split: str
    image_index: int
    image_filename: str
    answer: str | None = None
    program: Program | None = None
    family: int | None = None
    index: int | None = None

    @classmethod
    def of(cls, question: Question, *, split: str, image_index: int, index: int) -> QuestionRecord:
        """The record of a generated question."""
        return cls(
            text=question.text,
            split=split,
            image_index=image_index,
            image_filename=image_name(split, image_index),
            answer=question.answer,
            program=question.program,
            family=question.family,
            index=index,
        )

    def question(self) -> Question:
        """The question as ``QuestionGenerator`` gives it; files do not store ``pattern`` (here -1).

        Raises:
            FormatError: if answer, program or family are unknown.
        """
        if self.answer is None or self.program is None or self.family is None:
            where = f"question about image {self.image_index}"
            raise FormatError.at(self.image_filename, "has no answer, program or family", where)
        return Question(self.text, self.answer, self.program, self.family, pattern=-1)


def is_split(name: str) -> bool:
    """Whether a name is allowed for a split: letters, digits, "_" and "-"."""
    return _SPLIT.fullmatch(name) is not None


def is_plain_name(name: str) -> bool:
    """Whether a file name is without folder: no path, no drive, not hidden."""
    return bool(name) and name[0] != "." and not any(letter in name for letter in "/\\:\0")


def image_name(split: str, index: int) -> str:
    """Name of an image's file, such as ``CLEVR_val_000007.png``."""
    return f"CLEVR_{split}_{index:06d}.png"


@dataclass(frozen=True, slots=True)
class ClevrFolder:
    """The files of one split of a data set.

    Args:
        root: folder of the data set.
        split: name of the split, such as ``val`` or ``trainA``.
    """

    root: Path
    split: str

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.root / "images" / self.split

    @property
    def scenes(self) -> Path:
        """The scenes file."""
        return self.root / "scenes" / f"CLEVR_{self.split}_scenes.json"

    @property
    def questions(self) -> Path:
        """The questions file."""
        return self.root / "questions" / f"CLEVR_{self.split}_questions.json"

    def image(self, name: str) -> Path:
        """Path of the image called ``name``; the file may be a symbolic link to anywhere.

        Raises:
            FormatError: if there is no such file, or the name points outside the folder.
        """
        path = self.images / name
        if not is_plain_name(name):
            raise FormatError.at(path, f"{name[:60]!r} is not a plain file name")
        if path.is_symlink() and not path.exists():
            raise FormatError.at(path, "is a link to a file that does not exist")
        if not path.is_file():
            raise FormatError.at(path, "no such image")
        return path


def iter_scenes(path: Path | str) -> Iterator[SceneRecord]:
    """The scenes of a scenes file, one by one; memory does not grow with the file.

    Raises:
        FormatError: at the first error in the file.
    """
    for node in stream_array(Path(path), "scenes", failing(FormatError, path)):
        yield _scene(node)


def read_scenes(path: Path | str) -> list[SceneRecord]:
    """All scenes of a scenes file; see :func:`iter_scenes`."""
    return list(iter_scenes(path))


def iter_questions(path: Path | str) -> Iterator[QuestionRecord]:
    """The questions of a questions file, one by one; memory does not grow with the file.

    Either all questions of a file have an answer or none has.

    Raises:
        FormatError: at the first error in the file.
    """
    answered: bool | None = None
    for node in stream_array(Path(path), "questions", failing(FormatError, path)):
        record = _question(node)
        if answered is None:
            answered = record.answer is not None
        if answered != (record.answer is not None):
            raise node.error("some questions of this file have an answer and some have none")
        yield record


def read_questions(path: Path | str) -> list[QuestionRecord]:
    """All questions of a questions file; see :func:`iter_questions`."""
    return list(iter_questions(path))


def write_scenes(path: Path, records: Iterable[SceneRecord], info: Mapping[str, str]) -> None:
    """Write a scenes file atomically.

    Args:
        path: file to write.
        records: the scenes; every object needs its ``pixel``.
        info: the file's "info" object.

    Raises:
        FormatError: if an object has no ``pixel``.
    """
    write_array(path, "scenes", (scene_to_json(record) for record in records), info)


def write_questions(path: Path, records: Iterable[QuestionRecord], info: Mapping[str, str]) -> None:
    """Write a questions file atomically. Unknown answers and programs are left out.

    Args:
        path: file to write.
        records: the questions.
        info: the file's "info" object.
    """
    write_array(path, "questions", (question_to_json(record) for record in records), info)


def write_array(
    path: Path, key: str, entries: Iterable[Mapping[str, Any]], info: Mapping[str, str]
) -> None:
    """Write a JSON file of an ``info`` object and an array, entry by entry."""
    write_bytes(path, _array_pieces(key, entries, info))


def _array_pieces(
    key: str, entries: Iterable[Mapping[str, Any]], info: Mapping[str, str]
) -> Iterator[bytes]:
    yield f'{{"info": {json.dumps(dict(info))}, "{key}": ['.encode()
    separator = "\n"
    for entry in entries:
        yield f"{separator}{json.dumps(entry, allow_nan=False)}".encode()
        separator = ",\n"
    yield b"\n]}\n"


def scene_to_json(record: SceneRecord) -> dict[str, Any]:
    """A scene as an entry of a scenes file."""
    return {
        "split": record.split,
        "image_index": record.image_index,
        "image_filename": record.image_filename,
        "objects": [_object_to_json(thing, record) for thing in record.scene.objects],
        "directions": {name: list(vector) for name, vector in DIRECTIONS.items()},
        "relationships": record.scene.relationships,
    }


def _object_to_json(thing: Object, record: SceneRecord) -> dict[str, Any]:
    if thing.pixel is None:
        raise FormatError.at(record.image_filename, "an object has no pixel coordinates to write")
    return {
        "shape": thing.shape,
        "size": thing.size,
        "material": thing.material,
        "color": thing.color,
        "3d_coords": list(thing.position),
        "rotation": thing.rotation,
        "pixel_coords": list(thing.pixel),
    }


def question_to_json(record: QuestionRecord) -> dict[str, Any]:
    """A question as an entry of a questions file."""
    entry = {
        "split": record.split,
        "image_index": record.image_index,
        "image_filename": record.image_filename,
        "question": record.text,
        "answer": record.answer,
        "program": None if record.program is None else program_to_json(record.program),
        "question_family_index": record.family,
        "question_index": record.index,
    }
    return {key: value for key, value in entry.items() if value is not None}


def _scene(node: Node) -> SceneRecord:
    objects = tuple(_object(entry) for entry in node["objects"].items())
    if not 1 <= len(objects) <= MAX_OBJECTS:
        raise node["objects"].error(f"{len(objects)} objects; a scene has 1 to {MAX_OBJECTS}")
    scene = Scene(objects)
    _check_relationships(node, scene)
    index, name = _image(node)
    return SceneRecord(scene, _split(node), index, name)


def _object(node: Node) -> Object:
    column, row, depth = node["pixel_coords"].items(3)
    x, y, z = (coordinate.number() for coordinate in node["3d_coords"].items(3))
    try:
        return Object(
            shape=node["shape"].one_of(SHAPES),
            size=node["size"].one_of(SIZES),
            material=node["material"].one_of(MATERIALS),
            color=node["color"].one_of(COLORS),
            position=(x, y, z),
            rotation=node["rotation"].number(),
            pixel=(round(column.number()), round(row.number()), depth.number()),
        )
    except SceneError as error:
        raise node.error(str(error)) from error


def _check_relationships(node: Node, scene: Scene) -> None:
    """Raise an error if the stored relations contradict the stored positions."""
    stored = node["relationships" if "relationships" in node else "relations"]
    count = len(scene.objects)
    for relation, expected in scene.relationships.items():
        lists = stored[relation].items(count)
        found = [[entry.integer(0, count - 1) for entry in one.items()] for one in lists]
        for one, indices, right in zip(lists, found, expected, strict=True):
            if sorted(indices) != sorted(right):
                raise one.error(f"{indices} contradicts the 3d_coords, which give {right}")


def _question(node: Node) -> QuestionRecord:
    index, name = _image(node)
    program = _program(node)
    return QuestionRecord(
        text=question_text(node["question"]),
        split=_split(node),
        image_index=index,
        image_filename=name,
        answer=_answer(node["answer"], program) if "answer" in node else None,
        program=program,
        family=_family(node),
        index=node["question_index"].integer(0, 10**9) if "question_index" in node else None,
    )


def _split(node: Node) -> str:
    split = node["split"].text()
    if not is_split(split):
        raise node["split"].error(f"{split[:60]!r} is not a valid name of a split")
    return split


def _image(node: Node) -> tuple[int, str]:
    """Index and file name of the image, which must agree."""
    index = node["image_index"].integer(0, MAX_INDEX)
    return index, read_image_name(node)


def read_image_name(node: Node) -> str:
    """File name of the image of a scene or question; its number must be ``image_index``."""
    entry = node["image_filename"]
    name = entry.text()
    if not is_plain_name(name):
        raise entry.error(f"{name[:60]!r} is not a plain file name")
    if Path(name).suffix.lower() not in SUFFIXES:
        raise entry.error(f"suffix of {name[:60]!r} is none of {', '.join(SUFFIXES)}")
    number = number_of(name)
    if "image_index" in node and number is not None:
        index = node["image_index"].integer(0, MAX_INDEX)
        if number != index:
            raise entry.error(f"{name!r} contradicts image_index {index}")
    return name


def number_of(name: str) -> int | None:
    """The number in the name of an image, such as ``CLEVR_val_000007.png``."""
    found = _NUMBER.search(name)
    return int(found[1]) if found else None


def question_text(node: Node) -> str:
    """The words of a question."""
    text = node.text()
    count = len(text.split())
    if count > MAX_WORDS:
        raise node.error(f"{count} words; a question has at most {MAX_WORDS}")
    if not tokenize(text):
        raise node.error("the question has no words")
    return text


def _program(node: Node) -> Program | None:
    if "program" not in node or node["program"].value is None:
        return None
    try:
        return program_from_json(node["program"].value)
    except ProgramError as error:
        raise node["program"].error(str(error)) from error


def _answer(node: Node, program: Program | None) -> str:
    answer = answer_word(node)
    if program is None:
        return answer
    output = FUNCTIONS[program[-1].function].output
    allowed = {"bool": ("yes", "no"), "integer": ANSWERS[2:13], **ATTRIBUTES}[output]
    if answer not in allowed:
        raise node.error(f"{answer!r} cannot answer a program that ends in {program[-1].function}")
    return answer


def answer_word(node: Node) -> str:
    """The answer in the release's spelling; the generator writes true, false and integers."""
    if node.value is True:
        return "yes"
    if node.value is False:
        return "no"
    if isinstance(node.value, int):
        return str(node.integer(0, 10))
    return node.one_of(ANSWERS)


def _family(node: Node) -> int | None:
    """The family index; None for families that are not among the 90 of the release."""
    if "question_family_index" not in node:
        return None
    index = node["question_family_index"].integer(0, MAX_FAMILY)
    if _is_generator_output(node):
        if "template_filename" not in node:
            return None
        first = FIRST_FAMILY.get(node["template_filename"].text())
        if first is None:
            return None
        index += first
    return index if index < _FAMILIES else None


def _is_generator_output(node: Node) -> bool:
    """Whether the program has the keys of the public generator, not those of the release."""
    if "program" not in node or node["program"].value is None:
        return False
    return any("type" in entry for entry in node["program"].items())
