"""Batches of letters by index, with jitter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs

#: Largest transformation at a jitter of 1: rotation in radians, logarithm of the scale, shear, and
#: translation as a share of half the image size.
_ROTATION: Final = 0.25
_SCALE: Final = 0.15
_SHEAR: Final = 0.2
_TRANSLATION: Final = 0.12


@dataclass(frozen=True)
class GlyphBatch:
    """A batch of letters.

    Attributes:
        images: (B, 1, S, S), ink 1, background 0.
        letters: (B,), index of the letter.
        typefaces: (B,), index of the typeface.
    """

    images: Float[Tensor, "B 1 S S"]
    letters: Int64[Tensor, "B"]
    typefaces: Int64[Tensor, "B"]


class GlyphSource:
    """Batches of letters; typeface and letter are sampled uniformly, with replacement.

    Args:
        glyphs: the letters.
        batch_size: images in a batch.
        seed: batch ``i`` depends on the seed and on ``i`` only.
        jitter: strength of a random affine transformation. 0: none. 1: rotation by up to 14
            degrees, scaling by up to 16 %, shear up to 0.2 and translation by up to 6 % of the
            image size, all uniform. Other values scale these in proportion.

    Raises:
        GlyphError: an empty batch, or a jitter outside 0 to below 4.
    """

    def __init__(self, glyphs: Glyphs, batch_size: int, seed: int = 0, jitter: float = 0.0) -> None:
        if batch_size < 1 or not 0 <= jitter < 4:
            raise GlyphError(
                f"batch_size must be 1 or more and jitter from 0 to below 4, "
                f"got {batch_size} and {jitter}"
            )
        self.glyphs, self.batch_size, self.seed, self.jitter = glyphs, batch_size, seed, jitter

    def batch(self, index: int) -> GlyphBatch:
        """The batch with this index, the same at every call."""
        rng = seeded_rng(self.seed, index)
        typeface_count, letter_count = self.glyphs.images.shape[:2]
        typefaces = torch.randint(typeface_count, (self.batch_size,), generator=rng)
        letters = torch.randint(letter_count, (self.batch_size,), generator=rng)
        images = as_ink(self.glyphs.images[typefaces, letters])
        if self.jitter:
            images = jittered(images, self.jitter, rng)
        return GlyphBatch(images, letters, typefaces)


def as_ink(images: Tensor) -> Float[Tensor, "N 1 S S"]:
    """Images of bytes (N, S, S) as network input: (N, 1, S, S) from 0 to 1."""
    return images.unsqueeze(1).float() / 255


def jittered(
    images: Float[Tensor, "N 1 S S"], jitter: float, rng: torch.Generator
) -> Float[Tensor, "N 1 S S"]:
    """Each image rotated, scaled, sheared and translated at random; see :class:`GlyphSource`.

    The affine matrix maps output coordinates to input coordinates, as `affine_grid` expects.

    Args:
        images: ink 1, background 0.
        jitter: strength of the transformation.
        rng: source of the random parameters, five for each image.
    """
    limits = torch.tensor([_ROTATION, _SCALE, _SHEAR, _TRANSLATION, _TRANSLATION])
    parameters = torch.rand(len(images), 5, generator=rng) * 2 - 1
    parameters = parameters * jitter * limits
    angle, scale, shear = parameters[:, 0], parameters[:, 1].exp(), parameters[:, 2]
    cos, sin = angle.cos() * scale, angle.sin() * scale
    matrix = torch.stack(
        [cos, cos * shear - sin, parameters[:, 3], sin, sin * shear + cos, parameters[:, 4]], dim=1
    )
    with torch.autocast(images.device.type, enabled=False):  # data do not depend on precision
        grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)
