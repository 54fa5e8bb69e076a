"""Batches of contents and styles to train on, and crops of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.pictures.errors import PictureError
from featurewise.worlds.pictures.images import as_tensor
from featurewise.worlds.pictures.photos import Photograph


@dataclass(frozen=True)
class StyleBatch:
    """Contents, each with the style that it is to be painted in.

    Attributes:
        content: square crops of photographs, RGB.
        styles: index of the painting.
    """

    content: UInt8[Tensor, "B 3 S S"]
    styles: Int64[Tensor, " B"]


@dataclass(frozen=True)
class StyleSource:
    """Random batches; photographs and styles are sampled uniformly, with replacement.

    A crop is a square with a side between half and all of the short side of its photograph (but at
    least ``size``), at a random place, mirrored with probability 1/2, and resized to ``size``.

    Attributes:
        photographs: at least one, none with a side shorter than ``size``.
        styles: number of styles.
        size: height and width of a crop, in pixels.
        batch_size: crops in a batch.
        seed: of all randomness, 0 or more; a batch depends on it and on its index only.

    Raises:
        PictureError: a number that is too small, no photograph, or one that is smaller than a crop.
    """

    photographs: Sequence[Photograph]
    styles: int
    size: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if min(self.styles, self.size, self.batch_size) < 1 or self.seed < 0:
            raise PictureError(
                "styles, size and batch_size must be 1 or more and seed 0 or more, got "
                f"{self.styles}, {self.size}, {self.batch_size} and {self.seed}"
            )
        if not self.photographs:
            raise PictureError("there are no photographs to take crops of; pass at least one")
        for each in self.photographs:
            _check_size(each.image, self.size, each.name)

    def batch(self, index: int, /) -> StyleBatch:
        """The batch with this index, the same at every call."""
        rng = seeded_rng(self.seed, "styles", index)
        rows = torch.randint(len(self.photographs), (self.batch_size,), generator=rng)
        styles = torch.randint(self.styles, (self.batch_size,), generator=rng)
        uniform = torch.rand(self.batch_size, 4, generator=rng, dtype=torch.float64)
        images = [self.photographs[row].image for row in rows.tolist()]
        content = [
            _crop(image, self.size, numbers) for image, numbers in zip(images, uniform, strict=True)
        ]
        return StyleBatch(torch.stack(content), styles)


def crops(
    image: UInt8[Tensor, "3 H W"], size: int, count: int, seed: int
) -> UInt8[Tensor, "N 3 S S"]:
    """Random crops of one image, as `StyleSource` takes them of photographs, none mirrored.

    Args:
        image: RGB.
        size: S, height and width of a crop, in pixels.
        count: N, 1 or more.
        seed: of the places and scales, 0 or more.

    Raises:
        PictureError: a number that is too small, or an image smaller than a crop.
    """
    if min(size, count) < 1 or seed < 0:
        raise PictureError(
            f"size and count must be 1 or more and seed 0 or more, got {size}, {count} and {seed}"
        )
    _check_size(image, size, "the image")
    rng = seeded_rng(seed, "crops")
    uniform = torch.rand(count, 4, generator=rng, dtype=torch.float64)
    uniform[:, 3] = 1.0
    return torch.stack([_crop(image, size, numbers) for numbers in uniform])


def _check_size(image: Tensor, size: int, name: str) -> None:
    height, width = image.shape[1:]
    if min(height, width) < size:
        raise PictureError(
            f"a crop of {size} pixels does not fit into {name} of {width} x {height} pixels"
        )


def _crop(
    image: UInt8[Tensor, "3 H W"], size: int, uniform: Float[Tensor, "4"]
) -> UInt8[Tensor, "3 S S"]:
    """A square of an image; four numbers from 0 to 1 say how large, where, and if mirrored."""
    height, width = image.shape[1:]
    short = min(height, width)
    smallest = max(size, short // 2)
    scale, down, across, mirrored = uniform.tolist()
    side = min(smallest + int(scale * (short - smallest + 1)), short)
    top = min(int(down * (height - side + 1)), height - side)
    left = min(int(across * (width - side + 1)), width - side)
    square = np.ascontiguousarray(
        image[:, top : top + side, left : left + side].numpy().transpose(1, 2, 0)
    )
    # Pillow's filters are antialiased, and the same on every machine.
    resized = Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC)
    found = as_tensor(resized)
    return found.flip(2) if mirrored < 0.5 else found
