"""Pieces of two photographs: a picture as a function from places to colours, seen at few places.

The photographs come with scikit-learn: ``china.jpg`` by danielbuechele and ``flower.jpg`` by
vultilion (Flickr), both CC BY 2.0. Pieces for training lie in the left 70 % of each, held-out
pieces in the rest, so that no pixel is on both sides.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featurewise.worlds.small.draws import at_least_one, generator
from featurewise.worlds.small.errors import MissingPackageError, SmallWorldError

SCALES = (4, 8)
"""By which factors the photographs are shrunk before a piece is cut out."""


@dataclass(frozen=True)
class Pieces:
    """Pictures of S by S pixels, one a row; places are in [-1, 1], colours in [0, 1].

    Attributes:
        support_x: places of the K pixels that are given: right, down.
        support_y: their colours.
        query_x: the places of all pixels, line by line.
        query_y: their colours.
    """

    support_x: Float[Tensor, "T K 2"]
    support_y: Float[Tensor, "T K 3"]
    query_x: Float[Tensor, "T P 2"]
    query_y: Float[Tensor, "T P 3"]

    def swapped(self) -> Pieces:
        """Every picture given the pixels of another: of the one before it."""
        x, y = self.support_x.roll(1, 0), self.support_y.roll(1, 0)
        return replace(self, support_x=x, support_y=y)

    def nearest(self) -> Float[Tensor, "T P 3"]:
        """Every pixel as the given one that is nearest to it."""
        distance = torch.cdist(self.query_x, self.support_x)
        index = distance.argmin(2, keepdim=True).expand(-1, -1, 3)
        return self.support_y.gather(1, index)

    def mean(self) -> Float[Tensor, "T P 3"]:
        """Every pixel as the mean of the given ones."""
        return self.support_y.mean(1, keepdim=True).expand_as(self.query_y)


@dataclass(frozen=True)
class PieceSource:
    """Batches of pieces by index.

    Attributes:
        tasks: T, pictures in a batch.
        given: K, pixels of each that are given.
        size: S, pixels of a side.
        ordered: give the first K pixels, line by line, instead of K at random.
        seed: of all that is drawn, at least 0.
        held_out: cut from the right of the photographs.

    Raises:
        SmallWorldError: a number out of its range, or a size that no part of a photograph has.
        MissingPackageError: scikit-learn is not installed.
    """

    tasks: int
    given: int
    size: int = 16
    ordered: bool = False
    seed: int = 0
    held_out: bool = False

    def __post_init__(self) -> None:
        for name in ("tasks", "given", "size"):
            at_least_one(getattr(self, name), name)
        generator(self.seed)
        if self.given > self.size**2:
            raise SmallWorldError(f"a picture has {self.size**2} pixels, not {self.given}")
        smallest = min(min(part.shape[1:]) for part in photographs(self.held_out))
        if self.size > smallest:
            raise SmallWorldError(f"size must be at most {smallest}, got {self.size}")

    def batch(self, index: int, /) -> Pieces:
        """The pictures of this index, and which of their pixels are given."""
        random = generator(self.seed, int(self.held_out), index)
        drawn = torch.rand(self.tasks, 4, generator=random)
        pictures = torch.stack([self._cut(*row.tolist()) for row in drawn])
        order = torch.rand(self.tasks, self.size**2, generator=random).argsort(1)
        chosen = order[:, : self.given, None]
        if self.ordered:
            chosen = torch.arange(self.given)[:, None].expand(self.tasks, -1, 1)
        colours = pictures.flatten(2).mT
        places = grid(self.size).expand(self.tasks, -1, -1)
        return Pieces(
            places.gather(1, chosen.expand(-1, -1, 2)),
            colours.gather(1, chosen.expand(-1, -1, 3)),
            places,
            colours,
        )

    def _cut(self, which: float, down: float, right: float, mirror: float) -> Tensor:
        """A piece ``(3, S, S)`` of one of the photographs, where four numbers in [0, 1) say."""
        parts = photographs(self.held_out)
        part = parts[int(which * len(parts))]
        top = int(down * (part.shape[1] - self.size + 1))
        left = int(right * (part.shape[2] - self.size + 1))
        piece = part[:, top : top + self.size, left : left + self.size]
        return piece.flip(2) if mirror < 0.5 else piece


def grid(size: int) -> Float[Tensor, "P 2"]:
    """The places of the pixels of a picture, line by line: right and down, in [-1, 1]."""
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((right, down), dim=2).flatten(0, 1)


@cache
def photographs(held_out: bool) -> tuple[Float[Tensor, "3 H W"], ...]:
    """The parts that pieces are cut from: both photographs at every scale, colours in [0, 1].

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    try:
        images = importlib.import_module("sklearn.datasets").load_sample_images().images
    except ImportError as error:
        raise MissingPackageError(
            "the photographs come with scikit-learn, which is not installed: "
            "pip install 'featurewise[systems]'"
        ) from error
    parts = []
    for image in images:
        whole = torch.tensor(image).permute(2, 0, 1) / 255
        border = whole.shape[2] * 7 // 10
        part = whole[:, :, border:] if held_out else whole[:, :, :border]
        parts += [F.avg_pool2d(part, scale) for scale in SCALES]
    return tuple(parts)
