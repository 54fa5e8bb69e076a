"""The spectral limit against singular values computed exactly."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import Affine, ArgumentTypeError, Layout, Site
from featurewise.generators import (
    MLP,
    Generator,
    GeneratorError,
    Head,
    Learned,
    Linear,
    Lookup,
    parameter_groups,
    spectral,
)
from featurewise.generators.spectral import LimitedHead

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout((Site("a", 30, Affine()), Site("b", 10, Affine())))


def norm(weight: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach(), 2))


def limited(size: float, limit: float = 1.0, dtype: torch.dtype = torch.float64) -> LimitedHead:
    """A head whose largest singular value is ``size``, after calls in training."""
    generator = spectral(Generator(nn.Identity(), 12), limit)
    generator.bind(LAYOUT)
    head = generator.head
    assert isinstance(head, LimitedHead)
    with torch.no_grad():
        head.weight.normal_()
        head.weight.mul_(size / torch.linalg.matrix_norm(head.weight, 2))
    head.to(dtype)
    for _ in range(200):
        head(torch.randn(2, 12, dtype=dtype))
    return head.eval()


@pytest.mark.parametrize("limit", [0.3, 1.0, 5.0])
def test_above_the_limit(limit: float) -> None:
    head = limited(7.0, limit)
    assert norm(head.limited()) == pytest.approx(limit, rel=1e-4)
    expected = head.weight * (limit / 7.0)
    torch.testing.assert_close(head.limited(), expected, rtol=1e-4, atol=0.0)
    x = torch.randn(3, 12, dtype=torch.float64)
    torch.testing.assert_close(head(x), x @ head.limited().T + head.bias)


def test_below_the_limit_the_weight_is_unchanged() -> None:
    head = limited(0.999)
    assert torch.equal(head.limited(), head.weight)
    x = torch.randn(3, 12, dtype=torch.float64)
    assert torch.equal(head(x), nn.functional.linear(x, head.weight, head.bias))


def test_the_initial_zero_head_has_gradients() -> None:
    """Iterations on the zero weight must not destroy the vectors, which later estimate σ."""
    generator = spectral(Linear(12), 0.5)
    generator.bind(LAYOUT)
    head = generator.head
    assert isinstance(head, LimitedHead)
    z, target = torch.randn(256, 12), 5 * torch.randn(256, LAYOUT.size)
    target = target + z @ torch.randn(12, LAYOUT.size)
    for _ in range(5):
        assert torch.equal(generator(z), LAYOUT.start().expand(256, -1))
    optimiser = torch.optim.Adam(generator.parameters(), 0.02)
    for _ in range(200):
        optimiser.zero_grad()
        (generator(z) - target).square().mean().backward()
        assert head.weight.grad is not None and head.weight.grad.isfinite().all()
        optimiser.step()
    raw = norm(head.weight)
    assert raw > 1.0
    assert norm(head.limited()) == pytest.approx(0.5, rel=0.25)
    for _ in range(200):  # until the weight has converged
        generator(z)
    assert norm(head.limited()) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("size", [1e-30, 1e-42])
def test_a_tiny_weight(size: float) -> None:
    head = limited(1.0, dtype=torch.float32)
    with torch.no_grad():
        head.weight.mul_(size)
    head.train()(torch.randn(2, 12))
    for vector in (head.left, head.right):
        assert float(vector.norm()) == pytest.approx(1.0, rel=1e-3)
    assert torch.equal(head.limited(), head.weight)


def test_gradients_are_those_of_the_quotient() -> None:
    head = limited(3.0)
    x = torch.randn(3, 12, dtype=torch.float64)

    def run(weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, head.weight.detach().requires_grad_())


def test_two_calls_before_backward() -> None:
    """The iteration changes its vectors in place; the backward pass must not depend on them."""
    head = limited(3.0).train()
    x = torch.randn(3, 12, dtype=torch.float64)
    (head(x) + head(x)).sum().backward()
    assert head.weight.grad is not None


def test_evaluation_changes_no_buffer() -> None:
    head = limited(3.0)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head(torch.randn(2, 12, dtype=torch.float64))
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


def test_a_trained_head_is_limited_in_the_first_call() -> None:
    inner = Linear(12)
    inner.bind(LAYOUT)
    assert inner.head is not None
    nn.init.normal_(inner.head.weight)
    generator = spectral(inner, 0.5)
    generator.bind(LAYOUT)
    assert isinstance(generator.head, LimitedHead)
    used = norm(generator.head.limited())
    assert used == pytest.approx(0.5, rel=0.1)


def test_under_autocast_sigma_is_not_rounded() -> None:
    head = limited(3.0, dtype=torch.float32)
    expected = head.limited()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head.limited(), expected)
        assert head.train()(torch.randn(2, 12)).dtype == torch.bfloat16


def test_half_precision_weights() -> None:
    head = limited(3.0, dtype=torch.float32).to(torch.bfloat16)
    assert head.limited().dtype == torch.bfloat16
    assert norm(head.limited().float()) == pytest.approx(1, rel=0.03)


def test_keys_and_groups() -> None:
    generator = spectral(MLP(5, (6,)))
    generator.bind(LAYOUT)
    assert {key for key in generator.state_dict() if "head" in key} == {
        f"generator.head.{name}" for name in ("weight", "bias", "left", "right")
    }
    groups = {g["name"]: g["params"] for g in parameter_groups(generator, 0.1)}
    assert generator.head is not None
    assert groups["heads"] == [generator.head.weight]


def test_a_head_that_is_registered_twice_stays_one_module() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Head(12, LAYOUT)
            self.second = self.first

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x) + self.second(x)

    twice = Twice()
    spectral(twice).bind(LAYOUT)
    assert isinstance(twice.first, LimitedHead)
    assert twice.first is twice.second


@pytest.mark.parametrize("inner", [Lookup(3), Learned(), nn.Linear(2, LAYOUT.size)])
def test_without_a_head(inner: nn.Module) -> None:
    with pytest.raises(GeneratorError, match="no head"):
        spectral(inner).bind(LAYOUT)


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        (0.0, GeneratorError),
        (-1.0, GeneratorError),
        (math.inf, GeneratorError),
        (math.nan, GeneratorError),
        ("1", KIND),
        (True, KIND),
        (None, KIND),
    ],
)
def test_wrong_inputs(limit: Any, error: Any) -> None:
    with pytest.raises(error, match="limit"):
        spectral(Linear(2), limit)
