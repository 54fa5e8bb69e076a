"""Completion of letters: given pixels, baselines without a network, reproducibility."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from featurewise.worlds.glyphs import GlyphError
from featurewise.worlds.glyphs.completion import CompletionSource, grid
from featurewise.worlds.glyphs.labelled import LabelledImages

COUNT, SIZE = 9, 6


def some() -> LabelledImages:
    """Images that all differ, and no two pixels of an image are equal."""
    rng = torch.Generator().manual_seed(0)
    images = [torch.randperm(255, generator=rng)[: SIZE**2] for _ in range(COUNT)]
    index = torch.arange(COUNT)
    return LabelledImages(
        torch.stack(images).view(COUNT, SIZE, SIZE).to(torch.uint8), index % 3, index % 2
    )


def test_all_pixels_are_queried_and_distinct_ones_are_given() -> None:
    batch = CompletionSource(some(), 5, 7).batch(0)
    for row in range(5):
        ink = (batch.query_y[row, :, 0] * 255).round().view(SIZE, SIZE)
        assert any(torch.equal(ink, image.float()) for image in some().images)
        assert torch.equal(batch.query_x[row], grid(SIZE))
        equal = (batch.query_x[row][:, None] == batch.support_x[row]).all(2)
        assert equal.sum(0).tolist() == [1] * 7
        where = equal.float().argmax(0)
        assert len(where.unique()) == 7
        assert torch.equal(batch.query_y[row, where], batch.support_y[row])
    places = [tuple(map(tuple, row.tolist())) for row in batch.support_x]
    assert len(set(places)) == 5


def test_ordered_pixels_are_the_first_of_the_same_images() -> None:
    plain = CompletionSource(some(), 5, 7).batch(0)
    ordered = CompletionSource(some(), 5, 7, ordered=True).batch(0)
    assert torch.equal(ordered.support_x, ordered.query_x[:, :7])
    assert torch.equal(ordered.support_y, ordered.query_y[:, :7])
    assert torch.equal(ordered.query_y, plain.query_y)


def test_the_grid_goes_right_then_down() -> None:
    assert grid(2).tolist() == [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


def test_baselines_without_a_network() -> None:
    batch = CompletionSource(some(), 3, 4, seed=2).batch(0)
    nearest, mean = batch.nearest(), batch.mean()
    for row in range(3):
        torch.testing.assert_close(mean[row, 0], batch.support_y[row].mean(0))
        for pixel in range(SIZE**2):
            distances = [
                (batch.query_x[row, pixel] - given).norm().item() for given in batch.support_x[row]
            ]
            near = [i for i in range(4) if distances[i] <= min(distances) + 1e-6]
            assert any(torch.equal(nearest[row, pixel], batch.support_y[row, i]) for i in near)


def test_a_batch_depends_on_seed_and_index_only() -> None:
    source = CompletionSource(some(), 3, 4, seed=1)
    first = source.batch(2)
    source.batch(0)
    again = CompletionSource(some(), 3, 4, seed=1).batch(2)
    assert torch.equal(first.query_y, again.query_y)
    assert torch.equal(first.support_x, again.support_x)
    assert not torch.equal(first.support_x, source.batch(3).support_x)
    assert not torch.equal(
        first.support_x, CompletionSource(some(), 3, 4, seed=2).batch(2).support_x
    )


def test_the_whole_is_every_image_in_order_for_all_seeds() -> None:
    one, other = (CompletionSource(some(), 2, 4, seed=seed).whole() for seed in (0, 1))
    ink = (one.query_y[:, :, 0] * 255).round().view(COUNT, SIZE, SIZE)
    assert torch.equal(ink, some().images.float())
    assert torch.equal(one.support_x, other.support_x)
    assert torch.equal(one.support_y, other.support_y)


def test_swapped_images_have_the_given_pixels_of_another() -> None:
    batch = CompletionSource(some(), 3, 4).batch(0)
    swapped = batch.swapped()
    assert torch.equal(swapped.query_y, batch.query_y)
    for row in range(3):
        assert torch.equal(swapped.support_x[row], batch.support_x[row - 1])
        assert torch.equal(swapped.support_y[row], batch.support_y[row - 1])


@pytest.mark.parametrize("wrong", [{"tasks": 0}, {"given": 0}, {"given": 37}], ids=str)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(GlyphError, match="of which 1 to 36 pixels are given; got"):
        CompletionSource(some(), **{"tasks": 1, "given": 1, **wrong})
