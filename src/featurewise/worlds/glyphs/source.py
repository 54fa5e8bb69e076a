"""Batches of letters, by number, with jitter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.render import Glyphs

#: What a jitter of 1 may do: radians turned, logarithm of the scale, shear, and the shift as a
#: share of half the edge.
_TURN: Final = 0.25
_SCALE: Final = 0.15
_SHEAR: Final = 0.2
_SHIFT: Final = 0.12


@dataclass(frozen=True)
class GlyphBatch:
    """Letters to learn from.

    Attributes:
        images: (B, 1, S, S), ink 1 on paper 0.
        letters: (B,), index of the letter.
        faces: (B,), index of the typeface.
    """

    images: Float[Tensor, "B 1 S S"]
    letters: Int64[Tensor, "B"]
    faces: Int64[Tensor, "B"]


class GlyphSource:
    """Batches of letters drawn by lot, a face and a letter each.

    Args:
        glyphs: the letters.
        batch_size: pictures in a batch.
        seed: of the lots; batch ``i`` depends on it and on ``i`` alone.
        jitter: 0 for the pictures as they are; 1 turns by up to 14 degrees, scales by up to 16 %,
            shears by up to 0.2 and shifts by up to 6 % of the edge, all uniform; others in
            proportion.

    Raises:
        GlyphError: an empty batch or a negative jitter.
    """

    def __init__(self, glyphs: Glyphs, batch_size: int, seed: int = 0, jitter: float = 0.0) -> None:
        if batch_size < 1 or not 0 <= jitter < 4:
            raise GlyphError(
                f"a batch holds at least one picture and jitter is from 0 to below 4, "
                f"got {batch_size} and {jitter}"
            )
        self.glyphs, self.batch_size, self.seed, self.jitter = glyphs, batch_size, seed, jitter

    def batch(self, index: int) -> GlyphBatch:
        """The batch of a number: the same at every call."""
        chance = generator(self.seed, index)
        faces, letters = self.glyphs.images.shape[:2]
        face = torch.randint(faces, (self.batch_size,), generator=chance)
        letter = torch.randint(letters, (self.batch_size,), generator=chance)
        images = as_ink(self.glyphs.images[face, letter])
        if self.jitter:
            images = jittered(images, self.jitter, chance)
        return GlyphBatch(images, letter, face)


def generator(seed: int, index: int) -> torch.Generator:
    """Random numbers that depend on both numbers alone, and differ when one does."""
    mixed = int.from_bytes(hashlib.sha256(f"{seed} {index}".encode()).digest()[:8], "big")
    return torch.Generator().manual_seed(mixed % 2**63)


def as_ink(images: Tensor) -> Float[Tensor, "N 1 S S"]:
    """Pictures of bytes (N, S, S) as networks take them: (N, 1, S, S) from 0 to 1."""
    return images.unsqueeze(1).float() / 255


def jittered(
    images: Float[Tensor, "N 1 S S"], jitter: float, chance: torch.Generator
) -> Float[Tensor, "N 1 S S"]:
    """Each picture turned, scaled, sheared and shifted by its own lots; see :class:`GlyphSource`.

    The matrix takes a place of the new picture to the one of the old from which the ink comes.
    """
    lots = torch.rand(len(images), 5, generator=chance) * 2 - 1
    lots = lots * jitter * torch.tensor([_TURN, _SCALE, _SHEAR, _SHIFT, _SHIFT])
    turn, scale, shear = lots[:, 0], lots[:, 1].exp(), lots[:, 2]
    cos, sin = turn.cos() * scale, turn.sin() * scale
    rows = torch.stack(
        [cos, cos * shear - sin, lots[:, 3], sin, sin * shear + cos, lots[:, 4]], dim=1
    )
    with torch.autocast(images.device.type, enabled=False):  # data do not depend on precision
        grid = F.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)
