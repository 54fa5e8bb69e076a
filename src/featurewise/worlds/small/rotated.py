"""Rotated digits, conditioned on the angle.

To rotate an image is a linear map that changes smoothly with the angle, so that a network that is
conditioned on some angles can be tested at angles between them. Without the angle a 6 may look
like a 9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one, check_seed
from featurewise.worlds.small.digits import digits

PIXELS = 64
"""Number of pixels of a digit."""


@dataclass(frozen=True)
class Rotated:
    """Rotated digits.

    Attributes:
        pixels: in 0 to 1.
        condition: cosine and sine of the angle.
        labels: 0 to 9.
    """

    pixels: Float[Tensor, "B 64"]
    condition: Float[Tensor, "B 2"]
    labels: Int64[Tensor, " B"]


@dataclass(frozen=True)
class RotatedSource:
    """Batches of training digits by index, each at one of the seen angles.

    Attributes:
        batch_size: digits in a batch.
        angles: number of seen angles, which divide the circle equally.
        seed: of the samples, 0 or more.

    Raises:
        SmallWorldError: a number out of its range.
        MissingPackageError: scikit-learn is not installed.
    """

    batch_size: int
    angles: int
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self.batch_size, "batch_size")
        at_least_one(self.angles, "angles")
        check_seed(self.seed)
        digits("train")

    def batch(self, index: int, /) -> Rotated:
        """The batch with this index."""
        rng, size, known = (
            seeded_rng(self.seed, "train", index),
            (self.batch_size,),
            digits("train"),
        )
        chosen = torch.randint(len(known.labels), size, generator=rng)
        angle = seen_angles(self.angles)[torch.randint(self.angles, size, generator=rng)]
        return rotate(known.images[chosen], known.labels[chosen], angle)


def rotated_digits(split: str, angles: Float[Tensor, " A"]) -> Rotated:
    """Every digit of a split at every angle, the angles of one digit in succession.

    Args:
        split: ``train``, ``validation`` or ``test``.
        angles: in radians.
    """
    known, count = digits(split), len(angles)
    angle = angles.repeat(len(known.labels))
    images, labels = (part.repeat_interleave(count, 0) for part in (known.images, known.labels))
    return rotate(images, labels, angle)


def seen_angles(count: int) -> Float[Tensor, " A"]:
    """Angles in radians, from 0, that divide the circle equally."""
    return torch.arange(count) * (2 * math.pi / count)


def unseen_angles(count: int) -> Float[Tensor, " A"]:
    """The angle in the middle between each of the seen angles and the next."""
    return seen_angles(count) + math.pi / count


def rotate(
    images: Float[Tensor, "B 1 8 8"], labels: Int64[Tensor, " B"], angle: Float[Tensor, " B"]
) -> Rotated:
    """Images rotated counter-clockwise about their centre, bilinearly; outside them is 0.

    Args:
        images: of digits.
        labels: 0 to 9.
        angle: in radians.
    """
    condition, zero = cosine_and_sine(angle), torch.zeros_like(angle)
    cos, sin = condition.unbind(1)
    maps = torch.stack((cos, -sin, zero, sin, cos, zero), 1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    rotated = F.grid_sample(images, grid, align_corners=False)
    return Rotated(rotated.flatten(1), condition, labels)


def cosine_and_sine(angle: Float[Tensor, " B"]) -> Float[Tensor, "B 2"]:
    """The condition that an angle in radians is."""
    return torch.stack((angle.cos(), angle.sin()), dim=1)
