"""Letters at a contrast: images conditioned on a letter and on a number that all pixels share.

The pairs of typeface and letter are split once, for all seeds, so that a model can be tested on
letters of a typeface that it was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.sheets import LetterClassifier
from featurewise.worlds.glyphs.source import as_ink

#: From full negative contrast (light ink on dark paper) to full positive contrast.
CONTRASTS: Final = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Contrasted:
    """Labels, and the images that they describe.

    Attributes:
        typefaces: (B,), index of the typeface.
        letters: (B,), index of the letter.
        contrasts: (B,), index into `CONTRASTS`.
        images: (B, 1, S, S), from 0 to 1; 0.5 plus contrast times (ink - 0.5).
    """

    typefaces: Int64[Tensor, " B"]
    letters: Int64[Tensor, " B"]
    contrasts: Int64[Tensor, " B"]
    images: Float[Tensor, "B 1 S S"]

    def one_hot(self, letters: int) -> tuple[Float[Tensor, "B L"], Float[Tensor, "B 8"]]:
        """Letter and contrast as one-hot vectors, the conditions.

        Args:
            letters: number of letters, L.
        """
        both = ((self.letters, letters), (self.contrasts, len(CONTRASTS)))
        letter, contrast = (
            (ids[:, None] == torch.arange(count, device=ids.device)).to(self.images.dtype)
            for ids, count in both
        )
        return letter, contrast


def with_contrast(
    ink: Float[Tensor, "B 1 S S"], contrasts: Int64[Tensor, " B"]
) -> Float[Tensor, "B 1 S S"]:
    """Images at a contrast.

    Args:
        ink: letters, ink 1 and background 0.
        contrasts: index into `CONTRASTS`.
    """
    return 0.5 + torch.tensor(CONTRASTS)[contrasts, None, None, None] * (ink - 0.5)


class ContrastSource:
    """Batches of training pairs (typeface, letter), each with a random contrast.

    Args:
        glyphs: the letters.
        batch_size: images in a batch.
        seed: batch ``i`` depends on the seed and on ``i`` only.
        test_share: share of the pairs that is kept for testing, and as large a share for
            validation; the same pairs for all seeds.

    Attributes:
        pairs: part -> (N, 2), typeface and letter of its pairs.

    Raises:
        GlyphError: an empty batch, or a share that is not between 0 and a half.
    """

    def __init__(
        self, glyphs: Glyphs, batch_size: int, seed: int = 0, test_share: float = 0.2
    ) -> None:
        if batch_size < 1 or not 0 < test_share < 0.5:
            raise GlyphError(
                f"batch_size must be 1 or more and test_share between 0 and 0.5, "
                f"got {batch_size} and {test_share}"
            )
        self.glyphs, self.batch_size, self.seed = glyphs, batch_size, seed
        place = torch.rand(glyphs.images.shape[:2], generator=seeded_rng(0, "pairs"))
        test, validation = place < test_share, (place >= test_share) & (place < 2 * test_share)
        self.pairs = {
            "test": test.nonzero(),
            "validation": validation.nonzero(),
            "train": (~test & ~validation).nonzero(),
        }

    def batch(self, index: int, /) -> Contrasted:
        """The batch with this index, the same at every call."""
        rng, pairs = seeded_rng(self.seed, "pairs", index), self.pairs["train"]
        chosen = torch.randint(len(pairs), (self.batch_size,), generator=rng)
        return self._contrasted(pairs[chosen], rng)

    def whole(self, part: Literal["test", "validation"] = "test") -> Contrasted:
        """All pairs of a part; their contrasts do not depend on the seed."""
        return self._contrasted(self.pairs[part], seeded_rng(0, part))

    def plain(self, batch: Contrasted) -> Float[Tensor, "B 1 S S"]:
        """The letters of a batch, ink 1 on background 0."""
        return as_ink(self.glyphs.images[batch.typefaces, batch.letters])

    def nearest_contrast(
        self, images: Float[Tensor, "B 1 S S"], batch: Contrasted
    ) -> Int64[Tensor, " B"]:
        """The contrast whose true image of the same typeface and letter is nearest to each."""
        ink = self.plain(batch)
        candidates = [
            with_contrast(ink, torch.full((len(ink),), level)) for level in range(len(CONTRASTS))
        ]
        errors = [(images - each).square().mean((1, 2, 3)) for each in candidates]
        return torch.stack(errors, 1).argmin(1)

    @torch.no_grad()
    def correct(
        self, images: Float[Tensor, "B 1 S S"], batch: Contrasted, classifier: LetterClassifier
    ) -> dict[str, Bool[Tensor, " B"]]:
        """Which generated images have the letter and the contrast of their condition.

        Args:
            images: generated images.
            batch: the conditions.
            classifier: the evaluation classifier; it is given the images at full contrast.

        Returns:
            ``letter``: the classifier predicts it; ``contrast``: it is the nearest; ``both``.
        """
        contrast = torch.tensor(CONTRASTS)[batch.contrasts, None, None, None]
        ink = ((images - 0.5) / contrast + 0.5).clamp(0, 1)
        letter = classifier.letters(ink).argmax(1) == batch.letters
        right = self.nearest_contrast(images, batch) == batch.contrasts
        return {"letter": letter, "contrast": right, "both": letter & right}

    def _contrasted(self, pairs: Int64[Tensor, "B 2"], rng: torch.Generator) -> Contrasted:
        index = torch.randint(len(CONTRASTS), (len(pairs),), generator=rng)
        typefaces, letters = pairs.T
        ink = as_ink(self.glyphs.images[typefaces, letters])
        return Contrasted(typefaces, letters, index, with_contrast(ink, index))
