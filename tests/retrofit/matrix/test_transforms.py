"""``functional_call`` and the transforms of ``torch.func``."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from .cells import BATCH, Cell, Pair, capability, close, close_grads
from .networks import Network

# Kernels without a batching rule are run row by row; torch says so.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop because")


@capability("functional_call")
def test_functional_call(network: Network, pair: Pair) -> None:
    """Other weights of everything, as a hypernetwork or a meta-learner gives them."""
    inputs, z = pair.draw()
    weights = {
        name: p.detach() + 0.1 * torch.randn_like(p) for name, p in pair.net.named_parameters()
    }
    y = network.tensor(functional_call(pair.net, weights, (), {**inputs, "condition": z}))
    before = pair(inputs, z)
    other = copy.deepcopy(pair)
    with torch.no_grad():
        for name, p in other.plain.named_parameters():
            p.copy_(weights[f"backbone.{name}"])
        for name, p in other.head.named_parameters():
            p.copy_(weights[f"generator.head.{name}"])
    close(y, other.hand(inputs, z))
    assert not torch.allclose(y, before, atol=1e-3)
    close(before, pair.hand(inputs, z))


@capability("torch.func: vmap")
def test_vmap(network: Network, pair: Pair, cell: Cell) -> None:
    """Mapped over conditions, samples staying as they are: a loop over conditions."""
    inputs, _ = pair.draw()
    conditions = torch.randn(3, BATCH, pair.head.in_features)
    with sdpa_kernel(SDPBackend.MATH):
        mapped = cell.attempt(
            lambda: vmap(lambda z: pair(inputs, z))(conditions),
            lambda: vmap(lambda flat: pair.by_hand(inputs, flat))(
                torch.randn(3, BATCH, pair.net.layout.size)
            ),
        )
    for y, z in zip(mapped, conditions, strict=True):
        close(y, pair.hand(inputs, z))


@capability("torch.func: grad")
def test_grad(network: Network, pair: Pair, cell: Cell) -> None:
    inputs, z = pair.draw()
    weights = {name: p.detach() for name, p in pair.net.named_parameters()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        y = functional_call(pair.net, weights, (), {**inputs, "condition": z})
        return network.tensor(y).square().sum()

    found = grad(loss)(weights)
    pair.hand(inputs, z).square().sum().backward()
    named = {
        name.removeprefix("backbone.").removeprefix("generator."): value
        for name, value in found.items()
    }
    truth = {
        name: torch.zeros_like(named[name]) if value is None else value
        for name, value in pair.hand_grads().items()
    }
    close_grads(named, truth)


@capability("torch.func: jvp")
def test_jvp(network: Network, pair: Pair, cell: Cell) -> None:
    """Forward mode against the truth's reverse mode: ``<u, J t> = <J' u, t>``."""
    inputs, z = pair.draw()
    tangent = torch.randn_like(z)

    def run() -> tuple[Tensor, Tensor]:
        return jvp(lambda z: pair(inputs, z), (z,), (tangent,))

    with sdpa_kernel(SDPBackend.MATH):
        y, found = cell.attempt(run, lambda: jvp(lambda z: pair.hand(inputs, z), (z,), (tangent,)))
    close(y, pair.hand(inputs, z))
    leaf = z.clone().requires_grad_()
    truth = pair.hand(inputs, leaf)
    for _ in range(3):
        u = torch.randn_like(truth)
        (back,) = torch.autograd.grad(truth, leaf, u, retain_graph=True)
        close((u * found).sum(), (back * tangent).sum(), 1e-3)
