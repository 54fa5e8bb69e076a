"""Letters with noise to draw others from: what two networks that play against each other read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import GlyphSource, generator


@dataclass(frozen=True)
class Drawn:
    """Pictures, real or drawn, and what they are drawn from.

    Attributes:
        images: ink 1 on paper 0; whoever draws does not read them.
        letters: index of the letter that is told.
        noise: of a standard normal distribution.
    """

    images: Float[Tensor, "B 1 S S"]
    letters: Int64[Tensor, " B"]
    noise: Float[Tensor, "B Z"]


class DrawnSource:
    """The batches of a `GlyphSource`, with noise.

    Args:
        glyphs: the letters.
        batch_size: pictures in a batch.
        noise: width of the noise.
        seed: of all randomness; batch ``i`` depends on it and on ``i`` alone.

    Raises:
        GlyphError: an empty batch, or noise of no width.
    """

    def __init__(self, glyphs: Glyphs, batch_size: int, noise: int, seed: int = 0) -> None:
        if noise < 1:
            raise GlyphError(f"noise is at least 1 wide, got {noise}")
        self.source = GlyphSource(glyphs, batch_size, seed)
        self.noise = noise

    def batch(self, index: int, /) -> Drawn:
        """The batch of a number: the same at every call."""
        real = self.source.batch(index)
        noise, _ = self._random(index, len(real.letters))
        return Drawn(real.images, real.letters, noise)

    def permutation(self, index: int, batch: Drawn) -> Int64[Tensor, " B"]:
        """A random order of the samples of a batch, for a control whose labels are permuted."""
        return self._random(index, len(batch.letters))[1]

    def _random(self, index: int, count: int) -> tuple[Tensor, Tensor]:
        """Noise of a batch, and an order of its samples."""
        # A generator of its own: the one that the letters are chosen by would tell the letter.
        rng = generator(~self.source.seed, index)
        noise = torch.randn(count, self.noise, generator=rng)
        return noise, torch.randperm(count, generator=rng)
