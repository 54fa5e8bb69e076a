"""Digits with permuted pixels, conditioned on the permutation.

Permuted digits are a standard test of task conditioning in continual learning (von Oswald et al.
2020, *Continual learning with hypernetworks*): the tasks are equally hard, and a pixel has another
meaning in each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one, check_seed
from featurewise.worlds.small.digits import digits
from featurewise.worlds.small.errors import SmallWorldError

PIXELS = 64
"""Number of pixels of a digit."""


@dataclass(frozen=True)
class Permuted:
    """Digits with permuted pixels, in H independent columns.

    Attributes:
        pixels: in 0 to 1.
        task: the condition: index of a permutation.
        labels: 0 to 9.
    """

    pixels: Float[Tensor, "B H 64"]
    task: Int64[Tensor, "B H"]
    labels: Int64[Tensor, "B H"]


@dataclass(frozen=True)
class PermutedSource:
    """Batches of training digits by index, with one column for each training set size.

    Attributes:
        batch_size: rows in a batch.
        shares: share of the training digits, in (0, 1], that each column is sampled from. The seed
            selects the digits; a larger share contains those of a smaller one.
        tasks: number of permutations.
        seed: of the shares and the samples, 0 or more.

    Raises:
        SmallWorldError: a number out of its range.
        MissingPackageError: scikit-learn is not installed.
    """

    batch_size: int
    shares: tuple[float, ...]
    tasks: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self.batch_size, "batch_size")
        at_least_one(self.tasks, "tasks")
        check_seed(self.seed)
        total = len(digits("train").labels)
        if not self.shares or not all(1 / total <= share <= 1 for share in self.shares):
            raise SmallWorldError(
                f"shares must be in (0, 1] and contain a digit, got {self.shares}"
            )

    def batch(self, index: int, /) -> Permuted:
        """The batch with this index."""
        rng, size = seeded_rng(self.seed, 1, index), (self.batch_size, len(self.shares))
        order = torch.randperm(len(digits("train").labels), generator=seeded_rng(self.seed, 0))
        counts = (torch.tensor(self.shares, dtype=torch.float64) * len(order)).long()
        chosen = order[(torch.rand(size, generator=rng, dtype=torch.float64) * counts).long()]
        task = torch.randint(self.tasks, size, generator=rng)
        return _permuted("train", chosen, task, self.tasks)


def permuted_digits(
    split: str, columns: int = 1, tasks: int = 8, shuffled: bool = False
) -> Permuted:
    """Every digit of a split under every permutation, the same in every column.

    Args:
        split: ``train``, ``validation`` or ``test``.
        columns: number of columns, H.
        tasks: number of permutations.
        shuffled: as a control, condition every row on a random permutation other than its own.
    """
    count = len(digits(split).labels)
    pairs = torch.cartesian_prod(torch.arange(count), torch.arange(tasks))
    chosen, task = pairs.mT[..., None].expand(-1, -1, columns)
    found = _permuted(split, chosen, task, tasks)
    if not shuffled or tasks == 1:
        return found
    offset = 1 + torch.randint(tasks - 1, (len(task), 1), generator=seeded_rng(0))
    return replace(found, task=(task + offset) % tasks)


@cache
def permutations(tasks: int) -> Int64[Tensor, "Z 64"]:
    """For each task, the position that each of its pixels is taken from; the same in all runs."""
    return torch.stack([torch.randperm(PIXELS, generator=seeded_rng(0, z)) for z in range(tasks)])


def _permuted(split: str, chosen: Tensor, task: Tensor, tasks: int) -> Permuted:
    """The digits with the indices ``chosen (B, H)``, permuted by their ``task (B, H)``."""
    known = digits(split)
    pixels = known.images.flatten(1)[chosen].gather(2, permutations(tasks)[task])
    return Permuted(pixels, task, known.labels[chosen])
