"""The control of every conditioned system: the condition of another sample of the same batch.

Conditions keep their frequencies and say nothing of the sample. What a system gains over a network
that is trained so is due to what its condition says, not to its having one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.training.batch import batch_size
from featurewise.training.errors import ExperimentError
from featurewise.training.source import Source

BatchT = TypeVar("BatchT")

Permutation: TypeAlias = Callable[[int, Any], Int64[Tensor, " B"]]
"""(index, batch) -> order of the samples; it depends on nothing else."""


@dataclass(frozen=True)
class ShuffledCondition(Generic[BatchT]):
    """Batches of any source, their condition permuted within the batch; all else stays.

    Attributes:
        source: batches by index, dataclasses of tensors.
        fields: names of the tensors that are the condition; they are permuted together. A tensor
            of a dataclass within the batch is named as in ``"match.condition"``.
        permutation: (index, batch) -> order of the samples; it depends on nothing else. See
            `random_orders` and `previous_sample`.
    """

    source: Source[BatchT]
    fields: tuple[str, ...]
    permutation: Permutation

    def batch(self, index: int, /) -> BatchT:
        """The batch of this index; sample i has the condition of sample ``permutation[i]``.

        Raises:
            ExperimentError: the batch of the source is no dataclass, or has no such tensor.
        """
        batch: Any = self.source.batch(index)
        order = self.permutation(index, batch)
        for name in self.fields:
            batch = _permuted(batch, name, order)
        shuffled: BatchT = batch
        return shuffled


def _permuted(batch: Any, name: str, order: Int64[Tensor, " B"]) -> Any:
    """The batch with one tensor in another order."""
    field, _, below = name.partition(".")
    if not is_dataclass(type(batch)):
        raise ExperimentError(
            f"{name} is permuted in a batch that is a dataclass, not a {type(batch).__name__}"
        )
    known = [each.name for each in fields(batch)]
    if field not in known:
        raise ExperimentError(
            f"{type(batch).__name__} has no tensor {field!r}; there is {', '.join(known)}"
        )
    value = getattr(batch, field)
    return replace(batch, **{field: _permuted(value, below, order) if below else value[order]})


def random_order(seed: int, index: int, count: int) -> Int64[Tensor, " count"]:
    """A permutation of so many samples that depends on all three numbers and on nothing else.

    Args:
        seed: of a source, not negative.
        index: of a batch.
        count: number of samples in it.
    """
    return torch.randperm(count, generator=seeded_rng(seed, "shuffled", index))


def random_orders(seed: int) -> Permutation:
    """The `random_order` of every batch of a source with this seed, not negative."""
    return lambda index, batch: random_order(seed, index, batch_size(batch))


def previous_sample(index: int, batch: Any) -> Int64[Tensor, " B"]:
    """The permutation that gives each sample the condition of the one before it in the batch.

    Raises:
        ExperimentError: the batch is of one sample, which would keep its own.
    """
    if (count := batch_size(batch)) < 2:
        raise ExperimentError(f"a batch of {count} sample cannot be shuffled")
    return torch.arange(count).roll(1)
