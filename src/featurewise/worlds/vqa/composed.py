"""Real photographs with a shape pasted into each, and sentences that ask for one of its properties.

Photographs are crops of those of `featurewise.worlds.pictures`; shape, colour and place are made
by this library, and so are the labels. Masks are exact: a pixel has the colour of the shape in the
share that lies inside, of 16 points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.pictures import Photograph, StyleSource
from featurewise.worlds.vqa.errors import VqaError

COLOURS: Final = {
    "red": (214, 39, 40),
    "green": (44, 160, 44),
    "blue": (31, 80, 220),
    "yellow": (240, 220, 40),
    "purple": (150, 50, 190),
    "white": (245, 245, 245),
}
SHAPES: Final = ("circle", "square", "triangle", "cross")
SIDES: Final = ("left", "right")
ANSWERS: Final = (*COLOURS, *SHAPES, *SIDES)
"""All answers: 6 colours, 4 shapes, 2 sides."""

SENTENCES: Final = {
    "colour": (
        "What colour does the painted object have?",
        "Name the colour of the shape.",
        "Which colour is it?",
    ),
    "shape": (
        "What shape does the painted object have?",
        "Name the form of the object.",
        "Which shape is it?",
    ),
    "side": (
        "On which side of the photo is the painted object?",
        "Is the object on the left or on the right?",
        "Which half of the photo is it in?",
    ),
}
"""Property -> wordings; the last one is for testing alone."""

Part = Literal["train", "test"]
_SUBPIXELS: Final = 4


def wordings(part: Part) -> tuple[str, ...]:
    """All sentences of a part, in the order of the properties."""
    chosen = slice(None, -1) if part == "train" else slice(-1, None)
    return tuple(text for texts in SENTENCES.values() for text in texts[chosen])


@dataclass(frozen=True)
class Composed:
    """Photographs with a shape in each, and a sentence about it.

    Attributes:
        images: RGB.
        sentences: index in `wordings` of the part.
        answers: index in `ANSWERS`.
    """

    images: UInt8[Tensor, "B 3 S S"]
    sentences: Int64[Tensor, " B"]
    answers: Int64[Tensor, " B"]


@dataclass(frozen=True)
class ComposedSource:
    """Random batches: photographs, shapes and sentences, each uniformly.

    Attributes:
        photographs: at least one, none with a side shorter than ``size``.
        part: whose wordings are used.
        size: height and width of the images, 16 or more.
        batch_size: images in a batch.
        seed: of all randomness; a batch depends on it and on its index only.

    Raises:
        VqaError: a size below 16.
        PictureError: as for `StyleSource`.
    """

    photographs: Sequence[Photograph]
    part: Part
    size: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.size < 16:
            raise VqaError(f"size must be 16 or more, got {self.size}")
        _ = self._crops

    @property
    def _crops(self) -> StyleSource:
        return StyleSource(self.photographs, 1, self.size, self.batch_size, self.seed)

    def batch(self, index: int, /) -> Composed:
        """The batch with this index, the same at every call."""
        crops = self._crops.batch(index).content
        rng = seeded_rng(self.seed, "shapes", index)

        def integers(end: int) -> Int64[Tensor, " B"]:
            return torch.randint(end, (self.batch_size,), generator=rng)

        colours, shapes, sides = (integers(len(x)) for x in (COLOURS, SHAPES, SIDES))
        places = torch.rand(self.batch_size, 3, generator=rng)
        images = torch.stack(
            [
                paste(crop, list(COLOURS)[c], SHAPES[s], SIDES[side], place)
                for crop, c, s, side, place in zip(
                    crops, colours.tolist(), shapes.tolist(), sides.tolist(), places, strict=True
                )
            ]
        )
        properties = integers(len(SENTENCES))
        each = len(wordings(self.part)) // len(SENTENCES)
        labels = torch.stack(
            (
                colours,
                len(COLOURS) + shapes,
                len(COLOURS) + len(SHAPES) + sides,
            )
        )
        answers = labels.gather(0, properties[None])[0]
        return Composed(images, properties * each + integers(each), answers)


def paste(
    image: UInt8[Tensor, "3 S S"],
    colour: str,
    shape: str,
    side: str,
    place: Float[Tensor, "3"],
) -> UInt8[Tensor, "3 S S"]:
    """An image with a shape in its left or right half.

    Args:
        image: the photograph.
        colour: one of `COLOURS`.
        shape: one of `SHAPES`.
        side: one of `SIDES`.
        place: three numbers from 0 to 1: how large, how far down, and how far across its half.
    """
    size = image.shape[-1]
    scale, down, across = place.tolist()
    half = size * (0.13 + 0.07 * scale)
    row = half + down * (size - 2 * half)
    column = half + across * (size / 2 - 2 * half) + (size / 2 if side == "right" else 0)
    inside = mask(size, shape, row, column, half)
    value = torch.tensor(COLOURS[colour], dtype=torch.float32)[:, None, None]
    return (inside * value + (1 - inside) * image).round().byte()


def mask(size: int, shape: str, row: float, column: float, half: float) -> Float[Tensor, "S S"]:
    """The share of each pixel that lies inside a shape.

    Args:
        size: S.
        shape: one of `SHAPES`.
        row: of the middle, in pixels.
        column: of the middle.
        half: half of its height and width.

    Raises:
        VqaError: there is no such shape.
    """
    ticks = (torch.arange(size * _SUBPIXELS) + 0.5) / _SUBPIXELS
    y, x = (ticks - row)[:, None] / half, (ticks - column)[None] / half
    if shape == "circle":
        inside = y**2 + x**2 <= 1
    elif shape == "square":
        inside = (y.abs() <= 0.85) & (x.abs() <= 0.85)
    elif shape == "triangle":
        inside = (y.abs() <= 1) & (x.abs() <= (y + 1) / 2)
    elif shape == "cross":
        inside = ((y.abs() <= 0.33) & (x.abs() <= 1)) | ((x.abs() <= 0.33) & (y.abs() <= 1))
    else:
        raise VqaError(f"there is no shape {shape!r}, only {', '.join(SHAPES)}")
    blocks = inside.float().view(size, _SUBPIXELS, size, _SUBPIXELS)
    return blocks.mean((1, 3))
