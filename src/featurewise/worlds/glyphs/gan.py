"""Labelled images with a noise vector each: batches for a conditional GAN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.labelled import ImageSource


@dataclass(frozen=True)
class GanBatch:
    """Images, real or generated, with the label and the noise to generate others from.

    Attributes:
        images: ink 1, background 0; the generator does not see them.
        labels: index of the class.
        noise: standard normal.
    """

    images: Float[Tensor, "B 1 S S"]
    labels: Int64[Tensor, " B"]
    noise: Float[Tensor, "B Z"]


class GanSource:
    """The batches of an `ImageSource`, with noise.

    Args:
        source: of real images.
        noise_size: length of a noise vector, Z.

    Raises:
        GlyphError: a noise size below 1.
    """

    def __init__(self, source: ImageSource, noise_size: int) -> None:
        if noise_size < 1:
            raise GlyphError(f"noise_size must be 1 or more, got {noise_size}")
        self.source, self.noise_size = source, noise_size

    def batch(self, index: int, /) -> GanBatch:
        """The batch with this index, the same at every call."""
        real = self.source.batch(index)
        # Independent of the stream that samples the classes: otherwise noise predicts the class.
        rng = seeded_rng(self.source.seed, "noise", index)
        noise = torch.randn(len(real.labels), self.noise_size, generator=rng)
        return GanBatch(real.images, real.labels, noise)
