"""A collection of invalid files: the error of each names the path and the position of the error."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds.clevr import (
    ClevrFolder,
    DiskSource,
    FormatError,
    read_questions,
    read_scenes,
)

SMALL = Path(__file__).parent / "fixtures" / "small"
QUESTIONS = ClevrFolder(SMALL, "val").questions.read_text()
SCENES = ClevrFolder(SMALL, "val").scenes.read_text()

Change = Callable[[dict[str, Any]], object]


def put(*keys: str | int, value: object) -> Change:
    """Set the value under a path of keys."""

    def change(entry: Any) -> None:
        for key in keys[:-1]:
            entry = entry[key]
        entry[keys[-1]] = value

    return change


def drop(*keys: str | int) -> Change:
    """Remove the value under a path of keys."""

    def change(entry: Any) -> None:
        for key in keys[:-1]:
            entry = entry[key]
        del entry[keys[-1]]

    return change


def assert_rejected(read: Callable[[Path], object], path: Path, says: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    assert says in message, message


NUMBER = '"question_index": 1'


def with_number(text: str) -> bytes:
    """The valid file with another text for the number of question 1."""
    return QUESTIONS.replace(NUMBER, text).encode()


# Error in the text of a questions file -> the text, and a part of the error message.
BAD_TEXT: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "expected '{', found the end of the file"),
    "white space": (b" \n\t ", "the end of the file"),
    "truncated in an entry": (QUESTIONS[:700].encode(), "questions[0]"),
    "truncated between entries": (b'{"questions": [', "questions[0]"),
    "truncated after the array": (b'{"questions": []', "the end of the file"),
    "not JSON": (b"question,answer\n", "expected '{'"),
    "a list": (b"[]", "expected '{'"),
    "UTF-16": (QUESTIONS.encode("utf-16"), "not UTF-8"),
    "bytes that are no UTF-8": (QUESTIONS.encode().replace(b"cylinders", b"\xff"), "not UTF-8"),
    "NaN": (b'{"info": {"x": NaN}, "questions": []}', "NaN"),
    "Infinity": (b'{"info": [-Infinity], "questions": []}', "-Infinity"),
    "NaN in an entry": (with_number('"question_index": NaN'), "questions[1]"),
    "a key twice in an entry": (with_number('"answer": "2"'), "'answer' occurs twice"),
    "the main key twice": (b'{"questions": [], "questions": []}', "occurs twice"),
    "nested lists": (b'{"questions": [' + b"[" * 30_000 + b"]}", "too deeply"),
    "nested objects": (b'{"info": ' + b'{"a":' * 30_000 + b"1}", "too deeply"),
    "no main key": (b'{"info": {}}', '"questions" is missing'),
    "a scenes file": (SCENES.encode(), '"questions" is missing'),
    "an object for the array": (b'{"questions": {}}', "expected '['"),
    "null for the array": (b'{"questions": null}', "expected '['"),
    "a number for a key": (b'{1: 2, "questions": []}', "expected a key"),
    "a missing comma": (QUESTIONS.replace("},\n  {", "}\n  {").encode(), "expected ','"),
    "a comma too many": (b'{"questions": [],}', "the file"),
    "something after the end": (QUESTIONS.encode() + b"{}", "follows the end"),
    "an unknown escape": (QUESTIONS.replace("How many", "How \\x").encode(), "questions[1]"),
    "a control character": (QUESTIONS.replace("How many", "How\nmany").encode(), "questions[1]"),
    "an integer of 5000 digits": (with_number(NUMBER + "9" * 5000), "questions[1]"),
    "an entry of 5 MB": (b'{"questions": ["' + b"a" * 5_000_000 + b'"]}', "longer than"),
    "an entry that is a text": (b'{"questions": ["why?"]}', "questions[0]: expected an object"),
    "an entry that is null": (b'{"questions": [null]}', "questions[0]: expected an object"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TEXT)
def test_bad_text_is_rejected(tmp_path: Path, name: str) -> None:
    text, says = BAD_TEXT[name]
    path = tmp_path / "CLEVR_val_questions.json"
    path.write_bytes(text)
    assert_rejected(read_questions, path, says)


# Error -> a change to question 0 (with a program of nine steps), and a part of the error message.
BAD_QUESTION: dict[str, tuple[Change, str]] = {
    "no split": (drop("split"), '"split" is missing'),
    "split of another type": (put("split", value=3), "questions[0].split: expected a text"),
    "split that is a path": (put("split", value="../val"), "not a valid name of a split"),
    "no index": (drop("image_index"), '"image_index" is missing'),
    "negative index": (put("image_index", value=-1), "questions[0].image_index: -1 lies outside"),
    "index too large": (put("image_index", value=10**6), "lies outside"),
    "index as text": (put("image_index", value="0"), "expected an integer"),
    "index as truth value": (put("image_index", value=False), "expected an integer"),
    "index as fraction": (put("image_index", value=0.0), "expected an integer"),
    "index of another image": (put("image_index", value=1), "contradicts image_index"),
    "no file name": (drop("image_filename"), '"image_filename" is missing'),
    "empty file name": (put("image_filename", value=""), "not a plain file name"),
    "file name with dots": (
        put("image_filename", value="../../etc/a.png"),
        "not a plain file name",
    ),
    "absolute file name": (put("image_filename", value="/etc/a.png"), "not a plain file name"),
    "Windows file name": (put("image_filename", value="..\\a.png"), "not a plain file name"),
    "file name with a drive": (put("image_filename", value="C:a.png"), "not a plain file name"),
    "file name with a zero byte": (put("image_filename", value="a\0.png"), "not a plain file name"),
    "file name of no image": (put("image_filename", value="a.txt"), "suffix"),
    "no question": (drop("question"), '"question" is missing'),
    "empty question": (put("question", value=""), "questions[0].question: the question has no"),
    "question of punctuation": (put("question", value=" ?? . "), "has no words"),
    "question of 10,000 words": (put("question", value="what " * 10_000), "10000 words"),
    "question as list": (put("question", value=["what"]), "expected a text"),
    "question with half a letter": (put("question", value="what \ud800"), "surrogate"),
    "no answer here only": (drop("answer"), "some questions of this file"),
    "unknown answer": (put("answer", value="orange"), "questions[0].answer: 'orange' is none of"),
    "answer in capitals": (put("answer", value="Blue"), "is none of"),
    "empty answer": (put("answer", value=""), "is none of"),
    "answer null": (put("answer", value=None), "questions[0].answer"),
    "answer as fraction": (put("answer", value=1.5), "questions[0].answer"),
    "answer 11": (put("answer", value=11), "lies outside"),
    "answer of another kind": (put("answer", value="yes"), "cannot answer a program"),
    "program as text": (put("program", value="count"), "questions[0].program"),
    "empty program": (put("program", value=[]), "questions[0].program"),
    "step as text": (put("program", 2, value="unique"), "step 2"),
    "step without function": (drop("program", 2, "function"), "step 2"),
    "unknown function": (put("program", 2, "function", value="filter_taste"), "step 2"),
    "unknown value": (put("program", 1, "value_inputs", value=["huge"]), "step 1"),
    "no value": (put("program", 1, "value_inputs", value=[]), "step 1"),
    "two values": (put("program", 1, "value_inputs", value=["large", "small"]), "step 1"),
    "no inputs": (drop("program", 2, "inputs"), "step 2"),
    "input from the future": (put("program", 2, "inputs", value=[7]), "step 2"),
    "negative input": (put("program", 2, "inputs", value=[-1]), "step 2"),
    "input of another type": (put("program", 8, "inputs", value=[0]), "step 8"),
    "input as truth value": (put("program", 2, "inputs", value=[True]), "step 2"),
    "no answering step": (drop("program", 8), "program"),
    "negative family": (put("question_family_index", value=-1), "lies outside"),
    "family as text": (put("question_family_index", value="28"), "expected an integer"),
    "negative number": (put("question_index", value=-1), "lies outside"),
}


@pytest.mark.parametrize("name", BAD_QUESTION)
def test_a_bad_question_is_rejected(tmp_path: Path, name: str) -> None:
    change, says = BAD_QUESTION[name]
    content = json.loads(QUESTIONS)
    # A good question first, so that the bad one is not the first of its file.
    good, bad = copy.deepcopy(content["questions"][1]), content["questions"][0]
    change(bad)
    content["questions"] = [good, bad]
    path = tmp_path / "CLEVR_val_questions.json"
    path.write_text(json.dumps(content))
    assert_rejected(read_questions, path, says.replace("questions[0]", "questions[1]"))


# Error -> a change to scene 0 (with three objects), and a part of the error message.
BAD_SCENE: dict[str, tuple[Change, str]] = {
    "no objects key": (drop("objects"), '"objects" is missing'),
    "no objects": (put("objects", value=[]), "scenes[0].objects: 0 objects"),
    "eleven objects": (lambda s: s["objects"].extend(s["objects"] * 3), "12 objects"),
    "objects as object": (put("objects", value={}), "expected a list"),
    "object null": (put("objects", 1, value=None), "scenes[0].objects[1]: expected an object"),
    "no shape": (drop("objects", 1, "shape"), '"shape" is missing'),
    "unknown shape": (put("objects", 1, "shape", value="cone"), "objects[1].shape: 'cone'"),
    "unknown colour": (put("objects", 2, "color", value="grey"), "objects[2].color: 'grey'"),
    "no coordinates": (drop("objects", 0, "3d_coords"), '"3d_coords" is missing'),
    "two coordinates": (put("objects", 0, "3d_coords", value=[0, 1]), "expected 3 elements"),
    "coordinate as text": (put("objects", 0, "3d_coords", 1, value="0"), "3d_coords[1]"),
    "rotation null": (put("objects", 0, "rotation", value=None), "rotation: expected a number"),
    "pixel as truth value": (put("objects", 0, "pixel_coords", 0, value=True), "pixel_coords[0]"),
    "no relationships": (drop("relationships"), "is missing"),
    "a relation missing": (drop("relationships", "behind"), '"behind" is missing'),
    "too few lists": (drop("relationships", "left", 0), "expected 3 elements, found 2"),
    "relation to an unknown object": (
        put("relationships", "left", 0, value=[3]),
        "left[0][0]: 3 lies",
    ),
    "relation that does not hold": (put("relationships", "left", 0, value=[1]), "contradicts"),
    "relation named twice": (put("relationships", "left", 0, value=[2, 2]), "contradicts"),
    "negative index": (put("image_index", value=-5), "lies outside"),
}


@pytest.mark.parametrize("name", BAD_SCENE)
def test_a_bad_scene_is_rejected(tmp_path: Path, name: str) -> None:
    change, says = BAD_SCENE[name]
    content = json.loads(SCENES)
    change(content["scenes"][0])
    path = tmp_path / "CLEVR_val_scenes.json"
    path.write_text(json.dumps(content))
    assert_rejected(read_scenes, path, says)


def test_a_number_beyond_floats_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "CLEVR_val_scenes.json"
    path.write_text(SCENES.replace("12.5", "1e999"))
    assert_rejected(read_scenes, path, "the number '1e999' is too large")
    path.write_text(SCENES.replace("12.5", "9" * 400))
    assert_rejected(
        read_scenes, path, "scenes[0] (character 121): an integer has more than 100 digits"
    )


@pytest.mark.parametrize("read", [read_questions, read_scenes])
def test_a_path_without_a_file_is_rejected(tmp_path: Path, read: Callable[[Path], object]) -> None:
    assert_rejected(read, tmp_path / "missing.json", "no such file")
    assert_rejected(read, tmp_path, "is a folder")


# Error -> a change to the folder, and the path at the beginning of the error message.
BAD_FOLDER: dict[str, tuple[Callable[[Path], object], str]] = {
    "no images": (lambda root: shutil.rmtree(root / "images"), "images/val"),
    "no questions": (
        lambda root: (root / "questions/CLEVR_val_questions.json").unlink(),
        "questions/CLEVR_val_questions.json",
    ),
    "an image missing": (
        lambda root: (root / "images/val/CLEVR_val_000001.png").unlink(),
        "images/val/CLEVR_val_000001.png",
    ),
    "an image that is a folder": (
        lambda root: [
            (root / "images/val/CLEVR_val_000001.png").unlink(),
            (root / "images/val/CLEVR_val_000001.png").mkdir(),
        ],
        "images/val/CLEVR_val_000001.png",
    ),
    "an empty image": (
        lambda root: (root / "images/val/CLEVR_val_000001.png").write_bytes(b""),
        "images/val/CLEVR_val_000001.png",
    ),
    "a link to nothing": (
        lambda root: [
            (root / "images/val/CLEVR_val_000001.png").unlink(),
            (root / "images/val/CLEVR_val_000001.png").symlink_to("nothing.png"),
        ],
        "images/val/CLEVR_val_000001.png",
    ),
    "questions of another split": (
        lambda root: shutil.copy(
            SMALL / "questions/CLEVR_test_questions.json",
            root / "questions/CLEVR_val_questions.json",
        ),
        "questions/CLEVR_val_questions.json",
    ),
    "two names of one image": (
        lambda root: (root / "questions/CLEVR_val_questions.json").write_text(
            QUESTIONS.replace("CLEVR_val_000000.png", "other.png", 1)
        ),
        "questions/CLEVR_val_questions.json",
    ),
    "no question at all": (
        lambda root: (root / "questions/CLEVR_val_questions.json").write_text('{"questions": []}'),
        "questions/CLEVR_val_questions.json",
    ),
}


@pytest.mark.parametrize("name", BAD_FOLDER)
def test_a_bad_folder_is_rejected(tmp_path: Path, name: str) -> None:
    spoil, place = BAD_FOLDER[name]
    root = tmp_path / "data"
    shutil.copytree(SMALL, root)
    spoil(root)
    with pytest.raises(FormatError) as caught:
        DiskSource(root, "val", width=6, height=4, cache=tmp_path / "cache", images_per_batch=1)
    assert str(caught.value).startswith(str(root / place)), caught.value


def test_there_are_at_least_100_invalid_files() -> None:
    tables = (BAD_TEXT, BAD_QUESTION, BAD_SCENE, BAD_FOLDER)
    assert sum(len(table) for table in tables) >= 100
