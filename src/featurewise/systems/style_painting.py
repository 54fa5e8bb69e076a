"""Images of any size for the transfer network of Dumoulin et al. 2017, which both systems use."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

MULTIPLE: Final = 4
"""Two convolutions of stride 2: the output is as large as an input of such a size."""

LEAST: Final = 8
"""Pixels that mirror padding and the norms of the blocks need."""

NARROWEST: Final = 8.0
"""Longer side over shorter side of an image that a style is taken from or painted for."""


def padded_to_multiple(image: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "1 3 h w"]:
    """A batch of one image in [0, 1], mirrored on the right and below up to a multiple of 4.

    Args:
        image: RGB of 8 bits, at least `LEAST` pixels high and wide.
    """
    height, width = image.shape[1:]
    bottom, right = -height % MULTIPLE, -width % MULTIPLE
    return F.pad(image[None] / 255, (0, right, 0, bottom), mode="reflect")
