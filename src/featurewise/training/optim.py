"""Learning-rate schedules as pure functions of the step, and averages of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from featurewise.training.errors import ExperimentError
from featurewise.training.state import State

Schedule: TypeAlias = Callable[[int], float]
"""Number of completed steps -> factor on the learning rate of the next step."""


def constant(*, warmup: int = 0) -> Schedule:
    """Linear warmup over `warmup` steps, then constant at 1."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


def cosine(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Linear warmup over `warmup` steps, then cosine decay to `floor`.

    Loshchilov & Hutter 2017 (SGDR), eq. 5, without restarts.

    Args:
        steps: end of the decay; the factor stays at `floor` afterwards.
        warmup: number of warmup steps; less than `steps`.
        floor: final factor, in [0, 1].

    Raises:
        ExperimentError: `warmup` is negative, or not less than `steps`.
    """
    if not 0 <= warmup < steps:
        raise ExperimentError(f"warmup must be at least 0 and below steps={steps}, not {warmup}")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / (steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


class WeightAverage:
    """Exponential moving average (EMA) of the weights of a network, for evaluation.

    Update n is ``average <- d * average + (1 - d) * weights`` with
    ``d = min(decay, n / (n + 10))``, so that the initial weights soon lose their influence.
    Floating-point parameters are averaged in at least float32. Buffers such as running statistics
    are not averaged.

    Args:
        network: its current weights are the initial average.
        decay: limit of d, in (0, 1).

    Raises:
        ExperimentError: `decay` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ExperimentError(
                f"the decay of a weight average must lie between 0 and 1, not {decay}"
            )
        self.decay = decay
        self.updates = 0
        self._average = {
            name: tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
            for name, tensor in network.named_parameters()
            if tensor.is_floating_point()
        }

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Updates the average with the weights of a network after a step."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        current = dict(network.named_parameters())
        averages = list(self._average.values())
        weights = [
            current[name].detach().to(average.dtype) for name, average in self._average.items()
        ]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Inside the context `network` has the averaged weights; then its own are restored."""
        parameters = dict(network.named_parameters())
        own = {name: parameters[name].detach().clone() for name in self._average}
        self._copy(self._average, parameters)
        try:
            yield
        finally:
            self._copy(own, parameters)

    def copy_to(self, network: nn.Module) -> None:
        """Overwrites the weights of a network by the averaged weights."""
        self._copy(self._average, dict(network.named_parameters()))

    @staticmethod
    @torch.no_grad()
    def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for name, tensor in source.items():
            target[name].copy_(tensor)

    def state(self) -> dict[str, Any]:
        """The state for `load_state`."""
        return {"updates": self.updates, "average": dict(self._average)}

    def load_state(self, state: State) -> None:
        """Restores a state.

        Raises:
            ExperimentError: the state is of a network with other parameters or dtypes.
        """
        if state["average"].keys() != self._average.keys():
            raise ExperimentError("the weight average is of a network with other parameters")
        for name, own in self._average.items():
            if state["average"][name].dtype != own.dtype:
                raise ExperimentError(f"the weight average of {name} has another dtype")
        self.updates = state["updates"]
        self._copy(state["average"], self._average)
