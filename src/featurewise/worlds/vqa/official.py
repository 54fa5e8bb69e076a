"""Reads the question and annotation files of VQA v1.0 (Antol et al. 2015), as officially published.

A file of questions is an object with a list ``questions`` of objects ``question_id``, ``image_id``
and ``question``; those of the multiple-choice task have ``multiple_choices``, too. A file of
annotations has a list ``annotations`` of objects ``question_id``, ``image_id``, ``question_type``,
``answer_type``, ``multiple_choice_answer``, and ``answers`` of ten people, each with ``answer``,
``answer_confidence`` and ``answer_id``. The files of v2.0 have the same structure. Elements are
read one by one, so that a file may be larger than memory allows to parse at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from featurewise.common.json import Node, failing, stream_array
from featurewise.worlds.vqa.errors import FormatError, VqaError

AnswerType = Literal["yes/no", "number", "other"]
_ANSWER_TYPES: Final = ("yes/no", "number", "other")
_CONFIDENCES: Final = ("yes", "maybe", "no")
_MOST: Final = 10**12  # largest number of a question or an image
_LONGEST: Final = 1000  # characters of a question or an answer


@dataclass(frozen=True, slots=True)
class VqaQuestion:
    """A question of VQA, with the answers of people where there are annotations.

    Attributes:
        number: of the question, ``question_id``.
        image: number of the image, ``image_id``.
        text: the question.
        choices: possible answers of the multiple-choice task; empty for the open-ended one.
        kind: first words of the question by which the data set groups them, ``question_type``.
        answer_type: of the answer; None without annotations.
        answer: the most frequent answer, ``multiple_choice_answer``; None without annotations.
        answers: one of each person; empty without annotations.
    """

    number: int
    image: int
    text: str
    choices: tuple[str, ...] = ()
    kind: str = ""
    answer_type: str | None = None
    answer: str | None = None
    answers: tuple[str, ...] = ()

    def image_name(self, subset: str) -> str:
        """Name of the file of its image, such as ``COCO_val2014_000000000042.jpg``.

        Args:
            subset: ``data_subtype`` of the file, such as ``val2014``.
        """
        return f"COCO_{subset}_{self.image:012d}.jpg"


def read_vqa(questions: Path | str, annotations: Path | str | None = None) -> list[VqaQuestion]:
    """The questions of a file, in its order, with their annotations.

    Args:
        questions: such as ``OpenEnded_mscoco_val2014_questions.json``.
        annotations: such as ``mscoco_val2014_annotations.json``; None for a test split.

    Raises:
        FormatError: a file is missing or malformed; a question is twice in it; or annotations are
            of a question that is not in the other file, are of another image, or are missing.
    """
    path = Path(questions)
    found: dict[int, VqaQuestion] = {}
    for node in stream_array(path, "questions", failing(FormatError, path)):
        question = _question(node)
        if question.number in found:
            raise node.error(f"question {question.number} is in the file already")
        found[question.number] = question
    if not found:
        raise FormatError.at(path, "has no question")
    if annotations is None:
        return list(found.values())
    return list(_annotated(found, path, Path(annotations)))


def _question(node: Node) -> VqaQuestion:
    node.mapping(("question_id", "image_id", "question"), ("multiple_choices",))
    choices = node["multiple_choices"].items() if "multiple_choices" in node else []
    return VqaQuestion(
        number=node["question_id"].integer(0, _MOST),
        image=node["image_id"].integer(0, _MOST),
        text=node["question"].text(_LONGEST),
        choices=tuple(choice.text(_LONGEST) for choice in choices),
    )


def _annotated(
    questions: dict[int, VqaQuestion], path: Path, annotations: Path
) -> Iterator[VqaQuestion]:
    waiting = dict(questions)
    done: dict[int, VqaQuestion] = {}
    for node in stream_array(annotations, "annotations", failing(FormatError, annotations)):
        number = node["question_id"].integer(0, _MOST)
        if number not in waiting:
            problem = "is annotated already" if number in done else f"is not in {path}"
            raise node.error(f"question {number} {problem}")
        done[number] = _with_annotation(waiting.pop(number), node)
    if waiting:
        raise FormatError.at(annotations, f"lacks question {min(waiting)} of {path}")
    yield from (done[number] for number in questions)


def _with_annotation(question: VqaQuestion, node: Node) -> VqaQuestion:
    image = node["image_id"].integer(0, _MOST)
    if image != question.image:
        raise node.error(f"question {question.number} is about image {question.image}, not {image}")
    given = node["answers"].items()
    if not given:
        raise node["answers"].error("expected the answers of at least one person")
    for each in given:
        each["answer_confidence"].one_of(_CONFIDENCES)
        each["answer_id"].integer(0, _MOST)
    return VqaQuestion(
        question.number,
        question.image,
        question.text,
        question.choices,
        node["question_type"].text(_LONGEST),
        node["answer_type"].one_of(_ANSWER_TYPES),
        node["multiple_choice_answer"].text(_LONGEST),
        tuple(each["answer"].text(_LONGEST) for each in given),
    )


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """The accuracy of an answer by the official rule: four of ten people give 1, three 0.9.

    ``min(n / 3, 1)``, where n of the other people gave the answer, is averaged over leaving out
    each person in turn. Answers are compared as they are; the official evaluation also normalises
    articles, punctuation and contractions.

    Args:
        answer: to be evaluated.
        answers: one of each person, at least two.

    Raises:
        VqaError: fewer than two answers.
    """
    if len(answers) < 2:
        raise VqaError(f"the rule leaves out one person of at least two, got {len(answers)}")
    same = [each == answer for each in answers]
    left = [min((sum(same) - out) / 3, 1.0) for out in same]
    return sum(left) / len(left)
