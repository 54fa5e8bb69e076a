"""Batches by index, and jitter against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from featurewise.worlds.glyphs import (
    DIGITS,
    GlyphError,
    GlyphSource,
    as_ink,
    find_typefaces,
    glyphs,
    jittered,
)
from featurewise.worlds.glyphs.source import seeded_rng

SOME = glyphs(find_typefaces()[:4], DIGITS, 16)


def test_images_are_those_of_their_labels() -> None:
    batch = GlyphSource(SOME, 200, seed=3).batch(5)
    assert batch.images.shape == (200, 1, 16, 16) and batch.images.dtype == torch.float32
    for image, letter, typeface in zip(batch.images, batch.letters, batch.typefaces, strict=True):
        torch.testing.assert_close(image[0] * 255, SOME.images[typeface, letter].float())
    assert set(batch.letters.tolist()) == set(range(10))
    assert set(batch.typefaces.tolist()) == set(range(4))


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_a_batch_depends_on_seed_and_index_only(jitter: float) -> None:
    one, other = (GlyphSource(SOME, 8, seed=1, jitter=jitter) for _ in range(2))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    third = one.batch(3)
    one.batch(9)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    for name in ("images", "letters", "typefaces"):
        assert torch.equal(getattr(other.batch(3), name), getattr(third, name))
    assert not torch.equal(one.batch(4).images, third.images)
    assert not torch.equal(
        GlyphSource(SOME, 8, seed=2, jitter=jitter).batch(3).images, third.images
    )


def test_seeds_and_indices_have_different_streams() -> None:
    samples = {
        (s, i): torch.rand(1, generator=seeded_rng(s, i)).item() for s in range(9) for i in range(9)
    }
    assert len(set(samples.values())) == 81


def transformed(image: np.ndarray, parameters: list[float]) -> np.ndarray:
    """Samples the image for each output pixel, in loops and float64."""
    angle, scale = 0.25 * parameters[0], math.exp(0.15 * parameters[1])
    shear = 0.2 * parameters[2]
    size = len(image)
    made = np.zeros_like(image)
    for row in range(size):
        for column in range(size):
            x, y = (2 * column + 1) / size - 1, (2 * row + 1) / size - 1
            x = x + shear * y
            x, y = (
                scale * (math.cos(angle) * x - math.sin(angle) * y) + 0.12 * parameters[3],
                scale * (math.sin(angle) * x + math.cos(angle) * y) + 0.12 * parameters[4],
            )
            column_in, row_in = ((x + 1) * size - 1) / 2, ((y + 1) * size - 1) / 2
            for r in (math.floor(row_in), math.floor(row_in) + 1):
                for c in (math.floor(column_in), math.floor(column_in) + 1):
                    if 0 <= r < size and 0 <= c < size:
                        part = (1 - abs(row_in - r)) * (1 - abs(column_in - c))
                        made[row, column] += part * image[r, c]
    return made


@pytest.mark.parametrize("jitter", [0.5, 1.0])
def test_jitter_against_a_loop(jitter: float) -> None:
    images = as_ink(SOME.images[:, 2])
    made = jittered(images, jitter, torch.Generator().manual_seed(4))
    parameters = torch.rand(4, 5, generator=torch.Generator().manual_seed(4)) * 2 - 1
    for image, new, row in zip(images, made, parameters, strict=True):
        expected = transformed(image[0].double().numpy(), (jitter * row.double()).tolist())
        np.testing.assert_allclose(new[0].numpy(), expected, atol=1e-4)


def test_a_jitter_of_0_changes_nothing() -> None:
    images = as_ink(SOME.images[0])
    torch.testing.assert_close(jittered(images, 0.0, torch.Generator()), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "jitter"), [(0, 0.0), (4, -0.1), (4, float("nan"))])
def test_wrong_arguments_are_refused(size: int, jitter: float) -> None:
    with pytest.raises(GlyphError, match="batch_size must be 1 or more and jitter from 0"):
        GlyphSource(SOME, size, jitter=jitter)
