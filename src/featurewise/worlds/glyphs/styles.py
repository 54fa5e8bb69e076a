"""Contents in styles, some given and the others hidden, as letters of typefaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs
from featurewise.worlds.glyphs.source import as_ink

#: Every third content is hidden.
_HIDE_EVERY: Final = 3


@dataclass(frozen=True)
class Styles:
    """Observations of all contents in F styles.

    Attributes:
        samples: (F, L, N, P), N observations of P values of each of L contents.
        shown: (F, L), 1 for contents that a model may use, 0 for contents that it has to predict.
    """

    samples: Float[Tensor, "F L N P"]
    shown: Float[Tensor, "F L"]

    @property
    def means(self) -> Float[Tensor, "F L P"]:
        """The mean observation of each content."""
        return self.samples.mean(2)


class StyleSource:
    """Batches of styles, sampled without replacement, with all contents shown.

    Args:
        samples: (S, L, N, P), as in `Styles`.
        batch_size: styles in a batch, F.
        seed: batch ``i`` depends on the seed and on ``i`` only.

    Raises:
        GlyphError: an empty batch, or a batch of more styles than there are.
    """

    def __init__(self, samples: Float[Tensor, "S L N P"], batch_size: int, seed: int = 0) -> None:
        if not 1 <= batch_size <= len(samples):
            raise GlyphError(
                f"batch_size must be from 1 to {len(samples)} styles, got {batch_size}"
            )
        self.samples, self.batch_size, self.seed = samples, batch_size, seed

    def batch(self, index: int, /) -> Styles:
        """The batch with this index, the same at every call."""
        order = torch.randperm(len(self.samples), generator=seeded_rng(self.seed, index))
        samples = self.samples[order[: self.batch_size]]
        return Styles(samples, torch.ones(samples.shape[:2]))


def styles(samples: Float[Tensor, "F L N P"], *, shuffled: bool = False) -> Styles:
    """All styles, with every third content hidden (the third, the sixth and so on).

    Args:
        samples: as in `Styles`.
        shuffled: as a control, permute each shown content over the styles at random, so that the
            shown contents of a row are of different styles; hidden contents are not permuted.

    Raises:
        GlyphError: fewer than three contents, so that none would be hidden.
    """
    count, contents = samples.shape[:2]
    if contents < _HIDE_EVERY:
        raise GlyphError(f"every third content is hidden, so at least 3 are needed, got {contents}")
    hidden = torch.arange(contents) % _HIDE_EVERY == _HIDE_EVERY - 1
    if shuffled:
        samples, rng = samples.clone(), seeded_rng(0, 0)
        for content in (~hidden).nonzero().flatten():
            samples[:, content] = samples[torch.randperm(count, generator=rng), content]
    return Styles(samples, (~hidden).float().repeat(count, 1))


def alphabets(glyphs: Glyphs) -> Float[Tensor, "F L 1 P"]:
    """One observation of each letter of F typefaces: its P = S² pixels, ink 1, background 0."""
    typefaces, count = glyphs.images.shape[:2]
    return as_ink(glyphs.images.flatten(0, 1)).view(typefaces, count, 1, -1)
