"""Labelled images of one size, as arrays, and their conversion to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images and their labels; the arrays may be memory-mapped files, read only when indexed.

    Attributes:
        images: uint8 ``(N, C, H, W)``, 0 to 255.
        labels: integers ``(N,)``, positions in ``names``.
        names: names of the classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(
        self, rows: Sequence[int] | NDArray[np.integer]
    ) -> tuple[Float[Tensor, "B C H W"], Int64[Tensor, "B"]]:
        """The images and labels of some rows, as network input: values in [0, 1]."""
        index = np.asarray(rows, dtype=np.int64)
        images = torch.from_numpy(self.images[index].astype(np.float32) / 255)
        return images, torch.from_numpy(self.labels[index].astype(np.int64))
