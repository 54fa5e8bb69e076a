"""Letters with striped ink: images conditioned on a letter and a texture.

The pairs of typeface and letter are split once, for all seeds, so that a model can be tested on
letters of a typeface that it was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.sheets import LetterClassifier
from featurewise.worlds.glyphs.source import as_ink

#: Horizontal stripes 2 pixels wide in 4 phases, then vertical ones in 4 phases.
TEXTURES: Final = 8


@dataclass(frozen=True)
class Textured:
    """Labels, and the images that they describe.

    Attributes:
        typefaces: (B,), index of the typeface.
        letters: (B,), index of the letter.
        textures: (B,), index of the texture, below `TEXTURES`.
        images: (B, 1, S, S), ink 1, background 0, multiplied by the texture.
    """

    typefaces: Int64[Tensor, " B"]
    letters: Int64[Tensor, " B"]
    textures: Int64[Tensor, " B"]
    images: Float[Tensor, "B 1 S S"]

    def one_hot(self, letters: int) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B 8"]]:
        """Letter and texture as one-hot vectors, the conditions.

        Args:
            letters: number of letters, L.
        """
        both = ((self.letters, letters), (self.textures, TEXTURES))
        letter, texture = (
            (ids[:, None] == torch.arange(count, device=ids.device)).to(self.images.dtype)
            for ids, count in both
        )
        return letter, texture


def textures(size: int, faint: float = 0.5) -> Float[Tensor, "8 S S"]:
    """The factors that ink is multiplied by: 1 on the stripes, ``faint`` between them.

    Args:
        size: height and width of the images, in pixels.
        faint: from 0 (no ink) to below 1.
    """
    position = torch.arange(size)
    stripes = torch.stack([((position + phase) % 4 < 2).float() for phase in range(4)])
    horizontal = (faint + (1 - faint) * stripes)[:, :, None].expand(-1, -1, size)
    return torch.cat((horizontal, horizontal.transpose(1, 2)))


class TexturedSource:
    """Batches of training pairs (typeface, letter), each with a random texture.

    Args:
        glyphs: the letters.
        batch_size: images in a batch.
        seed: batch ``i`` depends on the seed and on ``i`` only.
        test_share: share of the pairs that is kept for testing; the same pairs for all seeds.

    Attributes:
        train_pairs: (N, 2), typeface and letter of the pairs for training.
        test_pairs: (M, 2), those for testing.

    Raises:
        GlyphError: an empty batch, or a share that is not between 0 and 1.
    """

    def __init__(
        self, glyphs: Glyphs, batch_size: int, seed: int = 0, test_share: float = 0.2
    ) -> None:
        if batch_size < 1 or not 0 < test_share < 1:
            raise GlyphError(
                f"batch_size must be 1 or more and test_share between 0 and 1, "
                f"got {batch_size} and {test_share}"
            )
        self.glyphs, self.batch_size, self.seed = glyphs, batch_size, seed
        test = torch.rand(glyphs.images.shape[:2], generator=seeded_rng(0, 0)) < test_share
        self.train_pairs, self.test_pairs = (~test).nonzero(), test.nonzero()

    def batch(self, index: int, /) -> Textured:
        """The batch with this index, the same at every call."""
        rng = seeded_rng(self.seed, index)
        chosen = torch.randint(len(self.train_pairs), (self.batch_size,), generator=rng)
        return self._textured(self.train_pairs[chosen], rng)

    def test(self) -> Textured:
        """All test pairs; their textures do not depend on the seed."""
        return self._textured(self.test_pairs, seeded_rng(0, 1))

    def plain(self, batch: Textured) -> Float[Tensor, "B 1 S S"]:
        """The letters of a batch without texture."""
        return as_ink(self.glyphs.images[batch.typefaces, batch.letters])

    def nearest_texture(
        self, images: Float[Tensor, "B 1 S S"], batch: Textured
    ) -> Int64[Tensor, " B"]:
        """The texture whose true image of the same typeface and letter is nearest to each image."""
        candidates = self.plain(batch) * textures(self.glyphs.size)
        return (images - candidates).square().mean((2, 3)).argmin(1)

    @torch.no_grad()
    def correct(
        self, images: Float[Tensor, "B 1 S S"], batch: Textured, classifier: LetterClassifier
    ) -> dict[str, Bool[Tensor, " B"]]:
        """Which generated images have the letter and the texture of their condition.

        Args:
            images: generated images.
            batch: the conditions.
            classifier: the evaluation classifier.

        Returns:
            ``letter``: the classifier predicts it; ``texture``: it is the nearest texture;
            ``both``.
        """
        letter = classifier.letters(images).argmax(1) == batch.letters
        texture = self.nearest_texture(images, batch) == batch.textures
        return {"letter": letter, "texture": texture, "both": letter & texture}

    def _textured(self, pairs: Int64[Tensor, "B 2"], rng: torch.Generator) -> Textured:
        index = torch.randint(TEXTURES, (len(pairs),), generator=rng)
        typefaces, letters = pairs.T
        ink = as_ink(self.glyphs.images[typefaces, letters])
        return Textured(typefaces, letters, index, ink * textures(self.glyphs.size)[index, None])
