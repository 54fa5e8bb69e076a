"""Questions about images: easy-VQA, the files of VQA v1.0, and made images for tests."""

from __future__ import annotations

from featurewise.worlds.vqa.easy import (
    INSTALL,
    Split,
    easy_vqa,
    easy_vqa_versions,
    read_easy_vqa,
)
from featurewise.worlds.vqa.errors import FormatError, MissingDataError, VqaError
from featurewise.worlds.vqa.facts import COMPOSED, EASY_VQA
from featurewise.worlds.vqa.made import made_questions
from featurewise.worlds.vqa.official import VqaQuestion, read_vqa, vqa_accuracy
from featurewise.worlds.vqa.questions import (
    ImageQuestion,
    QuestionSet,
    is_yes_or_no,
    random_questions,
)
from featurewise.worlds.vqa.words import Vocabulary, words_of

__all__ = [
    "COMPOSED",
    "EASY_VQA",
    "INSTALL",
    "FormatError",
    "ImageQuestion",
    "MissingDataError",
    "QuestionSet",
    "Split",
    "Vocabulary",
    "VqaError",
    "VqaQuestion",
    "easy_vqa",
    "easy_vqa_versions",
    "is_yes_or_no",
    "made_questions",
    "random_questions",
    "read_easy_vqa",
    "read_vqa",
    "vqa_accuracy",
    "words_of",
]
