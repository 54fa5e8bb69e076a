"""Reading and writing the CLEVR file formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from featurewise.common import json as strict_json
from featurewise.worlds.clevr import (
    ClevrFolder,
    FormatError,
    Question,
    QuestionRecord,
    Step,
    execute,
    iter_questions,
    program_to_json,
    question_type,
    read_questions,
    read_scenes,
    unknown_words,
    write_questions,
    write_scenes,
)

SMALL = Path(__file__).parent / "fixtures" / "small"
BLENDER = Path(__file__).parents[4] / "shared" / "data" / "clevr_blender"
needs_blender = pytest.mark.skipif(
    not BLENDER.is_dir(), reason=f"images of the official generator not found at {BLENDER}"
)
VAL = ClevrFolder(SMALL, "val")
INFO = {"split": "val", "version": "1.0", "date": "", "license": ""}


def test_scenes_are_read_as_written_by_hand() -> None:
    first, second = read_scenes(VAL.scenes)
    assert (first.split, first.image_index, first.image_filename) == (
        "val",
        0,
        "CLEVR_val_000000.png",
    )
    assert second.image_index == 1 and len(second.scene.objects) == 1
    cube, sphere, cylinder = first.scene.objects
    assert (cube.shape, cube.size, cube.material, cube.color) == ("cube", "large", "rubber", "red")
    assert sphere.position == (2.0, -1.0, 0.35) and sphere.rotation == 300.25
    assert cylinder.pixel == (150, 118, 11.9)
    assert first.scene.related("left") == [[2], [0, 2], []]


def test_questions_are_read_as_written_by_hand() -> None:
    first, second, third = read_questions(VAL.questions)
    assert first.text.startswith("What color") and first.answer == "blue" and first.family == 28
    assert first.program is not None
    assert first.program[4] == Step("relate", (3,), "right")
    assert second.program is not None and question_type(second.program) == "count"
    assert (third.image_index, third.index, third.answer) == (1, 2, "no")


def test_the_answers_follow_from_programs_and_scenes() -> None:
    scenes = {record.image_index: record.scene for record in read_scenes(VAL.scenes)}
    for record in read_questions(VAL.questions):
        assert record.program is not None
        assert execute(record.program, scenes[record.image_index]) == record.answer


def test_output_of_the_public_generator_is_read_as_that_of_the_release() -> None:
    assert read_questions(SMALL / "generator_output.json") == read_questions(VAL.questions)


@pytest.mark.parametrize(("value", "answer"), [(True, "yes"), (False, "no"), ("yes", "yes")])
def test_booleans_are_answers(tmp_path: Path, value: object, answer: str) -> None:
    content = json.loads(VAL.questions.read_text())
    content["questions"][2]["answer"] = value
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(content))
    assert read_questions(path)[2].answer == answer


def test_a_family_index_of_the_generator_without_its_file_is_unknown(tmp_path: Path) -> None:
    content = json.loads((SMALL / "generator_output.json").read_text())
    for entry in content["questions"]:
        del entry["template_filename"]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(content))
    assert [record.family for record in iter_questions(path)] == [None, None, None]


@pytest.mark.parametrize(
    "change",
    [
        {"question_family_index": 90},
        {"question_family_index": 7, "template_filename": "four_hop.json"},
        {"question_family_index": 80, "template_filename": "one_hop.json"},
    ],
)
def test_a_family_outside_the_ninety_is_unknown(tmp_path: Path, change: dict[str, Any]) -> None:
    name = "generator_output.json" if "template_filename" in change else VAL.questions
    content = json.loads((SMALL / name).read_text())
    content["questions"][0] |= change
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(content))
    first, second, _ = read_questions(path)
    assert first.family is None and second.family is not None
    assert first.program is not None


def test_a_program_that_is_null_is_unknown(tmp_path: Path) -> None:
    content = json.loads(VAL.questions.read_text())
    content["questions"][0]["program"] = None
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(content))
    assert read_questions(path)[0].program is None
    assert read_questions(path)[0].answer == "blue"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    for name, read in (("questions", read_questions), ("scenes", read_scenes)):
        path = tmp_path / f"{name}.json"
        path.write_bytes(b"\xef\xbb\xbf" + getattr(VAL, name).read_bytes())
        assert read(path) == read(getattr(VAL, name))  # type: ignore[operator]


def test_a_test_split_has_no_answers() -> None:
    records = read_questions(ClevrFolder(SMALL, "test").questions)
    assert len(records) == 2
    assert all(r.answer is None and r.program is None and r.family is None for r in records)
    with pytest.raises(FormatError, match=r"CLEVR_test_000000\.png.*no answer"):
        records[0].question()


def test_clevr_humans_has_answers_without_programs() -> None:
    first, second = read_questions(SMALL / "CLEVR-Humans-val.json")
    assert (first.answer, first.program, first.family, first.index) == ("yes", None, None, None)
    assert unknown_words(second.text) == ["hue", "orb"]


def test_the_key_relations_of_the_readme_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    path.write_text(VAL.scenes.read_text().replace('"relationships"', '"relations"'))
    assert read_scenes(path) == read_scenes(VAL.scenes)


def test_written_scenes_and_questions_read_back_equal(tmp_path: Path) -> None:
    scenes, questions = read_scenes(VAL.scenes), read_questions(VAL.questions)
    write_scenes(tmp_path / "scenes.json", scenes, INFO)
    write_questions(tmp_path / "questions.json", questions, INFO)
    assert read_scenes(tmp_path / "scenes.json") == scenes
    assert read_questions(tmp_path / "questions.json") == questions
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["questions.json", "scenes.json"]


@pytest.mark.parametrize("name", ["scenes", "questions"])
def test_a_file_written_again_has_the_content_of_the_original(tmp_path: Path, name: str) -> None:
    path = tmp_path / "again.json"
    if name == "scenes":
        write_scenes(path, read_scenes(VAL.scenes), INFO)
        original = json.loads(VAL.scenes.read_text())
    else:
        write_questions(path, read_questions(VAL.questions), INFO)
        original = json.loads(VAL.questions.read_text())
    assert json.loads(path.read_text())[name] == original[name]


def test_empty_files_of_records_can_be_written_and_read(tmp_path: Path) -> None:
    write_questions(tmp_path / "questions.json", [], INFO)
    assert read_questions(tmp_path / "questions.json") == []


def test_generated_questions_become_records_and_back() -> None:
    program = (Step("scene", ()), Step("count", (0,)))
    question = Question("How many things are there?", "3", program, family=84, pattern=1)
    record = QuestionRecord.of(question, split="trainA", image_index=7, index=40)
    assert record.image_filename == "CLEVR_trainA_000007.png" and record.index == 40
    again = record.question()
    assert (again.text, again.answer, again.program, again.family) == (
        question.text,
        question.answer,
        question.program,
        question.family,
    )
    assert again.pattern == -1


@pytest.mark.parametrize("split", ["train", "val", "trainA", "valB"])
def test_folder_names_are_those_of_the_release(split: str) -> None:
    place = ClevrFolder(Path("root"), split)
    assert place.images == Path("root/images") / split
    assert place.scenes == Path(f"root/scenes/CLEVR_{split}_scenes.json")
    assert place.questions == Path(f"root/questions/CLEVR_{split}_questions.json")


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000])
def test_reading_does_not_depend_on_the_chunk_size(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_questions(VAL.questions)
    monkeypatch.setattr(strict_json, "_CHUNK", chunk)
    assert read_questions(VAL.questions) == expected


@pytest.mark.parametrize("chunk", [1, 3, 1 << 18])
def test_the_streaming_reader_agrees_with_the_json_module(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content: dict[str, Any] = {
        "before": 12345,
        "info": {"a": [1, -2.5e3, None, True], "b": 'quote " and \\ and é'},
        "things": [1234, 1.5, "text, [with] {signs}", {}, [], {"deep": [[{"x": 0}]]}, None],
        "after": False,
    }
    path = tmp_path / "any.json"
    path.write_text(json.dumps(content, indent=2))
    monkeypatch.setattr(strict_json, "_CHUNK", chunk)
    nodes = list(strict_json.stream_array(path, "things"))
    assert [node.value for node in nodes] == content["things"]
    assert nodes[3].where == "things[3]"


def test_elements_are_yielded_before_the_rest_of_the_file_is_read(tmp_path: Path) -> None:
    entry = json.dumps(json.loads(VAL.questions.read_text())["questions"][1])
    path = tmp_path / "long.json"
    path.write_text('{"questions": [' + ",".join([entry] * 4000) + ", broken")
    records = iter_questions(path)
    assert next(records).answer == "1"
    with pytest.raises(FormatError, match=r"questions\[4000\]"):
        list(records)


@needs_blender
@pytest.mark.parametrize(("split", "images"), [("val", 80), ("valA", 20), ("valB", 20)])
def test_official_data_is_read_and_its_answers_agree(split: str, images: int) -> None:
    place = ClevrFolder(BLENDER, split)
    scenes = {record.image_index: record for record in read_scenes(place.scenes)}
    questions = read_questions(place.questions)
    assert len(scenes) == images and len(questions) == 10 * images
    raw = json.loads(place.questions.read_text())["questions"]
    for record, entry in zip(questions, raw, strict=True):
        assert record.program is not None and record.split == split
        assert execute(record.program, scenes[record.image_index].scene) == record.answer
        assert program_to_json(record.program) == entry["program"]
        assert (record.text, record.answer) == (entry["question"], entry["answer"])
        assert record.family == entry["question_family_index"]
        assert place.image(record.image_filename).is_file()


@needs_blender
def test_official_data_written_again_reads_back_equal(tmp_path: Path) -> None:
    place = ClevrFolder(BLENDER, "val")
    write_scenes(tmp_path / "s.json", read_scenes(place.scenes), INFO)
    write_questions(tmp_path / "q.json", read_questions(place.questions), INFO)
    assert read_scenes(tmp_path / "s.json") == read_scenes(place.scenes)
    assert read_questions(tmp_path / "q.json") == read_questions(place.questions)


def test_a_folder_may_be_a_symbolic_link(tmp_path: Path) -> None:
    shutil.copytree(SMALL, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ClevrFolder(tmp_path / "link", "val").image("CLEVR_val_000001.png").is_file()


def test_an_image_may_be_a_link_to_anywhere(tmp_path: Path) -> None:
    place = ClevrFolder(tmp_path, "val")
    place.images.mkdir(parents=True)
    (place.images / "a.png").symlink_to(SMALL / "images/val/CLEVR_val_000000.png")
    (place.images / "b.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "c.png").touch()
    assert place.image("a.png").read_bytes() == VAL.image("CLEVR_val_000000.png").read_bytes()
    with pytest.raises(FormatError, match=r"b\.png: is a link to a file that does not exist"):
        place.image("b.png")
    for name in ("../../c.png", "../val/a.png", str(tmp_path / "c.png"), "..", "", "x\\a.png"):
        with pytest.raises(FormatError, match="not a plain file name"):
            place.image(name)
