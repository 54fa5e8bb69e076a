"""Domains of episodes: one change of all images of an episode, for its support to show.

Episodes of letters look alike, so that a condition that describes the episode has little to say.
Here each episode is rendered in one of several ways, and what recognises letters in one of them
fails in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.episodes import Episodes, EpisodeSource
from featurewise.worlds.glyphs.errors import GlyphError


def unchanged(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """Bright ink on a dark background, upright, sharp."""
    return images


def inverted(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """Dark ink on a bright background."""
    return 1 - images


def rotated(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """A quarter turn to the left."""
    return images.rot90(1, (2, 3))


def striped_rows(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """Inverted in horizontal stripes of two pixels, two pixels apart."""
    stripes = (torch.arange(images.shape[2]) % 4 < 2).to(images)
    return (images - stripes[:, None]).abs()


def striped_columns(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """Inverted in vertical stripes of two pixels, two pixels apart."""
    return striped_rows(images.mT).mT


def blurred(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """Smoothed by a binomial kernel of five pixels, which is nearly Gaussian."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).to(images) / 16
    return F.conv2d(images, torch.outer(row, row)[None, None], padding=2)


def inverted_rotated(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """A quarter turn to the left, dark ink on a bright background."""
    return inverted(rotated(images))


def inverted_blurred(images: Float[Tensor, "M 1 S S"]) -> Float[Tensor, "M 1 S S"]:
    """Smoothed, dark ink on a bright background."""
    return inverted(blurred(images))


#: Name -> what it does to images with values in [0, 1], which stay there.
DOMAINS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    each.__name__: each
    for each in (
        unchanged,
        inverted,
        rotated,
        inverted_rotated,
        striped_rows,
        striped_columns,
        blurred,
        inverted_blurred,
    )
}


class EpisodesInDomains:
    """The same episodes, each in a domain that is sampled at random.

    All images of an episode, those of an auxiliary task too, are in its domain.

    Args:
        source: of the episodes, whose images have one channel.
        domains: names in `DOMAINS`, which are equally likely.

    Raises:
        GlyphError: no domain, or an unknown one.
    """

    def __init__(self, source: EpisodeSource, domains: Sequence[str]) -> None:
        if not domains or not set(domains) <= DOMAINS.keys():
            raise GlyphError(f"domains are of {', '.join(DOMAINS)}; got {', '.join(domains)}")
        self.source, self.domains = source, tuple(domains)

    def batch(self, index: int, /) -> Episodes:
        """The batch with this index, the same at every call."""
        episodes = self.source.batch(index)
        names = self.sampled(index)
        changed = {
            field: torch.stack([DOMAINS[name](e) for name, e in zip(names, images, strict=True)])
            for field, images in vars(episodes).items()
            if isinstance(images, Tensor) and images.is_floating_point()
        }
        return replace(episodes, **changed)

    def sampled(self, index: int) -> list[str]:
        """The domain of each episode of a batch."""
        rng = seeded_rng(self.source.seed, "domain", index)
        count = (self.source.episodes,)
        positions = torch.randint(len(self.domains), count, generator=rng).tolist()
        return [self.domains[i] for i in positions]
