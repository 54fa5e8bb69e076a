"""Activation checkpointing: gradients are those without, and those of the truth."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from featurewise.retrofit import CallError

from .cells import (
    Cell,
    Pair,
    capability,
    checkpointed,
    close_grads,
    same_grads,
)
from .networks import Inputs, Network

# Of torch's own switch of oneDNN, whose recurrent and other kernels have no second derivatives.
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")

Grads = dict[str, Tensor | None]
Loss = Callable[[Callable[[Inputs, Tensor], Tensor]], None]  # runs backward


@pytest.fixture
def twins(network: Network, pair: Pair) -> tuple[Pair, Pair]:
    """Training networks, the first checkpointed; batch norm has samples enough."""
    other = copy.deepcopy(pair)
    for one in (pair, other):
        one.train()
    checkpointed(pair.net.backbone, network)
    return pair, other


def assert_same(twins: tuple[Pair, Pair], learn: Loss) -> None:
    """Checkpointed equals not checkpointed bit for bit, and the truth closely."""
    pair, other = twins
    learn(pair)
    found = pair.grads()
    learn(other)
    (close_grads if pair.network.rounds else same_grads)(found, other.grads())
    learn(other.hand)
    close_grads(found, other.hand_grads(), 1e-3)


def elsewhere(loss: Tensor) -> None:
    """Backward as device threads do it: nothing of the forward's thread is there."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loss.backward()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def site_runs(pair: Pair) -> list[int]:
    """Grows with every run of the first site that is inside a checkpointed block."""
    runs: list[int] = []
    name = next(
        p.name for p in pair.network.places for b in pair.network.blocks if p.name.startswith(b)
    )
    pair.net.backbone.get_submodule(name).register_forward_pre_hook(lambda *_: runs.append(1))
    return runs


@capability("checkpointing")
def test_gradients(network: Network, twins: tuple[Pair, Pair]) -> None:
    runs = site_runs(twins[0])
    inputs, z = twins[0].draw()
    y = twins[0](inputs, z)
    before = len(runs)
    y.sum().backward()
    assert len(runs) > before  # sites really are run again
    twins[0].grads()
    assert_same(twins, lambda run: run(inputs, z).square().sum().backward())


@capability("checkpointing, two calls alive")
def test_two_calls(network: Network, twins: tuple[Pair, Pair]) -> None:
    (inputs, z), (others, _) = twins[0].draw(), twins[0].draw()

    def learn(run: Callable[[Inputs, Tensor], Tensor]) -> None:
        losses = [run(inputs, z).square().sum(), run(others, -2 * z).square().sum()]
        for loss in losses:
            loss.backward()
        (run(inputs, 0.5 * z).square().sum() + run(others, 3 * z).square().sum()).backward()

    assert_same(twins, learn)


@capability("checkpointing, backward in another thread")
def test_another_thread(network: Network, twins: tuple[Pair, Pair]) -> None:
    inputs, z = twins[0].draw()

    def learn(run: Callable[[Inputs, Tensor], Tensor]) -> None:
        losses = [run(inputs, k * z).square().sum() for k in (1.0, -2.0)]
        for loss in losses:
            elsewhere(loss)

    assert_same(twins, learn)


@capability("checkpointing, second order")
def test_second_order(network: Network, twins: tuple[Pair, Pair], cell: Cell) -> None:
    """A gradient step on the parameters of the task, then a gradient through it (CAVIA)."""
    pair, other = twins
    inputs, z = pair.draw()
    start = pair.net.represent(z).flat.detach()

    def learn(run: Callable[[Tensor], Tensor]) -> None:
        flat = start.clone().requires_grad_()
        inner = run(flat).square().mean()
        (step,) = torch.autograd.grad(inner, flat, create_graph=True)
        run(flat - step).square().sum().backward()

    def conditioned(pair: Pair) -> Grads:
        learn(lambda flat: network.tensor(pair.net(**inputs, task=flat)))
        return backbone_only(pair.grads())

    with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
        found = conditioned(pair)
        same_grads(found, conditioned(other))
        learn(lambda flat: other.by_hand(inputs, flat))
    close_grads(found, backbone_only(other.hand_grads()), 1e-3)


def backbone_only(grads: Grads) -> Grads:
    return {name: grad for name, grad in grads.items() if not name.startswith("head.")}


@capability("checkpointing, reentrant")
def test_reentrant(network: Network, pair: Pair, cell: Cell) -> None:
    """Exact, or refused with a reason: for parameters that learn, and for fixed ones."""
    other = copy.deepcopy(pair)
    for one in (pair, other):
        one.train()
    checkpointed(pair.net.backbone, network, reentrant=True)
    inputs, z = pair.draw()
    for value in inputs.values():  # torch's own condition: an input of the region wants gradients
        value.requires_grad_(value.is_floating_point())
    said: dict[str, str] = {}
    for kind in ("learning", "fixed"):
        flat = pair.net.represent(z).flat.detach()

        def learn(pair: Pair, kind: str = kind, flat: Tensor = flat) -> Grads:
            y = pair(inputs, z) if kind == "learning" else _with(pair, inputs, flat)
            y.square().sum().backward()
            return pair.grads()

        expected = learn(other)
        try:
            found = learn(pair)
        except CallError as error:
            said[kind] = "refused"
            assert "reentrant" in str(error)
            pair.net.zero_grad()
        else:
            said[kind] = "exact"
            close_grads(found, expected)  # sums of gradients come in another order
    if said["learning"] == "refused":
        cell.says(
            "refused: gradients of γ and β would be lost"
            + ("; exact where they are fixed" if said["fixed"] == "exact" else "")
        )


def _with(pair: Pair, inputs: Inputs, flat: Tensor) -> Tensor:
    return pair.network.tensor(pair.net(**inputs, task=flat))
