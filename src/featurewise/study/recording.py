"""Which task representations a network makes of a batch of its training data."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from featurewise.core import TaskRepresentation
from featurewise.generators import LocalGenerator
from featurewise.retrofit import Conditioned


def conditioned_part(network: nn.Module) -> Conditioned | None:
    """The first part of a network that is conditioned by a generator of conditions, if any."""
    for module in network.modules():
        if isinstance(module, Conditioned) and not isinstance(module.generator, LocalGenerator):
            return module
    return None


def recorded_call(network: nn.Module, part: Conditioned, batch: Any) -> tuple[Any, Tensor] | None:
    """Condition and flat task representation of a forward pass, of the call that varies most.

    A network may also be run without its condition, as in an inner loop's first step. The pass is
    one with gradients, as an inner loop needs them.

    Args:
        network: in eval mode; several in a `ModuleDict` are run one after the other.
        part: its conditioned part.
        batch: on the network's device.

    Returns:
        None if the condition was not used.
    """
    calls: list[tuple[Any, Tensor]] = []

    def record(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        flat = made.flat if isinstance(made, TaskRepresentation) else made
        calls.append((given[0] if given else None, flat.detach()))

    handle = part.generator.register_forward_hook(record)
    try:
        _run(network, batch)
    finally:
        handle.remove()
    return max(calls, key=lambda call: _variation(call[1]), default=None)


def _run(network: nn.Module, batch: Any) -> None:
    """A forward pass; of each network, where there are several by name."""
    if isinstance(network, nn.ModuleDict) and type(network).forward is nn.ModuleDict.forward:
        for name in network:
            network[name](batch)
    else:
        network(batch)


def _variation(flat: Tensor) -> float:
    """How much task representations differ between samples."""
    return float(flat.double().var(0).mean()) if len(flat) > 1 else 0.0
