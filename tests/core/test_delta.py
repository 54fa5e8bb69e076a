"""`DeltaWeight`: against loops in float64, its gradients, and its effect after a linear map."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import featurewise as fw
from featurewise.core import DeltaWeight, LowRank, Operation, ShapeError


def looped(x: Tensor, delta: Tensor, axis: int, batch_axis: int | None) -> Tensor:
    """The result, computed element by element."""
    y = x.clone()
    for place in itertools.product(*(range(n) for n in x.shape)):
        own = delta if batch_axis is None or delta.ndim == 2 else delta[place[batch_axis]]
        for c in range(x.shape[axis]):
            other = (*place[:axis], c, *place[axis + 1 :])
            y[place] += own[place[axis], c] * x[other]
    return y


@pytest.mark.parametrize(
    ("shape", "axis", "batch_axis"),
    [
        ((3,), 0, None),
        ((2, 3), 1, 0),
        ((3, 2), 0, 1),
        ((2, 4, 3), 2, 0),
        ((4, 2, 3), 2, 1),
        ((3, 4, 2), 0, 2),
        ((2, 3, 2, 4), 1, 0),
        ((2, 0, 3), 2, 0),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_equals_the_loop(
    shape: tuple[int, ...], axis: int, batch_axis: int | None, shared: bool
) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    batch = () if shared or batch_axis is None else (shape[batch_axis],)
    delta = torch.randn(*batch, 3, 3, dtype=torch.float64)
    operation = DeltaWeight()
    found = operation(x, {"delta": delta}, axis=axis, batch_axis=batch_axis)
    torch.testing.assert_close(found, looped(x, delta, axis, batch_axis))
    zero = operation(x, {"delta": torch.zeros_like(delta)}, axis=axis, batch_axis=batch_axis)
    assert torch.equal(zero, x)


def test_gradients() -> None:
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    delta = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, delta: Tensor) -> Tensor:
        return DeltaWeight()(x, {"delta": delta})

    assert gradcheck(run, (x, delta))
    assert gradgradcheck(run, (x, delta))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    x, delta = torch.randn(4, 8).to(dtype), 0.1 * torch.randn(4, 8, 8)
    found = DeltaWeight()(x, {"delta": delta})
    assert found.dtype == dtype
    expected = x.float() + torch.bmm(delta, x.float()[..., None])[..., 0]
    torch.testing.assert_close(found, expected.to(dtype), rtol=0.01, atol=1e-3)


def test_low_rank_is_a_special_case() -> None:
    x, left, right = torch.randn(5, 6), torch.randn(5, 6, 2), torch.randn(5, 2, 6)
    low = LowRank(2)
    factors = low.effective({"left": left, "right": right})
    delta = factors["left"] @ factors["right"]
    torch.testing.assert_close(
        DeltaWeight()(x, {"delta": delta}), low(x, {"left": left, "right": right})
    )


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_any_kernel_can_be_predicted(kind: str) -> None:
    """D = W' W⁻¹ - 1 turns the kernel W into W'."""
    plain: nn.Module = nn.Linear(4, 4, bias=False) if kind == "linear" else nn.Conv2d(4, 4, 1)
    shape = (3, 4) if kind == "linear" else (3, 4, 2, 2)
    if kind == "convolution":
        nn.init.zeros_(plain.bias)
    wanted, weight = torch.randn(3, 4, 4), plain.weight.detach().flatten(1)
    net = fw.condition(
        nn.Sequential(plain), at="0", operation=DeltaWeight(), generator=nn.Identity()
    )
    x = torch.randn(shape)
    delta = wanted @ torch.linalg.inv(weight) - torch.eye(4)
    expected = torch.einsum("bij,bj...->bi...", wanted, x)
    torch.testing.assert_close(net(x, condition=delta.flatten(1)), expected, rtol=1e-3, atol=1e-3)


def test_it_is_restored_by_name() -> None:
    assert Operation.from_json(DeltaWeight().to_json()) == DeltaWeight()
    with pytest.raises(ShapeError):
        DeltaWeight()(torch.randn(2, 3), {"delta": torch.randn(2, 3)})
