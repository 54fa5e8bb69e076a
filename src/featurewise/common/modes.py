"""Training and eval mode of networks, and the device that they are on for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode within the block; each module inside gets its own mode back."""
    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for inner, mode in modes:
            inner.training = mode


@contextmanager
def on_cpu(networks: Iterable[nn.Module]) -> Iterator[None]:
    """The networks on the processor within the block; then each is on its own device again.

    Parameters stay the same objects, so an optimizer of them goes on.

    Args:
        networks: each with all parameters and buffers on one device.
    """
    moved: list[tuple[nn.Module, torch.device]] = []
    try:
        for network in networks:
            device = next((p.device for p in network.parameters()), torch.device("cpu"))
            if device.type != "cpu":
                moved.append((network, device))
                network.to("cpu")
        yield
    finally:
        for network, device in moved:
            network.to(device)
