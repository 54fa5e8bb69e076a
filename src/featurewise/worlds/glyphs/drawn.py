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
        seed: of the lots; batch ``i`` depends on it and on ``i`` alone.
        shuffled: as a control, deals the letters of a batch anew.

    Raises:
        GlyphError: an empty batch, or noise of no width.
    """

    def __init__(
        self, glyphs: Glyphs, batch_size: int, noise: int, seed: int = 0, *, shuffled: bool = False
    ) -> None:
        if noise < 1:
            raise GlyphError(f"noise is at least 1 wide, got {noise}")
        self.source = GlyphSource(glyphs, batch_size, seed)
        self.noise, self.shuffled = noise, shuffled

    def batch(self, index: int, /) -> Drawn:
        """The batch of a number: the same at every call."""
        real = self.source.batch(index)
        # Lots of its own: those that the letters are drawn by would tell the letter.
        lots = generator(~self.source.seed, index)
        noise = torch.randn(len(real.letters), self.noise, generator=lots)
        dealt = torch.randperm(len(real.letters), generator=lots)
        letters = real.letters[dealt] if self.shuffled else real.letters
        return Drawn(real.images, letters, noise)
