"""``functional_call`` and the transforms of ``torch.func``."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from featurewise.core import Affine, Gate, LowRank, Operation
from featurewise.generators import Linear
from featurewise.retrofit import Conditioned, calls, condition

Move = Callable[[Conditioned], Conditioned]


def away(network: nn.Module, operation: Operation) -> Conditioned:
    net = condition(network, at="blocks.*.0", operation=operation, generator=Linear(5)).double()
    with torch.no_grad():
        net.generator.head.weight.normal_(std=0.3)
        net.generator.head.bias += 0.3
    return net


@pytest.fixture(params=[Affine(), Gate(), LowRank(2)], ids=str)
def net(request: pytest.FixtureRequest, perceptron: nn.Module) -> Conditioned:
    return away(perceptron, request.param)


def inputs() -> tuple[Tensor, Tensor]:
    return torch.randn(4, 6).double(), torch.randn(4, 5).double()


def test_functional_call_with_other_weights_of_everything(net: Conditioned) -> None:
    other = copy.deepcopy(net)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    x, z = inputs()
    weights = dict(other.named_parameters())
    called = functional_call(net, weights, (x,), {"condition": z})
    assert torch.equal(called, other(x, condition=z))
    assert not torch.equal(called, net(x, condition=z))


def test_grad_equals_autograd(net: Conditioned) -> None:
    x, z = inputs()
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(net, weights, (x,), {"condition": z}).square().sum()

    found = grad(loss)(weights)
    net(x, condition=z).square().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(found[name], p.grad)


def test_trap_17_per_sample_gradients_by_vmap(
    net: Conditioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, z = inputs()
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, z: Tensor) -> Tensor:
        kwargs = {"condition": z[None]}
        return functional_call(net, weights, (x[None],), kwargs).square().sum()

    kept: list[calls.Call] = []
    with monkeypatch.context() as patch:
        patch.setattr(calls, "_register", kept.append)
        found = vmap(grad(loss), (None, 0, 0))(weights, x, z)
    assert kept == []  # nodes of a transform are no anchors
    for i in range(4):
        net.zero_grad()
        net(x[i : i + 1], condition=z[i : i + 1]).square().sum().backward()
        for name, p in net.named_parameters():
            torch.testing.assert_close(found[name][i], p.grad)


def test_vmap_over_conditions(net: Conditioned) -> None:
    x, _ = inputs()
    conditions = torch.randn(3, 4, 5).double()
    mapped = vmap(lambda z: net(x, condition=z))(conditions)
    for y, z in zip(mapped, conditions, strict=True):
        torch.testing.assert_close(y, net(x, condition=z))


def test_vmap_over_task_representations(net: Conditioned) -> None:
    x, z = inputs()
    tasks = net.represent(z)
    mapped = vmap(lambda task: net(x, task=task))(tasks)
    for i in range(4):
        torch.testing.assert_close(mapped[i], net(x, task=tasks[i]))


def test_forward_mode(net: Conditioned) -> None:
    x, z = inputs()
    tangent = torch.randn_like(z)
    _, found = jvp(lambda z: net(x, condition=z), (z,), (tangent,))
    step = 1e-6
    around = [net(x, condition=z + sign * step * tangent) for sign in (1, -1)]
    torch.testing.assert_close(found, (around[0] - around[1]) / (2 * step), rtol=1e-5, atol=1e-7)
