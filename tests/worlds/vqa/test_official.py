"""The files of VQA v1.0, from a fixture written by hand in the published structure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurewise.worlds.vqa import FormatError, VqaError, read_vqa, vqa_accuracy

FIXTURES = Path(__file__).with_name("fixtures")
OPEN = FIXTURES / "OpenEnded_mscoco_val2014_questions.json"
CHOICE = FIXTURES / "MultipleChoice_mscoco_val2014_questions.json"
ANNOTATIONS = FIXTURES / "mscoco_val2014_annotations.json"


def test_questions_keep_their_order_and_get_their_annotations() -> None:
    first, second, third = read_vqa(OPEN, ANNOTATIONS)
    assert [each.number for each in (first, second, third)] == [420, 421, 730]
    assert first.text == "Is the table round?"
    assert (first.image, first.kind, first.answer_type) == (42, "is the", "yes/no")
    assert (second.answer, second.answers) == ("2", ("2", "3", "2"))
    assert third.image_name("val2014") == "COCO_val2014_000000000073.jpg"


def test_a_test_split_has_no_annotations_and_a_choice_has_choices() -> None:
    assert all(each.answer is None and not each.answers for each in read_vqa(OPEN))
    (only,) = read_vqa(CHOICE)
    assert only.choices == ("no", "yes", "2", "a vase")


def _questions(change: Callable[[Any], None], folder: Path) -> Path:
    return _changed(OPEN, change, folder)


def _changed(file: Path, change: Callable[[Any], None], folder: Path) -> Path:
    content = json.loads(file.read_text())
    change(content)
    path = folder / file.name
    path.write_text(json.dumps(content))
    return path


def _set(*keys: str | int, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set("questions", 1, "question_id", value="x"),
            r"questions\[1\].question_id: expected an",
        ),
        (_set("questions", 1, "question_id", value=-1), "lies outside"),
        (_set("questions", 1, "question", value=7), r"questions\[1\].question: expected a text"),
        (_set("questions", 1, "colour", value=7), "key 'colour' is unknown"),
        (_set("questions", 1, value={}), r'questions\[1\]: key "question_id" is missing'),
        (_set("questions", 1, "question_id", value=420), "question 420 is in the file already"),
        (_set("questions", value=[]), "has no question"),
        (_set("questions", value=3), "questions"),
    ],
)
def test_malformed_questions_are_refused(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = _questions(change, tmp_path)
    with pytest.raises(FormatError, match=message) as error:
        read_vqa(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("annotations", 0, "question_id", value=5), "question 5 is not in"),
        (_set("annotations", 0, "question_id", value=420), "question 420 is annotated already"),
        (_set("annotations", 0, "image_id", value=7), "is about image 42, not 7"),
        (_set("annotations", 0, "answer_type", value="colour"), "is none of yes/no, number, other"),
        (_set("annotations", 0, "answers", value=[]), "at least one person"),
        (_set("annotations", 0, "answers", 1, "answer_confidence", value="?"), "is none of yes"),
        (_set("annotations", 0, "answers", 1, value={}), '"answer_confidence" is missing'),
        (lambda content: content["annotations"].pop(), "lacks question 730"),
    ],
)
def test_malformed_annotations_are_refused(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = _changed(ANNOTATIONS, change, tmp_path)
    with pytest.raises(FormatError, match=message) as error:
        read_vqa(OPEN, path)
    assert str(error.value).startswith(str(path))


def test_files_that_are_missing_or_cut_off_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="absent"):
        read_vqa(tmp_path / "absent.json")
    path = tmp_path / "cut.json"
    path.write_bytes(OPEN.read_bytes()[:-40])
    with pytest.raises(FormatError, match="cut"):
        read_vqa(path)


@pytest.mark.parametrize(("same", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0)])
def test_the_official_accuracy_of_ten_people(same: int, accuracy: float) -> None:
    """Leaving one out: with 3 of 10, three subsets have 2/3 and seven have 1: 0.9."""
    answers = ["yes"] * same + ["no"] * (10 - same)
    assert vqa_accuracy("yes", answers) == pytest.approx(accuracy)


def test_one_person_cannot_be_left_out_of_one() -> None:
    with pytest.raises(VqaError, match="got 1"):
        vqa_accuracy("yes", ["yes"])
