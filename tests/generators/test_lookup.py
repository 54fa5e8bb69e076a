"""``Lookup``: a table of task representations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import Affine, ArgumentTypeError, Layout, Scale, Site
from featurewise.generators import ConditionError, GeneratorError, Linear, Lookup

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout((Site("a", 3, Affine()), Site("b", 2, Scale(raw=True))))


def _lookup(count: int = 4) -> Lookup:
    lookup = Lookup(count)
    lookup.bind(LAYOUT)
    assert lookup.table is not None
    with torch.no_grad():
        lookup.table.add_(torch.randn_like(lookup.table))
    return lookup


def test_ids_give_rows_of_the_table() -> None:
    lookup = _lookup()
    assert lookup.table is not None
    assert torch.equal(lookup(torch.tensor(2)), lookup.table[2])
    assert torch.equal(lookup(torch.tensor([3, 0, 3])), lookup.table[[3, 0, 3]])


@given(st.lists(st.integers(0, 4), max_size=3), st.integers(1, 5))
def test_positions_follow_the_features(shape: list[int], count: int) -> None:
    lookup = _lookup(count)
    assert lookup.table is not None
    ids = torch.randint(count, tuple(shape), dtype=torch.int32)
    rows = lookup(ids)
    plain = lookup.table[ids.long()]
    assert torch.equal(rows, plain if ids.ndim <= 1 else plain.movedim(-1, 1))


def test_is_a_linear_map_of_one_hot_vectors() -> None:
    lookup, linear = _lookup(), Linear(4)
    linear.bind(LAYOUT)
    assert lookup.table is not None and linear.head is not None
    with torch.no_grad():
        linear.head.weight.copy_((lookup.table - linear.head.bias).T)
    ids = torch.tensor([2, 1, 1, 3, 0])
    torch.testing.assert_close(lookup(ids), linear(nn.functional.one_hot(ids, 4).float()))


def test_only_selected_rows_have_a_gradient() -> None:
    lookup = _lookup()
    assert lookup.table is not None
    lookup(torch.tensor([1, 1])).sum().backward()
    assert lookup.table.grad is not None
    expected = torch.zeros_like(lookup.table)
    expected[1] = 2.0
    assert torch.equal(lookup.table.grad, expected)


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        (torch.tensor([4]), ConditionError, r"0\.\.3, got 4"),
        (torch.tensor(4), ConditionError, r"0\.\.3"),
        (torch.tensor([-1]), ConditionError, "-1"),
        (torch.tensor([0, 1, 99]), ConditionError, "99"),
        (torch.tensor([[0, -5]]), ConditionError, "-5"),
        (torch.tensor([2**40]), ConditionError, str(2**40)),
        (torch.tensor([1.0]), ArgumentTypeError, "float32"),
        (torch.tensor([True]), ArgumentTypeError, "bool"),
        (torch.tensor([1], dtype=torch.uint8), ArgumentTypeError, "uint8"),
        (torch.tensor([1], dtype=torch.int16), ArgumentTypeError, "int16"),
        (torch.tensor([1], dtype=torch.float64), ArgumentTypeError, "float64"),
        (1, ArgumentTypeError, "int"),
        ([1, 2], ArgumentTypeError, "list"),
        ((torch.tensor([1]),), ArgumentTypeError, "tuple"),
        ("1", ArgumentTypeError, "str"),
        (None, ConditionError, "None"),
    ],
)
def test_wrong_ids(ids: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        _lookup()(ids)
    assert caught.match("ids")


@pytest.mark.parametrize("count", [0, -1])
def test_wrong_counts(count: int) -> None:
    with pytest.raises(GeneratorError, match="count"):
        Lookup(count)


@pytest.mark.parametrize("count", [2.0, "3", None, True])
def test_counts_of_the_wrong_type(count: Any) -> None:
    with pytest.raises(KIND, match="count"):
        Lookup(count)


def test_ids_under_vmap() -> None:
    lookup, ids = _lookup(), torch.tensor([2, 0, 2])
    assert torch.equal(torch.func.vmap(lookup)(ids), lookup(ids))
