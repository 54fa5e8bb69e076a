import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featurewise.training.errors import CheckpointError
from featurewise.training.state import flatten, unflatten

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8,
          torch.bool]  # fmt: skip


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


def same(a, b):
    """Strict equality: types, bits and order of dicts."""
    if isinstance(a, torch.Tensor):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and bits(a) == bits(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return math.isnan(a) == math.isnan(b) and (a != a or repr(a) == repr(b))
    return a == b


def round_trip(state):
    text, tensors = flatten(state)
    assert all(t.is_contiguous() for t in tensors.values())
    json.loads(text, parse_constant=pytest.fail)  # no NaN, no Infinity: strict JSON
    return unflatten(text, tensors)


tensors = st.builds(
    lambda dtype, shape, seed: torch.randint(
        0, 2, shape, generator=torch.Generator().manual_seed(seed)
    ).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=4).map(tuple),
    st.integers(0, 99),
)
keys = st.text(max_size=4) | st.integers() | st.sampled_from(["$tensor", "$items", "a.b", "a"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | tensors
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=6), trees, max_size=4))
def test_round_trip(state):
    assert same(round_trip(state), state)


def test_equal_tensor_names_are_distinguished():
    one, two = torch.ones(1), torch.zeros(1)
    back = round_trip({"a.b": one, "a": {"b": two}})
    assert torch.equal(back["a.b"], one)
    assert torch.equal(back["a"]["b"], two)


def test_strides_are_restored():
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    back = round_trip({"image": image, "transposed": torch.randn(4, 5).t()})
    assert back["image"].stride() == image.stride()
    assert back["transposed"].stride() == (1, 5)
    assert torch.equal(back["image"], image)


def test_views_that_share_memory_are_restored_as_separate_tensors():
    base = torch.arange(6.0)
    back = round_trip({"a": base, "b": base[::2], "c": base.expand(2, 6)})
    assert torch.equal(back["b"], base[::2])
    assert torch.equal(back["c"], base.expand(2, 6))


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j, torch.nn.Linear(1, 1)])
def test_errors_name_the_place_of_an_unsupported_value(value):
    with pytest.raises(CheckpointError, match=r"state\.a\.1\.b: a \w+ cannot be stored"):
        flatten({"a": [0, {"b": value}]})


def test_round_trip_of_an_optimizer_state():
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.AdamW([weight], betas=(0.8, 0.9))
    weight.sum().backward()
    optimizer.step()
    assert same(round_trip(optimizer.state_dict()), optimizer.state_dict())
