"""Images as tensors of bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from featurewise.common.images import read_image, to_rgb


def load_picture(path: Path | str) -> UInt8[Tensor, "3 H W"]:
    """An image of the user, upright (by its EXIF orientation), in RGB, transparent parts on white.

    Args:
        path: of a PNG or JPEG file, see :mod:`featurewise.common.images`.

    Raises:
        ImageFileError: the file is missing, damaged, too large, animated or of another format.
    """
    return as_tensor(to_rgb(read_image(path)))


def as_tensor(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """An RGB image as a tensor with memory of its own."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def reduced(image: Image.Image, short_side: int) -> Image.Image:
    """An image in RGB, resized (antialiased) so that its short side has as many pixels.

    The filter is bicubic: paintings and photographs are stored so, once.
    `featurewise.worlds.pictures.with_shorter_side`, for tensors, is bilinear; one in place of the
    other would change the pixels that networks were trained on.
    """
    image = to_rgb(image)
    factor = short_side / min(image.size)
    width, height = (round(side * factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)
