"""Crops of photographs: against the photographs; given pixels; reproducibility."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from sklearn.datasets import load_sample_images

from featurewise.worlds.small import MissingPackageError, SmallWorldError
from featurewise.worlds.small.images import SCALES, CropSource, grid, photographs


def test_the_two_splits_are_the_two_parts_of_the_photographs() -> None:
    originals = [
        torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images
    ]
    for which, whole in enumerate(originals):
        border = 448  # 70 % of 640
        for at, scale in enumerate(SCALES):
            for split, start in (("train", 0), ("test", border)):
                part = photographs(split)[which * len(SCALES) + at]
                assert part.shape[2] == (192 if split == "test" else 448) // scale
                # One downscaled pixel is the mean of a square of the original.
                y, x = 3, 5
                square = whole[:, y * scale : (y + 1) * scale]
                square = square[:, :, start + x * scale : start + (x + 1) * scale]
                torch.testing.assert_close(part[:, y, x], square.mean((1, 2)))


def test_a_crop_occurs_in_a_photograph() -> None:
    batch = CropSource(tasks=6, given=4, size=5, split="test").batch(3)
    for crop in batch.query_y.unflatten(1, (5, 5)):
        upright = crop.permute(2, 0, 1)
        found = 0
        for image in (upright, upright.flip(2)):
            for part in photographs("test"):
                windows = part.unfold(1, 5, 1).unfold(2, 5, 1)  # 3, down, right, 5, 5
                found += int((windows == image[:, None, None]).all(0).all(-1).all(-1).sum())
        assert found >= 1


def test_given_pixels_are_pixels_of_the_image_without_repetition() -> None:
    batch = CropSource(tasks=5, given=7, size=6).batch(0)
    assert torch.equal(batch.query_x[2], grid(6))
    for row in range(5):
        equal = (batch.support_x[row, :, None] == batch.query_x[row, None]).all(2)
        assert equal.sum(1).eq(1).all()
        where = equal.float().argmax(1)
        assert len(where.unique()) == 7
        assert torch.equal(batch.query_y[row, where], batch.support_y[row])
    ordered = CropSource(tasks=5, given=7, size=6, ordered=True).batch(0)
    assert torch.equal(ordered.support_x, ordered.query_x[:, :7])
    assert torch.equal(ordered.query_y, batch.query_y)


def test_the_grid_goes_right_then_down() -> None:
    assert grid(2).tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def test_baselines_without_a_network() -> None:
    batch = CropSource(tasks=3, given=4, size=4, seed=2).batch(0)
    nearest, mean = batch.nearest(), batch.mean()
    for row in range(3):
        torch.testing.assert_close(mean[row, 0], batch.support_y[row].mean(0))
        for pixel in range(16):
            far = [
                (batch.query_x[row, pixel] - given).norm().item() for given in batch.support_x[row]
            ]
            nearby = [i for i in range(4) if far[i] <= min(far) + 1e-6]
            assert any(torch.equal(nearest[row, pixel], batch.support_y[row, i]) for i in nearby)


def test_a_batch_depends_on_seed_index_and_split_only() -> None:
    source = CropSource(tasks=3, given=4, seed=1)
    first = source.batch(2)
    source.batch(0)
    again = CropSource(tasks=3, given=4, seed=1).batch(2)
    assert torch.equal(first.query_y, again.query_y)
    assert torch.equal(first.support_x, again.support_x)
    assert not torch.equal(first.query_y, source.batch(3).query_y)
    assert not torch.equal(first.query_y, CropSource(tasks=3, given=4, seed=2).batch(2).query_y)


def test_swapped_images_have_the_given_pixels_of_another() -> None:
    batch = CropSource(tasks=3, given=4).batch(0)
    swapped = batch.swapped()
    assert torch.equal(swapped.query_y, batch.query_y)
    for row in range(3):
        assert torch.equal(swapped.support_x[row], batch.support_x[row - 1])
        assert torch.equal(swapped.support_y[row], batch.support_y[row - 1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": 0}, "tasks must be 1 or more"),
        ({"given": 26, "size": 5}, "given must be at most the 25 pixels of an image, got 26"),
        ({"size": 25}, "size must be at most 24"),
        ({"seed": -1}, "must be 0 or more"),
        ({"split": "validation"}, "split must be 'train' or 'test', got 'validation'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SmallWorldError, match=message):
        CropSource(**{"tasks": 1, "given": 1, "split": "test", **wrong})


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    photographs.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingPackageError, match="pip install"):
        CropSource(tasks=1, given=1)
