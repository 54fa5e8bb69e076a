"""Images with salt-and-pepper noise, conditioned on the level of the noise.

Each pixel is replaced by black or white with a probability, the level. A network that is trained at
some levels can be tested at those between and beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one
from featurewise.worlds.small.errors import SmallWorldError


@runtime_checkable
class Images(Protocol):
    """Images with labels, of any data set."""

    @property
    def images(self) -> Float[Tensor, "B 1 S S"]:
        """Ink 1 on paper 0."""

    @property
    def labels(self) -> Int64[Tensor, " B"]:
        """Index of the class."""


@runtime_checkable
class ImagesByIndex(Protocol):
    """Batches of images by index, which depend on a seed."""

    @property
    def seed(self) -> int:
        """Of all randomness."""

    def batch(self, index: int, /) -> Images:
        """The batch of this index."""


@dataclass(frozen=True)
class NoisyImages:
    """Images with noise.

    Attributes:
        images: from 0 to 1, some pixels replaced.
        condition: the level of the noise of each image, from 0 to 1.
        labels: index of the class.
    """

    images: Float[Tensor, "B 1 S S"]
    condition: Float[Tensor, "B 1"]
    labels: Int64[Tensor, " B"]


@dataclass(frozen=True)
class NoisySource:
    """Batches of any source with new noise, each image at a random one of some levels.

    Attributes:
        source: of the images.
        levels: of the noise, from 0 to 1, each equally likely.

    Raises:
        SmallWorldError: no level, or one that is not from 0 to 1.
    """

    source: ImagesByIndex
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        check_levels(self.levels)

    def batch(self, index: int, /) -> NoisyImages:
        """The batch with this index, the same at every call."""
        found = self.source.batch(index)
        rng = seeded_rng(self.source.seed, "noise", index)
        chosen = torch.randint(len(self.levels), found.labels.shape, generator=rng)
        level = torch.tensor(self.levels)[chosen]
        images = salt_and_pepper(found.images, level, rng)
        return NoisyImages(images, level[:, None], found.labels)


def at_level(found: Images, level: float, repeats: int = 1) -> NoisyImages:
    """Every image so many times with noise of one level, which depends on no seed.

    The random numbers are the same at all levels: a pixel that is replaced at one level has the
    same value at all higher ones.

    Args:
        found: images without noise.
        level: from 0 to 1.
        repeats: how often each image is in the result, in succession, with different noise.

    Raises:
        SmallWorldError: another level, or no repeat.
    """
    check_levels((level,))
    count = at_least_one(repeats, "repeats")
    images, labels = (each.repeat_interleave(count, 0) for each in (found.images, found.labels))
    levels = torch.full((len(labels),), float(level))
    noisy = salt_and_pepper(images, levels, seeded_rng(0, "noise"))
    return NoisyImages(noisy, levels[:, None], labels)


def salt_and_pepper(
    images: Float[Tensor, "B 1 S S"], level: Float[Tensor, " B"], rng: torch.Generator
) -> Float[Tensor, "B 1 S S"]:
    """Each pixel is 0 or 1, either as likely, with the probability ``level`` of its image.

    Args:
        images: from 0 to 1.
        level: of each image.
        rng: of which pixels, and of their values.
    """
    uniform, value = torch.rand((2, *images.shape), generator=rng)
    return torch.where(uniform < level[:, None, None, None], (value < 0.5).to(images), images)


def check_levels(levels: Sequence[float]) -> None:
    """Raises SmallWorldError unless there are levels, all of them from 0 to 1."""
    if not levels or not all(0 <= level <= 1 for level in levels):
        raise SmallWorldError(f"levels of noise are from 0 to 1, at least one; got {levels}")
