"""Photographs with a shape in each: masks, labels, sentences."""

from __future__ import annotations

import math

import pytest
import torch

from featurewise.worlds.pictures import contents_of
from featurewise.worlds.vqa import VqaError
from featurewise.worlds.vqa.composed import (
    ANSWERS,
    COLOURS,
    SENTENCES,
    SHAPES,
    SIDES,
    ComposedSource,
    mask,
    paste,
    wordings,
)


@pytest.mark.parametrize(
    ("shape", "area"),
    [("circle", math.pi), ("square", 1.7**2), ("triangle", 2.0), ("cross", 8 * 0.33 - 4 * 0.33**2)],
)
def test_masks_have_the_area_of_their_shape(shape: str, area: float) -> None:
    found = mask(64, shape, 30.0, 33.0, 20.0).sum().item()
    assert found == pytest.approx(area * 20**2, rel=0.02)


def test_a_mask_is_the_share_of_points_inside() -> None:
    found = mask(16, "circle", 7.3, 8.1, 3.0)
    for row in range(16):
        for column in range(16):
            points = [
                (row + (i + 0.5) / 4, column + (j + 0.5) / 4) for i in range(4) for j in range(4)
            ]
            inside = [(y - 7.3) ** 2 + (x - 8.1) ** 2 <= 9 for y, x in points]
            assert found[row, column].item() == pytest.approx(sum(inside) / 16)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("place", [[0, 0, 0], [1, 1, 1], [1, 0, 1]])
def test_a_shape_stays_in_its_half_and_nothing_else_changes(side: str, place: list[int]) -> None:
    image = torch.full((3, 32, 32), 77, dtype=torch.uint8)
    for shape in SHAPES:
        changed = (paste(image, "red", shape, side, torch.tensor(place).float()) != image).any(0)
        columns = changed.any(0).nonzero().flatten()
        assert len(columns) > 4
        assert (columns.max() < 16) if side == "left" else (columns.min() >= 16)


def test_there_are_four_shapes() -> None:
    with pytest.raises(VqaError, match="'star'"):
        mask(16, "star", 8.0, 8.0, 3.0)
    with pytest.raises(VqaError, match="16 or more, got 8"):
        ComposedSource(contents_of("patterns", "train"), "train", 8, 4, 0)


@pytest.mark.parametrize("part", ["train", "test"])
def test_answers_are_those_of_the_sentence(part: str) -> None:
    source = ComposedSource(contents_of("patterns", "train"), part, 32, 40, 3)  # type: ignore[arg-type]
    batch = source.batch(1)
    texts = wordings(part)  # type: ignore[arg-type]
    kinds = {"colour": tuple(COLOURS), "shape": SHAPES, "side": SIDES}
    seen = set()
    for image, sentence, answer in zip(batch.images, batch.sentences, batch.answers, strict=True):
        kind = next(k for k, all_of in SENTENCES.items() if texts[int(sentence)] in all_of)
        assert ANSWERS[int(answer)] in kinds[kind]
        seen.add(kind)
        if kind == "colour":
            value = torch.tensor(COLOURS[ANSWERS[int(answer)]])[:, None, None]
            assert (image == value).all(0).sum() > 10
    assert seen == set(SENTENCES)


def test_wordings_of_both_parts_differ_and_batches_repeat() -> None:
    assert not set(wordings("train")) & set(wordings("test"))
    source = ComposedSource(contents_of("patterns", "train"), "train", 32, 6, 0)
    first, again, other = source.batch(4), source.batch(4), source.batch(5)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.sentences, again.sentences)
    assert not torch.equal(first.images, other.images)
