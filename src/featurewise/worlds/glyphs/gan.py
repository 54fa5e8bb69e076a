"""Letters with a noise vector each: batches for a conditional GAN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import GlyphSource


@dataclass(frozen=True)
class GanBatch:
    """Images, real or generated, with the label and the noise to generate others from.

    Attributes:
        images: (B, 1, S, S), ink 1, background 0; the generator does not see them.
        letters: (B,), label: index of the letter.
        noise: (B, Z), standard normal.
    """

    images: Float[Tensor, "B 1 S S"]
    letters: Int64[Tensor, " B"]
    noise: Float[Tensor, "B Z"]


class GanSource:
    """The batches of a `GlyphSource` without jitter, with noise.

    Args:
        glyphs: the letters.
        batch_size: images in a batch.
        noise_size: length of a noise vector, Z.
        seed: batch ``i`` depends on the seed and on ``i`` only.
        shuffled: as a control, permute the labels of a batch at random.

    Raises:
        GlyphError: an empty batch, or a noise size below 1.
    """

    def __init__(
        self,
        glyphs: Glyphs,
        batch_size: int,
        noise_size: int,
        seed: int = 0,
        *,
        shuffled: bool = False,
    ) -> None:
        if noise_size < 1:
            raise GlyphError(f"noise_size must be 1 or more, got {noise_size}")
        self.source = GlyphSource(glyphs, batch_size, seed)
        self.noise_size, self.shuffled = noise_size, shuffled

    def batch(self, index: int, /) -> GanBatch:
        """The batch with this index, the same at every call."""
        real = self.source.batch(index)
        # Independent of the stream that samples the letters: otherwise noise predicts the letter.
        rng = seeded_rng(self.source.seed, "noise", index)
        noise = torch.randn(len(real.letters), self.noise_size, generator=rng)
        order = torch.randperm(len(real.letters), generator=rng)
        letters = real.letters[order] if self.shuffled else real.letters
        return GanBatch(real.images, letters, noise)
