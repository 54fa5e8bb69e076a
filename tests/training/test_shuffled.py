"""The shuffled condition: a permutation of the condition within a batch, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from featurewise.training.errors import ExperimentError
from featurewise.training.shuffled import (
    ShuffledCondition,
    previous_sample,
    random_order,
    random_orders,
)


@dataclass(frozen=True)
class Labelled:
    images: Tensor
    labels: Tensor
    weights: Tensor


class Plain:
    def batch(self, index: int, /) -> Labelled:
        values = torch.arange(40) + 40 * index
        return Labelled(values.float(), values, 2 * values)


def shuffled(seed: int = 0, fields: tuple[str, ...] = ("labels",)) -> ShuffledCondition[Labelled]:
    return ShuffledCondition(Plain(), fields, random_orders(seed))


def test_only_the_condition_is_permuted() -> None:
    plain, found = Plain().batch(2), shuffled().batch(2)
    assert torch.equal(found.images, plain.images)
    assert torch.equal(found.weights, plain.weights)
    assert torch.equal(found.labels.sort().values, plain.labels)
    assert not torch.equal(found.labels, plain.labels)


def test_tensors_of_one_condition_stay_together() -> None:
    found = shuffled(fields=("labels", "weights")).batch(0)
    assert torch.equal(found.weights, 2 * found.labels)


def test_the_order_depends_on_seed_and_index_alone() -> None:
    first = shuffled().batch(3).labels
    torch.manual_seed(9)
    assert torch.equal(shuffled().batch(3).labels, first)
    assert not torch.equal(shuffled(1).batch(3).labels, first)
    assert not torch.equal(shuffled().batch(4).labels - 40, first)


def test_random_orders_are_those_of_the_seed_and_the_index() -> None:
    assert torch.equal(random_orders(5)(3, Plain().batch(3)), random_order(5, 3, 40))


def test_every_position_gets_every_condition_equally_often() -> None:
    counts = torch.zeros(4, 4)
    for index in range(800):
        order = random_order(7, index, 4)
        counts[torch.arange(4), order] += 1
    assert float((counts / 800 - 0.25).abs().max()) == pytest.approx(0, abs=0.06)


def test_each_sample_may_get_the_condition_of_the_one_before() -> None:
    found = ShuffledCondition(Plain(), ("labels",), previous_sample).batch(1)
    assert torch.equal(found.labels, Plain().batch(1).labels.roll(1))


def test_a_batch_of_one_sample_is_refused() -> None:
    class One:
        def batch(self, index: int, /) -> Labelled:
            return Labelled(*torch.zeros(3, 1))

    with pytest.raises(ExperimentError, match="a batch of 1 sample cannot be shuffled"):
        ShuffledCondition(One(), ("labels",), previous_sample).batch(0)


@dataclass(frozen=True)
class Nested:
    first: Labelled
    second: Labelled


class TwoTasks:
    def batch(self, index: int, /) -> Nested:
        return Nested(Plain().batch(index), Plain().batch(index + 1))


def test_a_tensor_of_a_batch_within_the_batch_is_permuted() -> None:
    plain = TwoTasks().batch(1)
    found = ShuffledCondition(TwoTasks(), ("second.labels",), previous_sample).batch(1)
    assert torch.equal(found.first.labels, plain.first.labels)
    assert torch.equal(found.second.images, plain.second.images)
    assert torch.equal(found.second.labels, plain.second.labels.roll(1))


def test_a_batch_without_the_tensor_is_refused() -> None:
    with pytest.raises(ExperimentError, match="Labelled has no tensor 'label'; there is images,"):
        shuffled(fields=("label",)).batch(0)


def test_a_batch_that_is_no_dataclass_is_refused() -> None:
    class Mapped:
        def batch(self, index: int, /) -> dict[str, Tensor]:
            return {"z": torch.ones(2)}

    with pytest.raises(ExperimentError, match="z is permuted in a batch that is a dataclass, not"):
        ShuffledCondition(Mapped(), ("z",), lambda index, batch: torch.arange(2)).batch(0)
