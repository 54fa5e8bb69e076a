"""The 1797 handwritten digits that come with scikit-learn, 8 by 8 pixels.

They are the test part of the *Optical Recognition of Handwritten Digits* data set of the UCI
repository (Alpaydin and Kaynak 1998), CC BY 4.0; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one
from featurewise.worlds.small.errors import MissingPackageError, SmallWorldError

SPLITS = ("train", "validation", "test")
"""About 70, 15 and 15 % of the digits."""

CLASSES = 10
"""Number of classes."""


@dataclass(frozen=True)
class Digits:
    """A batch of digits.

    Attributes:
        images: ``(B, 1, 8, 8)`` in 0 to 1; ink is 1.
        labels: ``(B,)``, 0 to 9.
    """

    images: Float[Tensor, "B 1 8 8"]
    labels: Int64[Tensor, " B"]


@dataclass(frozen=True)
class DigitSource:
    """Batches of digits; every epoch has all digits of the split once, in a new random order.

    Attributes:
        seed: of the order, 0 or more.
        batch_size: digits in a batch; a batch may span the end of an epoch.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        SmallWorldError: no such split, or a number that is too small.
        MissingPackageError: scikit-learn is not installed.
    """

    seed: int
    batch_size: int
    split: str = "train"

    def __post_init__(self) -> None:
        at_least_one(self.batch_size, "batch_size")
        seeded_rng(self.seed)
        _ = self._all

    @cached_property
    def _all(self) -> Digits:
        return digits(self.split)

    def batch(self, index: int, /) -> Digits:
        """The batch with this index, which depends on the seed and on the index only."""
        count = len(self._all.labels)
        start, stop = index * self.batch_size, (index + 1) * self.batch_size
        epochs = range(start // count, (stop - 1) // count + 1)
        orders = [torch.randperm(count, generator=seeded_rng(self.seed, e)) for e in epochs]
        first = start - epochs.start * count
        rows = torch.cat(orders)[first : first + self.batch_size]
        return Digits(self._all.images[rows], self._all.labels[rows])


def digits(split: str) -> Digits:
    """All digits of a split, in the order of scikit-learn.

    The split of a digit is a hash of its pixels, so that equal images are in the same split, and
    the splits do not depend on the version of a random generator.

    Args:
        split: ``train``, ``validation`` or ``test``.

    Raises:
        SmallWorldError: there is no such split.
        MissingPackageError: scikit-learn is not installed.
    """
    if split not in SPLITS:
        raise SmallWorldError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    pixels, labels, splits = _loaded()
    rows = splits == SPLITS.index(split)
    return Digits(pixels[rows].unsqueeze(1).float() / 16, labels[rows])


@cache
def _loaded() -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (1797, 8, 8) in 0..16, labels, and the split of each digit as an index of `SPLITS`."""
    try:
        data = importlib.import_module("sklearn.datasets").load_digits()
    except ImportError as error:
        raise MissingPackageError(
            "the digits come with scikit-learn, which is not installed: "
            "pip install 'featurewise[systems]'"
        ) from error
    pixels = torch.from_numpy(data.images).to(torch.uint8)
    splits = torch.tensor([_split(each.numpy().tobytes()) for each in pixels])
    return pixels, torch.from_numpy(data.target).long(), splits


def _split(pixels: bytes) -> int:
    """The split of a digit, as an index of `SPLITS`."""
    share = int.from_bytes(hashlib.sha256(pixels).digest()[:8], "big") / 2**64
    return 0 if share < 0.7 else 1 if share < 0.85 else 2
