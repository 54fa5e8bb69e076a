"""Batches of any kind, moved and cut."""

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


def test_rows_are_cut_everywhere_alike():
    whole = batch()
    cut = rows(whole, 2, 5)
    assert torch.equal(cut.inner.x, whole.inner.x[2:5])
    assert torch.equal(cut.parts[1], whole.parts[1][2:5])
    assert torch.equal(cut.named["y"], whole.named["y"][2:5])
    assert cut.inner.note == "kept"
    assert cut.missing is None
    assert batch_size(whole) == 6
    assert batch_size(cut) == 3


def test_a_batch_may_say_itself_what_its_rows_are():
    @dataclass(frozen=True)
    class Shared:
        picture: Tensor
        questions: Tensor

        def rows(self, start: int, stop: int):
            return Shared(self.picture, self.questions[start:stop])

    cut = rows(Shared(torch.zeros(1, 3), torch.arange(5)), 1, 3)
    assert cut.picture.shape == (1, 3)
    assert cut.questions.tolist() == [1, 2]


def test_kinds_stay():
    changed = tree_map(lambda x: x + 1, (Pair(torch.zeros(2), 3), [torch.zeros(1)]))
    assert isinstance(changed[0], Pair)
    assert changed[0].b == 3
    assert changed[0].a.tolist() == [1, 1]
    assert isinstance(changed[1], list)


def test_nothing_has_no_rows():
    with pytest.raises(ValueError, match="without a tensor"):
        batch_size(("a", 1))
