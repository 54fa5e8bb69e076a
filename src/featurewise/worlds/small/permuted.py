"""Digits whose pixels are in one of several orders, and the order is told.

Permuted digits are how conditioning by task is tried in continual learning (von Oswald et al. 2020,
*Continual learning with hypernetworks*): the tasks are equally hard, and share no place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.worlds.small.digits import digits
from featurewise.worlds.small.draws import at_least_one, generator
from featurewise.worlds.small.errors import SmallWorldError

PIXELS = 64
"""Of a digit."""


@dataclass(frozen=True)
class Permuted:
    """Digits with their pixels permuted, in columns that have nothing to do with each other.

    Attributes:
        pixels: in 0 to 1.
        task: which permutation is told.
        labels: 0 to 9.
    """

    pixels: Float[Tensor, "B H 64"]
    task: Int64[Tensor, "B H"]
    labels: Int64[Tensor, "B H"]


@dataclass(frozen=True)
class PermutedSource:
    """Batches by index, of the training digits; one column for each share of them.

    Attributes:
        rows: of a batch.
        shares: the first column draws from so much of the digits, in (0, 1], and so on; which
            digits these are follows from the seed, and a larger share holds all of a smaller.
        tasks: how many permutations there are.
        seed: of shares and order, at least 0.
        wrong: tell every digit the permutation of another of the batch.

    Raises:
        SmallWorldError: a number out of its range.
        MissingPackageError: scikit-learn is not installed.
    """

    rows: int
    shares: tuple[float, ...]
    tasks: int = 8
    seed: int = 0
    wrong: bool = False

    def __post_init__(self) -> None:
        at_least_one(self.rows, "rows")
        at_least_one(self.tasks, "tasks")
        generator(self.seed)
        total = len(digits("train").labels)
        if not self.shares or not all(1 / total <= share <= 1 for share in self.shares):
            raise SmallWorldError(f"shares must lie in (0, 1] and hold a digit, got {self.shares}")

    def batch(self, index: int, /) -> Permuted:
        """The batch of this index."""
        random, size = generator(self.seed, 1, index), (self.rows, len(self.shares))
        order = torch.randperm(len(digits("train").labels), generator=generator(self.seed, 0))
        counts = (torch.tensor(self.shares, dtype=torch.float64) * len(order)).long()
        chosen = order[(torch.rand(size, generator=random, dtype=torch.float64) * counts).long()]
        task = torch.randint(self.tasks, size, generator=random)
        found = _permuted("train", chosen, task, self.tasks)
        return replace(found, task=task.roll(1, 0)) if self.wrong else found


def every(split: str, columns: int = 1, tasks: int = 8, wrong: bool = False) -> Permuted:
    """Every digit of a split under every permutation, the same in every column.

    Args:
        split: ``train``, ``validation`` or ``test``.
        columns: how many.
        tasks: how many permutations there are.
        wrong: tell every digit another permutation than its own, by lot.
    """
    count = len(digits(split).labels)
    pairs = torch.cartesian_prod(torch.arange(count), torch.arange(tasks))
    chosen, task = pairs.mT[..., None].expand(-1, -1, columns)
    found = _permuted(split, chosen, task, tasks)
    if not wrong or tasks == 1:
        return found
    others = 1 + torch.randint(tasks - 1, (len(task), 1), generator=generator(0))
    return replace(found, task=(task + others) % tasks)


@cache
def permutations(tasks: int) -> Int64[Tensor, "Z 64"]:
    """Where the pixels of each task come from; the same in all runs."""
    return torch.stack([torch.randperm(PIXELS, generator=generator(0, z)) for z in range(tasks)])


def _permuted(split: str, chosen: Tensor, task: Tensor, tasks: int) -> Permuted:
    """Digits ``chosen (B, H)`` in the order of their ``task (B, H)``."""
    known = digits(split)
    pixels = known.images.flatten(1)[chosen].gather(2, permutations(tasks)[task])
    return Permuted(pixels, task, known.labels[chosen])
