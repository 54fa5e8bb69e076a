"""Optimizer matters: schedules as pure functions of the step, weight averages."""

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
"""Completed steps -> factor on the learning rate of the step to come."""


def constant(*, warmup: int = 0) -> Schedule:
    """Rises linearly over `warmup` steps, then stays at 1."""
    return lambda step: min(1.0, (step + 1) / (warmup + 1))


def cosine(steps: int, *, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Rises linearly over `warmup` steps, then falls along half a cosine to `floor`.

    Loshchilov & Hutter 2017 (SGDR), eq. 5, without restarts.

    Args:
        steps: where the fall ends; later steps stay at `floor`.
        warmup: length of the rise; shorter than `steps`.
        floor: last factor, in [0, 1].
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
    """Exponential moving average (EMA) of a network's weights, for evaluation.

    After n updates: ``average <- d * average + (1 - d) * weights`` with
    ``d = min(decay, n / (n + 10))``, so that early averages forget the initial weights.
    Floating-point parameters are averaged in at least float32; buffers (running
    statistics) are not averaged, the network's own are used.

    Args:
        network: averaged from its current weights on.
        decay: how much of the old average stays, in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ExperimentError(
                f"the decay of a weight average lies between 0 and 1, not {decay}"
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
        """Takes in the weights of one more step."""
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
        """Inside, `network` has the averaged weights; afterwards its own, bit for bit."""
        parameters = dict(network.named_parameters())
        own = {name: parameters[name].detach().clone() for name in self._average}
        self._copy(self._average, parameters)
        try:
            yield
        finally:
            self._copy(own, parameters)

    def copy_to(self, network: nn.Module) -> None:
        """Puts the averaged weights in place of the network's own."""
        self._copy(self._average, dict(network.named_parameters()))

    @staticmethod
    @torch.no_grad()
    def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for name, tensor in source.items():
            target[name].copy_(tensor)

    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs."""
        return {"updates": self.updates, "average": dict(self._average)}

    def load_state(self, state: State) -> None:
        """Continues where `state` was taken.

        Raises:
            ExperimentError: the state belongs to another network.
        """
        if state["average"].keys() != self._average.keys():
            raise ExperimentError("the weight average belongs to a network with other parameters")
        for name, own in self._average.items():
            if state["average"][name].dtype != own.dtype:
                raise ExperimentError(f"the weight average of {name} is of another dtype")
        self.updates = state["updates"]
        self._copy(state["average"], self._average)
