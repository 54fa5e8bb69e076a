"""Concatenation equals a conditional bias, except where a kernel reaches zero padding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import ArgumentTypeError, ShapeError, Shift
from featurewise.generators import GeneratorError
from featurewise.layers import ConcatConv, ConcatLinear

KIND = (ArgumentTypeError, TypeCheckError)


class TestLinear:
    @settings(max_examples=30)
    @given(
        batch=st.integers(0, 3),
        shape=st.lists(st.integers(1, 3), max_size=2),
        widths=st.tuples(*[st.integers(1, 4)] * 3),
        bias=st.booleans(),
    )
    def test_is_a_conditional_bias(
        self, batch: int, shape: list[int], widths: tuple[int, int, int], bias: bool
    ) -> None:
        layer = ConcatLinear(*widths, bias=bias)
        x, z = torch.randn(batch, *shape, widths[0]), torch.randn(batch, widths[1])
        plain = x @ layer.linear.weight[:, : widths[0]].T + (layer.linear.bias if bias else 0.0)
        beta = layer.conditional_bias(z)
        torch.testing.assert_close(layer(x, z), Shift()(plain, {"beta": beta}, axis=-1))

    def test_is_a_product_with_the_concatenated_vector(self) -> None:
        layer = ConcatLinear(3, 2, 4)
        x, z = torch.randn(5, 3), torch.randn(5, 2)
        for i in range(5):
            expected = layer.linear.weight @ torch.cat((x[i], z[i])) + layer.linear.bias
            torch.testing.assert_close(layer(x, z)[i], expected)


def missing_taps(layer: ConcatConv, z: Tensor, extent: tuple[int, ...], padding: int) -> Tensor:
    """The effect of zero padding, tap by tap: the sum of ``W_z[tap] z`` over taps outside."""
    weight = layer.convolve.weight[:, layer.in_features :].detach()
    size = weight.shape[2]
    out_extent = [n + 2 * padding - size + 1 for n in extent]
    missing = torch.zeros(len(z), weight.shape[0], *out_extent, dtype=z.dtype)
    for place in itertools.product(*map(range, out_extent)):
        for tap in itertools.product(range(size), repeat=len(extent)):
            at = [p + t - padding for p, t in zip(place, tap, strict=True)]
            if any(not 0 <= i < n for i, n in zip(at, extent, strict=True)):
                missing[(slice(None), slice(None), *place)] += z @ weight[(..., *tap)].T
    return missing


def _split(layer: ConcatConv, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The output of the layer, and that for a zero condition plus the conditional bias."""
    without = layer(x, torch.zeros_like(z))
    return layer(x, z), Shift()(without, {"beta": layer.conditional_bias(z)})


class TestConv:
    @pytest.mark.parametrize("rank", [1, 2, 3])
    @pytest.mark.parametrize("kernel", [1, 3])
    @pytest.mark.parametrize("mode", ["replicate", "circular", "valid"])
    def test_is_a_conditional_bias_where_the_padding_repeats(
        self, rank: int, kernel: int, mode: Any
    ) -> None:
        padding = {"padding_mode": mode, "padding": "same"} if mode != "valid" else {}
        layer = ConcatConv(3, 2, 4, kernel, rank=rank, **padding)
        x, z = torch.randn(2, 3, *[5] * rank), torch.randn(2, 2)
        whole, split = _split(layer, x, z)
        torch.testing.assert_close(whole, split, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("rank", [1, 2])
    @pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 2), (3, 2)])
    def test_the_difference_at_zero_padding_is_the_missing_taps(
        self, rank: int, kernel: int, padding: int
    ) -> None:
        layer = ConcatConv(3, 2, 4, kernel, rank=rank, padding=padding).double()
        extent = tuple(range(6, 6 + rank))
        x, z = torch.randn(2, 3, *extent).double(), torch.randn(2, 2).double()
        whole, split = _split(layer, x, z)
        missing = missing_taps(layer, z, extent, padding)
        torch.testing.assert_close(split - whole, missing, rtol=0, atol=1e-12)
        inside = (..., *[slice(padding, -padding)] * rank)
        torch.testing.assert_close(whole[inside], split[inside], rtol=0, atol=1e-12)
        assert missing[inside].abs().max() < 1e-12
        assert (split - whole)[..., 0].abs().max() > 0.01

    def test_the_comparison_detects_a_wrong_reference(self) -> None:
        layer = ConcatConv(3, 2, 4, 3, padding=1).double()
        x, z = torch.randn(2, 3, 5, 6).double(), torch.randn(2, 2).double()
        whole, split = _split(layer, x, z)
        missing = missing_taps(layer, z, (5, 6), 1)
        assert not torch.allclose(split - whole, missing.transpose(-1, -2).reshape_as(missing))
        assert not torch.allclose(split - whole, missing.flip(-1))

    def test_is_a_convolution_of_constant_maps(self) -> None:
        layer = ConcatConv(3, 2, 4, 3, stride=2, padding=1)
        x, z = torch.randn(2, 3, 5, 6), torch.randn(2, 2)
        maps = torch.stack([torch.stack([torch.full((5, 6), float(v)) for v in row]) for row in z])
        expected = layer.convolve(torch.cat((x, maps), dim=1))
        torch.testing.assert_close(layer(x, z), expected)

    def test_number_of_weights(self) -> None:
        with_maps = ConcatConv(3, 2, 4, 5).convolve.weight[:, 3:].numel()
        assert (with_maps, 2 * 4) == (5 * 5 * 2 * 4, 8)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(ConcatLinear(3, 2, 4), (2, 5, 3)), (ConcatConv(3, 2, 4, 3, padding=1), (2, 3, 4, 4))],
)
class TestBoth:
    def test_rows_are_independent(self, layer: Any, shape: tuple[int, ...]) -> None:
        x, z = torch.randn(shape), torch.randn(2, 2)
        for i in range(2):
            alone = layer(x[i : i + 1], z[i : i + 1])
            torch.testing.assert_close(layer(x, z)[i : i + 1], alone)

    def test_gradients_to_second_order(self, layer: Any, shape: tuple[int, ...]) -> None:
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        z = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
        layer = layer.double()
        assert gradcheck(layer, (x, z), fast_mode=True)
        assert gradgradcheck(layer, (x, z), fast_mode=True)
        layer.float()

    def test_state_round_trip(self, layer: Any, shape: tuple[int, ...]) -> None:
        linear = isinstance(layer, ConcatLinear)
        twin = ConcatLinear(3, 2, 4) if linear else ConcatConv(3, 2, 4, 3, padding=1)
        twin.load_state_dict(layer.state_dict(), strict=True)
        x, z = torch.randn(shape), torch.randn(2, 2)
        assert torch.equal(layer(x, z), twin(x, z))

    @pytest.mark.parametrize(
        ("x", "z", "error", "words"),
        [
            (lambda x: x, None, ArgumentTypeError, "condition"),
            (lambda x: x, "red", ArgumentTypeError, "condition"),
            (lambda x: x, [[0.0, 0.0]] * 2, ArgumentTypeError, "condition"),
            (lambda x: x, torch.zeros(2, 2, dtype=torch.int64), ArgumentTypeError, "condition"),
            (
                lambda x: x,
                torch.zeros(2, 2, device="meta"),
                ArgumentTypeError,
                "condition is on meta",
            ),
            (lambda x: x, torch.zeros(2, 3), ShapeError, r"condition must be \(2, 2\)"),
            (lambda x: x, torch.zeros(3, 2), ShapeError, "condition"),
            (lambda x: x, torch.zeros(1, 2), ShapeError, "condition"),
            (lambda x: x, torch.zeros(2), ShapeError, "condition"),
            (lambda x: x, torch.zeros(2, 2, 1, 1), ShapeError, "condition"),
            (lambda x: x, torch.tensor(0.0), ShapeError, "condition"),
            (lambda x: x.long(), torch.zeros(2, 2), ArgumentTypeError, "x must be floating"),
            (lambda x: x.bool(), torch.zeros(2, 2), ArgumentTypeError, "x must be floating"),
            (lambda x: x.tolist(), torch.zeros(2, 2), ArgumentTypeError, "x must be a tensor"),
            (lambda x: None, torch.zeros(2, 2), ArgumentTypeError, "x must be a tensor"),
            (lambda x: torch.tensor(1.0), torch.zeros(2, 2), ShapeError, "axis"),
            (lambda x: x.flatten(), torch.zeros(2, 2), ShapeError, "axis|features"),
            (lambda x: torch.zeros(2, 4, 4, 4), torch.zeros(2, 2), ShapeError, "expected 3"),
        ],
    )
    def test_wrong_calls(
        self, layer: Any, shape: tuple[int, ...], x: Any, z: Any, error: Any, words: str
    ) -> None:
        with pytest.raises((error, TypeCheckError)) as caught:
            layer(x(torch.randn(shape)), z)
        if not isinstance(caught.value, TypeCheckError):
            assert caught.match(words)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ConcatLinear(0, 2, 4), GeneratorError, "in_features"),
        (lambda: ConcatLinear(3, 0, 4), GeneratorError, "condition_features"),
        (lambda: ConcatLinear(3, 2, -1), GeneratorError, "out_features"),
        (lambda: ConcatLinear(3.0, 2, 4), KIND, "in_features"),
        (lambda: ConcatLinear(3, "2", 4), KIND, "condition_features"),
        (lambda: ConcatLinear(3, 2, True), KIND, "out_features"),
        (lambda: ConcatConv(0, 2, 4, 3), GeneratorError, "in_features"),
        (lambda: ConcatConv(3, 0, 4, 3), GeneratorError, "condition_features"),
        (lambda: ConcatConv(3, 2, 0, 3), GeneratorError, "out_features"),
        (lambda: ConcatConv(3, 2, 4, 0), GeneratorError, "kernel_size"),
        (lambda: ConcatConv(3, 2, 4, 3.0), KIND, "kernel_size"),
        (lambda: ConcatConv(3, 2, 4, 3, rank=4), GeneratorError, "rank"),
        (lambda: ConcatConv(3, 2, 4, 3, rank=0), GeneratorError, "rank"),
        (lambda: ConcatConv(3, 2, 4, 3, stride=0), GeneratorError, "stride"),
        (lambda: ConcatConv(3, 2, 4, 3, stride=1.5), KIND, "stride"),
        (lambda: ConcatConv(3, 2, 4, 3, padding=-1), GeneratorError, "padding"),
        (lambda: ConcatConv(3, 2, 4, 3, padding="full"), KIND, "padding"),
        (lambda: ConcatConv(3, 2, 4, 3, padding=1.0), KIND, "padding"),
        (lambda: ConcatConv(3, 2, 4, 3, padding=True), KIND, "padding"),
        (lambda: ConcatConv(3, 2, 4, 3, padding="same", stride=2), GeneratorError, "stride"),
        (
            lambda: ConcatConv(3, 2, 4, 3, padding_mode="zero"),
            (GeneratorError, TypeCheckError),
            "padding_mode",
        ),
    ],
)
def test_wrong_settings(make: Callable[[], nn.Module], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_convolution_of_another_rank_raises() -> None:
    with pytest.raises((ShapeError, TypeCheckError), match="position axes"):
        ConcatConv(3, 2, 4, 3)(torch.zeros(2, 3, 5), torch.zeros(2, 2))
