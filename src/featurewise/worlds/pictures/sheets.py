"""A figure: photographs in the styles of paintings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor


def style_sheet(
    photographs: UInt8[Tensor, "N 3 S S"],
    works: UInt8[Tensor, "M 3 S S"],
    columns: Sequence[UInt8[Tensor, "N 3 S S"]],
) -> Image.Image:
    """A row for each photograph: itself, then in each style; above them the paintings.

    Args:
        photographs: RGB of 8 bits.
        works: the paintings.
        columns: the photographs in the style of each of them.
    """
    rows = [torch.cat([torch.full_like(photographs[0], 255), *works], 2)]
    for number, photograph in enumerate(photographs):
        rows.append(torch.cat([photograph, *(each[number] for each in columns)], 2))
    return Image.fromarray(torch.cat(rows, 1).permute(1, 2, 0).numpy())
