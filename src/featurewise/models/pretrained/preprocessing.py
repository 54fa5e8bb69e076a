"""Inputs of networks from images of 8 bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from featurewise.core import ArgumentTypeError, ShapeError

#: Part of the shorter side that is kept, as in the evaluation of ImageNet networks: 224 of 256.
KEPT = 224 / 256


def central_square(
    images: UInt8[Tensor, "N 3 H W"], size: int | None, mode: str
) -> Float[Tensor, "N 3 S T"]:
    """The central square of images, resized, with values from 0 to 255.

    The square has 7/8 of the shorter side. This equals, to within the rounding to whole pixels, a
    resize of the shorter side to 256 and a crop of 224.

    Args:
        images: RGB, 0 to 255.
        size: S = T, of the result; None keeps the images whole, in their size.
        mode: "bilinear" or "bicubic"; both with antialiasing.

    Raises:
        ArgumentTypeError, ShapeError: as for `check_images`.
        ShapeError: a size below 1.
    """
    check_images(images)
    if size is None:
        return images.float()
    if size < 1:
        raise ShapeError(f"size must be at least 1, or None, got {size}")
    height, width = images.shape[2:]
    side = max(1, round(KEPT * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, :, top : top + side, left : left + side].float()
    resized = F.interpolate(square, (size, size), mode=mode, align_corners=False, antialias=True)
    return resized.clamp(0, 255)  # bicubic interpolation overshoots


def normalized(
    images: Float[Tensor, "N 3 H W"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "N 3 H W"]:
    """``(images - mean) / std``, by channel."""
    shift, scale = (torch.tensor(each, device=images.device).view(3, 1, 1) for each in (mean, std))
    return (images - shift) / scale


def check_images(images: Tensor) -> None:
    """Check a batch of RGB images of 8 bits.

    Raises:
        ArgumentTypeError: no tensor, or one of another dtype than uint8.
        ShapeError: other shape than (N, 3, H, W), or no pixel.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ArgumentTypeError(f"images must be a uint8 tensor of 0 to 255, got {kind}")
    if images.ndim != 4 or images.shape[1] != 3 or not images.shape[2] * images.shape[3]:
        raise ShapeError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
