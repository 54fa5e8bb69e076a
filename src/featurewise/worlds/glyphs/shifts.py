"""Shifts of a whole data set: changes of the statistics of pixels, and changes of the geometry.

What a network learned on unchanged images fails on changed ones, for one of two reasons: its
features have other means and variances, or other features are there. The first kind can be
corrected without labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.worlds.glyphs.domains import blurred, rotated


@dataclass(frozen=True)
class Shift:
    """One change of all images of a data set.

    Attributes:
        name: of the shift.
        kind: "statistics" of the pixels, or "geometry".
        change: (images, rng) -> changed images of the same shape, not always within [0, 1].
    """

    name: str
    kind: Literal["statistics", "geometry"]
    change: Callable[[Float[Tensor, "N 1 S S"], torch.Generator], Float[Tensor, "N 1 S S"]]


def _noisy(images: Tensor, rng: torch.Generator) -> Tensor:
    return images + 0.3 * torch.randn(images.shape, generator=rng)


SHIFTS: Final = (
    Shift("contrast", "statistics", lambda images, rng: 0.35 + 0.3 * images),
    Shift("ink", "statistics", lambda images, rng: 0.3 * images),
    Shift("blur", "statistics", lambda images, rng: blurred(images)),
    Shift("noise", "statistics", _noisy),
    Shift("rotated", "geometry", lambda images, rng: rotated(images)),
    Shift("upside down", "geometry", lambda images, rng: images.flip(2)),
)
"""Lower contrast around grey; fainter ink; a binomial blur of five pixels; normal noise of standard
deviation 0.3; a quarter turn to the left; a mirror from top to bottom."""
