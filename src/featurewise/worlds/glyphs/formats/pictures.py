"""Labelled pictures of one size, as arrays, and how they become tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Pictures and their labels; the arrays may be maps of files, so nothing is read in advance.

    Attributes:
        images: uint8 ``(N, C, H, W)``, 0 to 255.
        labels: integers ``(N,)``, positions in ``names``.
        names: of the classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(
        self, rows: Sequence[int] | NDArray[np.integer]
    ) -> tuple[Float[Tensor, "B C H W"], Int64[Tensor, "B"]]:
        """Some of them, as a network wants them: values in [0, 1], and labels."""
        index = np.asarray(rows, dtype=np.int64)
        images = torch.from_numpy(self.images[index].astype(np.float32) / 255)
        return images, torch.from_numpy(self.labels[index].astype(np.int64))
