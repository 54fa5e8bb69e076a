"""Crops of two photographs: images as functions from coordinates to colours, given at some pixels.

The photographs come with scikit-learn: ``china.jpg`` by danielbuechele and ``flower.jpg`` by
vultilion (Flickr), both CC BY 2.0. Training crops lie in the left 70 % of each photograph, test
crops in the rest, so that no pixel is in both.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one, check_split
from featurewise.worlds.small.errors import MissingPackageError, SmallWorldError

SCALES = (4, 8)
"""Factors by which the photographs are downscaled before cropping."""


@dataclass(frozen=True)
class Crops:
    """T tasks, images of S by S pixels; coordinates are in [-1, 1], colours in [0, 1].

    Attributes:
        support_x: coordinates of the K given pixels: right, down.
        support_y: their colours.
        query_x: coordinates of all pixels, row by row.
        query_y: their colours.
    """

    support_x: Float[Tensor, "T K 2"]
    support_y: Float[Tensor, "T K 3"]
    query_x: Float[Tensor, "T P 2"]
    query_y: Float[Tensor, "T P 3"]

    def swapped(self) -> Crops:
        """Control: every image has the given pixels of the image before it in the batch."""
        x, y = self.support_x.roll(1, 0), self.support_y.roll(1, 0)
        return replace(self, support_x=x, support_y=y)

    def nearest(self) -> Float[Tensor, "T P 3"]:
        """Baseline: every pixel has the colour of the nearest given pixel."""
        distance = torch.cdist(self.query_x, self.support_x)
        index = distance.argmin(2, keepdim=True).expand(-1, -1, 3)
        return self.support_y.gather(1, index)

    def mean(self) -> Float[Tensor, "T P 3"]:
        """Baseline: every pixel has the mean colour of the given pixels."""
        return self.support_y.mean(1, keepdim=True).expand_as(self.query_y)


@dataclass(frozen=True)
class CropSource:
    """Batches of crops by index.

    Attributes:
        tasks: T, images in a batch.
        given: K, given pixels of an image.
        size: S, height and width of an image, in pixels.
        ordered: give the first K pixels, row by row, instead of K random ones.
        seed: of all random numbers, 0 or more.
        split: "train" or "test": the left or the right part of the photographs.

    Raises:
        SmallWorldError: a number out of its range, an unknown split, or a size above that of the
            photographs.
        MissingPackageError: scikit-learn is not installed.
    """

    tasks: int
    given: int
    size: int = 16
    ordered: bool = False
    seed: int = 0
    split: Literal["train", "test"] = "train"

    def __post_init__(self) -> None:
        for name in ("tasks", "given", "size"):
            at_least_one(getattr(self, name), name)
        seeded_rng(self.seed)
        check_split(self.split)
        if self.given > self.size**2:
            raise SmallWorldError(
                f"given must be at most the {self.size**2} pixels of an image, got {self.given}"
            )
        smallest = min(min(part.shape[1:]) for part in photographs(self.split))
        if self.size > smallest:
            raise SmallWorldError(f"size must be at most {smallest}, got {self.size}")

    def batch(self, index: int, /) -> Crops:
        """The batch with this index."""
        rng = seeded_rng(self.seed, int(self.split == "test"), index)
        crops = torch.rand(self.tasks, 4, generator=rng)
        images = torch.stack([self._crop(*row.tolist()) for row in crops])
        order = torch.rand(self.tasks, self.size**2, generator=rng).argsort(1)
        chosen = order[:, : self.given, None]
        if self.ordered:
            chosen = torch.arange(self.given)[:, None].expand(self.tasks, -1, 1)
        colours = images.flatten(2).mT
        coordinates = grid(self.size).expand(self.tasks, -1, -1)
        return Crops(
            coordinates.gather(1, chosen.expand(-1, -1, 2)),
            colours.gather(1, chosen.expand(-1, -1, 3)),
            coordinates,
            colours,
        )

    def _crop(self, which: float, down: float, right: float, mirror: float) -> Tensor:
        """A crop ``(3, S, S)``; numbers in [0, 1) choose photograph, position and mirroring."""
        parts = photographs(self.split)
        part = parts[int(which * len(parts))]
        top = int(down * (part.shape[1] - self.size + 1))
        left = int(right * (part.shape[2] - self.size + 1))
        crop = part[:, top : top + self.size, left : left + self.size]
        return crop.flip(2) if mirror < 0.5 else crop


def grid(size: int) -> Float[Tensor, "P 2"]:
    """Coordinates of the pixels of an image, row by row: right and down, in [-1, 1]."""
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((right, down), dim=2).flatten(0, 1)


@cache
def photographs(split: Literal["train", "test"]) -> tuple[Float[Tensor, "3 H W"], ...]:
    """The parts of a split: of both photographs at every scale, colours in [0, 1].

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
        part = whole[:, :, border:] if split == "test" else whole[:, :, :border]
        parts += [F.avg_pool2d(part, scale) for scale in SCALES]
    return tuple(parts)
