"""Operations on batches of nested structures."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from featurewise.training.batch import batch_size, rows, tree_map

Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True)
class Inner:
    x: Tensor
    note: str = "kept"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    parts: tuple[Tensor, ...]
    named: dict[str, Tensor]
    missing: Tensor | None = None


def batch():
    x = torch.arange(12).reshape(6, 2)
    return Outer(Inner(x), (x + 1, x + 2), {"y": x + 3})


def test_all_tensors_of_a_batch_are_sliced():
    whole = batch()
    part = rows(whole, 2, 5)
    assert torch.equal(part.inner.x, whole.inner.x[2:5])
    assert torch.equal(part.parts[1], whole.parts[1][2:5])
    assert torch.equal(part.named["y"], whole.named["y"][2:5])
    assert part.inner.note == "kept"
    assert part.missing is None
    assert batch_size(whole) == 6
    assert batch_size(part) == 3


def test_a_batch_may_define_its_own_slicing():
    @dataclass(frozen=True)
    class Shared:
        image: Tensor
        questions: Tensor

        def rows(self, start: int, stop: int):
            return Shared(self.image, self.questions[start:stop])

    part = rows(Shared(torch.zeros(1, 3), torch.arange(5)), 1, 3)
    assert part.image.shape == (1, 3)
    assert part.questions.tolist() == [1, 2]


def test_tree_map_keeps_container_types():
    changed = tree_map(lambda x: x + 1, (Pair(torch.zeros(2), 3), [torch.zeros(1)]))
    assert isinstance(changed[0], Pair)
    assert changed[0].b == 3
    assert changed[0].a.tolist() == [1, 1]
    assert isinstance(changed[1], list)


def test_a_batch_without_tensors_has_no_size():
    with pytest.raises(ValueError, match="without tensors has no batch size"):
        batch_size(("a", 1))
