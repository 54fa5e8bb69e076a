"""The control of every conditioned system: the condition of another sample of the same batch.

Conditions keep their frequencies and say nothing of the sample. What a system gains over a network
that is trained so is due to what its condition says, not to its having one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.training.batch import batch_size
from featurewise.training.source import Source

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class ShuffledCondition(Generic[BatchT]):
    """Batches of any source, their condition permuted within the batch; all else stays.

    Attributes:
        source: batches by index, dataclasses of tensors.
        fields: names of the tensors that are the condition; they are permuted together.
        permutation: (index, batch) -> order of the samples; it depends on nothing else. See
            `random_order`.
    """

    source: Source[BatchT]
    fields: tuple[str, ...]
    permutation: Callable[[int, BatchT], Int64[Tensor, " B"]]

    def batch(self, index: int, /) -> BatchT:
        """The batch of this index; sample i has the condition of sample ``permutation[i]``."""
        batch: Any = self.source.batch(index)
        order = self.permutation(index, batch)
        changed = {name: getattr(batch, name)[order] for name in self.fields}
        shuffled: BatchT = replace(batch, **changed)
        return shuffled


def random_order(seed: int, index: int, count: int) -> Int64[Tensor, " count"]:
    """A permutation of so many samples that depends on all three numbers and on nothing else.

    Args:
        seed: of a source, not negative.
        index: of a batch.
        count: number of samples in it.
    """
    return torch.randperm(count, generator=seeded_rng(seed, "shuffled", index))


def previous_sample(index: int, batch: Any) -> Int64[Tensor, " B"]:
    """The permutation that gives each sample the condition of the one before it in the batch."""
    return torch.arange(batch_size(batch)).roll(1)
