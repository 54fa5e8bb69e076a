"""Training batches with questions about the number of all things."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from featurewise.worlds.clevr.data import OnlineSource
from featurewise.worlds.clevr.errors import WorldError
from featurewise.worlds.clevr.splits import EVERYTHING, WithCounts, numbers_of_things
from featurewise.worlds.clevr.vocabulary import ANSWERS, QUESTION_TYPES
from featurewise.worlds.clevr.words import encode


def test_every_third_question_is_how_many_things_its_image_shows() -> None:
    source = OnlineSource(
        seed=3, width=30, height=20, samples=1, questions_per_image=4, images_per_batch=5
    )
    before = source.batch(2)
    found = WithCounts(source, 3).batch(2)
    scenes = source.scenes(2, 5)
    for row in range(len(before.lengths)):
        length = int(found.lengths[row])
        tokens = found.questions[row, :length].tolist()
        assert not found.questions[row, length:].any()
        if row % 3 == 2:
            assert tokens == list(encode(EVERYTHING))
            number = len(scenes[int(found.image_index[row])].objects)
            assert ANSWERS[int(found.answers[row])] == str(number)
            assert QUESTION_TYPES[int(found.types[row])] == "count"
        else:
            assert tokens == before.questions[row, : int(before.lengths[row])].tolist()
            assert found.answers[row] == before.answers[row]
            assert found.types[row] == before.types[row]
    assert torch.equal(found.image_index, before.image_index)
    assert torch.equal(found.images, before.images)


def test_a_batch_of_short_questions_becomes_as_wide_as_the_question() -> None:
    source = OnlineSource(
        seed=3, width=30, height=20, samples=1, questions_per_image=4, images_per_batch=2
    )
    batch = source.batch(0)
    batch.questions = batch.questions[:, :2]
    batch.lengths = torch.full_like(batch.lengths, 2)

    class Short:
        def batch(self, index: int) -> object:
            return batch

    found = WithCounts(Short(), 2).batch(0)  # type: ignore[arg-type]
    assert found.questions.shape[1] == len(encode(EVERYTHING))


def test_images_without_labels_are_not_counted_as_empty() -> None:
    source = OnlineSource(
        seed=3, width=30, height=20, samples=1, questions_per_image=4, images_per_batch=2
    )
    batch = source.batch(0)
    assert batch.objects is not None and min(numbers_of_things(batch)) >= 3
    objects = batch.objects.clone()
    objects[1] = -1
    with pytest.raises(WorldError, match="objects of image 1 of the batch are not known"):
        numbers_of_things(replace(batch, objects=objects))
