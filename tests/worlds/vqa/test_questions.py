"""Sets of questions, their words, and the images that are made for tests."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.vqa import (
    ImageQuestion,
    QuestionSet,
    Vocabulary,
    VqaError,
    is_yes_or_no,
    made_questions,
    random_questions,
    words_of,
)
from featurewise.worlds.vqa.made import BACKGROUND, COLOURS


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert words_of("Isn't the Cup, there?") == ["isn't", "the", "cup", "there"]


def test_a_vocabulary_pads_with_0_and_reads_unknown_words_as_1() -> None:
    vocabulary = Vocabulary.of(["is it red?", "is it"])
    assert vocabulary.words == ("is", "it", "red")
    assert len(vocabulary) == 5
    indices, lengths = vocabulary.encode(["is it blue", "red"], 4)
    assert indices.tolist() == [[2, 3, 1, 0], [4, 0, 0, 0]]
    assert lengths.tolist() == [3, 1]


@pytest.mark.parametrize(("texts", "length"), [([], None), (["?"], None), (["a b c"], 2)])
def test_questions_that_cannot_be_encoded_are_refused(texts: list[str], length: int | None) -> None:
    with pytest.raises(VqaError):
        Vocabulary(("a",)).encode(texts, length)


def test_a_set_refuses_what_does_not_fit() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for question, message in (
        (ImageQuestion("q", "yes", 2), "is about image 2; there are images 0 to 1"),
        (ImageQuestion("q", "blue", 0), "'blue' is the answer"),
    ):
        with pytest.raises(VqaError, match=message):
            QuestionSet(images, (question,), ("yes",))
    with pytest.raises(VqaError, match="at least one"):
        QuestionSet(images, (), ("yes",))


def test_questions_about_some_images() -> None:
    whole = made_questions(6, 16, 0)
    part = whole.about(2, 4)
    assert torch.equal(part.images, whole.images[2:4])
    assert [each.text for each in part.questions] == [
        each.text for each in whole.questions if each.image in (2, 3)
    ]
    assert part.image_index.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert is_yes_or_no(part.answers, part.labels).tolist() == [False, False, True, True] * 2


def test_images_in_another_size() -> None:
    whole = made_questions(2, 32, 0)
    small = whole.resized(16)
    assert small.images.shape == (2, 3, 16, 16)
    assert small.questions == whole.questions
    assert whole.resized(32) is whole
    means = [each.images.double().mean((2, 3)) for each in (whole, small)]
    torch.testing.assert_close(*means, rtol=0, atol=4)
    with pytest.raises(VqaError, match="at least 1 pixel, got 0"):
        whole.resized(0)


def test_answers_to_made_questions_are_what_the_images_show() -> None:
    made = made_questions(40, 24, 3)
    for colour_of, image in zip(made.questions[::4], made.images, strict=True):
        colours = {tuple(pixel) for pixel in image.flatten(1).T.tolist()}
        assert colours == {COLOURS[colour_of.answer], (BACKGROUND,) * 3}
    for question in made.questions:
        shown = {each.answer for each in made.questions if each.image == question.image}
        if question.text.startswith("is"):
            named = (set(words_of(question.text)) & {*COLOURS, "square", "disc", "bar"}).pop()
            assert question.answer == ("yes" if named in shown else "no")
    closed = made.labels[is_yes_or_no(made.answers, made.labels)]
    yes = (closed == made.answers.index("yes")).double().mean().item()
    assert 0.3 < yes < 0.7


@pytest.mark.parametrize("wrong", [(0, 16, 0), (1, 15, 0), (1, 16, -1)])
def test_made_questions_refuse_numbers_that_are_too_small(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(VqaError, match="count must be 1 or more"):
        made_questions(*wrong)


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    first = random_questions(8, 0, 5, 100)
    assert torch.equal(first, random_questions(8, 0, 5, 100))
    assert not torch.equal(first, random_questions(8, 0, 6, 100))
    assert not torch.equal(first, random_questions(8, 1, 5, 100))
