"""Copied, sent away, made without memory: the conditioned network as an object."""

from __future__ import annotations

import copy

import torch
from torch import nn

from featurewise.generators import Linear
from featurewise.retrofit import condition

from .cells import BATCH, CONDITION, Cell, Pair, capability, close, move
from .networks import Network


@capability("deepcopy")
def test_deepcopy(network: Network, pair: Pair, cell: Cell) -> None:
    inputs, z = pair.draw()
    y = pair(inputs, z)
    pair.hand(inputs, z)
    other = cell.attempt(lambda: copy.deepcopy(pair.net), lambda: copy.deepcopy(pair.plain))
    assert torch.equal(network.tensor(other(**inputs, condition=z)), y)
    move(other.generator)
    changed = network.tensor(other(**inputs, condition=z))
    assert not torch.allclose(changed, y, atol=1e-4)
    assert torch.equal(pair(inputs, z), y)
    with pair.net.using(condition=z):  # the copy does not hear the original
        plain = network.tensor(other.backbone(**inputs))
    assert torch.equal(plain, network.tensor(pair.plain(**inputs)))
    other.remove()
    assert torch.equal(pair(inputs, z), y)
    close(y, pair.hand(inputs, z))


@capability("meta device")
def test_meta(network: Network, pair: Pair) -> None:
    """Made without memory, then filled from a state dict."""
    inputs, z = pair.draw()
    with torch.device("meta"):
        backbone = network.ready()
    net = condition(
        backbone,
        at=network.at,
        generator=Linear(CONDITION),
        example=network.inputs(BATCH),
        **network.options,
    )
    assert {p.device.type for p in net.backbone.parameters()} == {"meta"}
    assert net.layout == pair.net.layout
    net.to_empty(device="cpu")
    net.load_state_dict(pair.net.state_dict())
    fill_unsaved(net, pair.net)
    y = network.tensor(net(**inputs, condition=z))
    assert torch.equal(y, pair(inputs, z))
    close(y, pair.hand(inputs, z))


def fill_unsaved(net: nn.Module, like: nn.Module) -> None:
    """Buffers that no state dict holds, such as position ids; torch leaves them to the user."""
    for (_, buffer), (_, value) in zip(net.named_buffers(), like.named_buffers(), strict=True):
        buffer.copy_(value)
