"""Letters with stripes on their ink: what is seen last, when the letter already stands.

Which pairs of face and letter are kept from training is fixed, so that a letter can be asked for in
a face that never showed it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.sheets import Reader
from featurewise.worlds.glyphs.source import as_ink, generator

#: Stripes of 2 pixels across the letter, in 4 phases; then the same down the letter.
TEXTURES: Final = 8


@dataclass(frozen=True)
class Textured:
    """Which pictures are asked for, and these pictures.

    Attributes:
        faces: index of the typeface.
        letters: index of the letter.
        textures: index of the texture, below `TEXTURES`.
        images: ink 1 on paper 0, under the texture.
    """

    faces: Int64[Tensor, " B"]
    letters: Int64[Tensor, " B"]
    textures: Int64[Tensor, " B"]
    images: Float[Tensor, "B 1 S S"]

    def told(self, letters: int) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B 8"]]:
        """Letter and texture as one-hot vectors, of so many letters."""
        both = ((self.letters, letters), (self.textures, TEXTURES))
        one, other = (
            (ids[:, None] == torch.arange(count, device=ids.device)).to(self.images.dtype)
            for ids, count in both
        )
        return one, other


def textures(size: int, faint: float = 0.5) -> Float[Tensor, "8 S S"]:
    """What the ink is multiplied with: 1, and `faint` between the stripes.

    Args:
        size: height and width of the pictures.
        faint: from 0 (no ink) to below 1.
    """
    place = torch.arange(size)
    stripes = torch.stack([((place + phase) % 4 < 2).float() for phase in range(4)])
    across = (faint + (1 - faint) * stripes)[:, :, None].expand(-1, -1, size)
    return torch.cat((across, across.transpose(1, 2)))


GRADED: dict[str, str] = {
    "letter": "the judge reads the letter that was asked for",
    "texture": "of all textures, the one that was asked for is nearest to the picture",
    "both": "letter and texture",
}
"""What `TexturedSource.grade` measures."""


class TexturedSource:
    """Batches of pairs of face and letter drawn by lot, each with a texture by lot.

    Args:
        glyphs: the letters.
        batch_size: pictures in a batch.
        seed: of the lots; batch ``i`` depends on it and on ``i`` alone.
        held_out: share of the pairs that is kept from training; the same for all seeds.
        shuffled: as a control, each row is told the letter and the texture of another.

    Raises:
        GlyphError: an empty batch, or a share that is not between 0 and 1.
    """

    def __init__(
        self,
        glyphs: Glyphs,
        batch_size: int,
        seed: int = 0,
        held_out: float = 0.2,
        shuffled: bool = False,
    ) -> None:
        if batch_size < 1 or not 0 < held_out < 1:
            raise GlyphError(
                f"a batch holds at least one picture and the share held out lies between 0 and 1, "
                f"got {batch_size} and {held_out}"
            )
        self.glyphs, self.batch_size, self.seed, self.shuffled = glyphs, batch_size, seed, shuffled
        kept = torch.rand(glyphs.images.shape[:2], generator=generator(0, 0)) < held_out
        self.known, self.unknown = (~kept).nonzero(), kept.nonzero()

    def batch(self, index: int, /) -> Textured:
        """The batch of a number: the same at every call."""
        lots = generator(self.seed, index)
        rows = torch.randint(len(self.known), (self.batch_size,), generator=lots)
        batch = self._textured(self.known[rows], lots)
        if not self.shuffled:
            return batch
        return replace(batch, letters=batch.letters.roll(1), textures=batch.textures.roll(1))

    def held_out(self) -> Textured:
        """All pairs that are kept from training; their textures do not depend on the seed."""
        return self._textured(self.unknown, generator(0, 1))

    def plain(self, batch: Textured) -> Float[Tensor, "B 1 S S"]:
        """The letters of a batch without texture."""
        return as_ink(self.glyphs.images[batch.faces, batch.letters])

    def read(self, images: Float[Tensor, "B 1 S S"], batch: Textured) -> Int64[Tensor, " B"]:
        """The texture that a picture has: the one whose true picture of the letter is nearest."""
        candidates = self.plain(batch) * textures(self.glyphs.size)
        return (images - candidates).square().mean((2, 3)).argmin(1)

    @torch.no_grad()
    def grade(
        self, images: Float[Tensor, "B 1 S S"], batch: Textured, judge: Reader
    ) -> dict[str, Bool[Tensor, " B"]]:
        """Which pictures have the ``letter`` that was asked for, the ``texture``, and ``both``."""
        letter = judge.letters(images).argmax(1) == batch.letters
        texture = self.read(images, batch) == batch.textures
        return {"letter": letter, "texture": texture, "both": letter & texture}

    def _textured(self, pairs: Int64[Tensor, "B 2"], lots: torch.Generator) -> Textured:
        which = torch.randint(TEXTURES, (len(pairs),), generator=lots)
        faces, letters = pairs.T
        ink = as_ink(self.glyphs.images[faces, letters])
        return Textured(faces, letters, which, ink * textures(self.glyphs.size)[which, None])
