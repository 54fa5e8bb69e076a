"""Images in other sizes."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from featurewise.worlds.pictures.errors import PictureError


def with_shorter_side(image: UInt8[Tensor, "3 H W"], size: int) -> UInt8[Tensor, "3 h w"]:
    """The image, larger or smaller, with a shorter side of ``size`` pixels.

    Args:
        image: RGB of 8 bits.
        size: of the shorter side; the longer one keeps the proportions, to the nearest pixel.

    Raises:
        PictureError: ``size`` is below 1.
    """
    if size < 1:
        raise PictureError(f"the shorter side must be at least 1 pixel, got {size}")
    height, width = image.shape[1:]
    shorter = min(height, width)
    if shorter == size:
        return image
    shape = [max(size, round(side * size / shorter)) for side in (height, width)]
    resized = F.interpolate(image[None].float(), shape, mode="bilinear", antialias=True)
    return resized[0].round().clamp(0, 255).byte()


def central_crop(image: UInt8[Tensor, "3 H W"], size: int) -> UInt8[Tensor, "3 S S"]:
    """The largest square in the middle of the image, resized to ``size`` pixels.

    Args:
        image: RGB of 8 bits.
        size: height and width of the result.

    Raises:
        PictureError: ``size`` is below 1.
    """
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return with_shorter_side(image[:, top : top + side, left : left + side], size)
