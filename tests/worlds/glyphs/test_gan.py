"""Images with noise: noise is independent of the class, and changes nothing else."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import GlyphError
from featurewise.worlds.glyphs.gan import GanSource
from featurewise.worlds.glyphs.labelled import ImageSource, LabelledImages


def source(batch_size: int, seed: int = 0) -> ImageSource:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, 8, 8), generator=rng).to(torch.uint8)
    images = LabelledImages(pixels, torch.arange(24) % 4, torch.arange(24))
    return ImageSource(images, batch_size, seed)


def test_images_and_labels_are_those_of_the_plain_source() -> None:
    for i in range(3):
        plain, batch = source(9, 5).batch(i), GanSource(source(9, 5), 7).batch(i)
        assert torch.equal(plain.images, batch.images)
        assert torch.equal(plain.labels, batch.labels)
        assert batch.noise.shape == (9, 7)


def test_noise_is_normal_and_independent_of_batch_and_class() -> None:
    batches = [GanSource(source(200), 8).batch(i) for i in range(20)]
    noise = torch.cat([each.noise for each in batches])
    labels = torch.cat([each.labels for each in batches])
    means = torch.stack([noise[labels == k].mean(0) for k in range(4)])
    assert float(means.abs().max()) < 5 / 1000**0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(batches[0].noise, batches[1].noise)
    assert torch.equal(batches[3].noise, GanSource(source(200), 8).batch(3).noise)


def test_noise_of_size_0_is_refused() -> None:
    with pytest.raises(GlyphError, match="noise_size must be 1 or more, got 0"):
        GanSource(source(4), 0)
