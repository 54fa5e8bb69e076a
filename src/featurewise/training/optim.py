"""Learning-rate schedules as pure functions of the step, and averages of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def linear(steps: int, *, warmup: int = 0, start: float = 0.0, floor: float = 0.0) -> Schedule:
    """Linear warmup, constant at 1, then linear decay to `floor`.

    Args:
        steps: end of the decay; the factor stays at `floor` afterwards.
        warmup: number of warmup steps.
        start: share of the steps after which the decay begins, in [0, 1).
        floor: final factor, in [0, 1].

    Raises:
        ExperimentError: `warmup` is negative or not below `steps`, or `start` is out of range.
    """
    if not 0 <= warmup < steps:
        raise ExperimentError(f"warmup must be at least 0 and below steps={steps}, not {warmup}")
    if not 0 <= start < 1:
        raise ExperimentError(f"start must be at least 0 and below 1, not {start}")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - start * steps) / ((1 - start) * steps)
        return 1 - (1 - floor) * min(1.0, max(0.0, progress))

    return factor


def rewarmed(schedule: Schedule, starts: Sequence[int], warmup: int) -> Schedule:
    """A schedule with another linear warmup after each of `starts`.

    Where the data become harder at once, gradients grow at once, and Adam divides them by what it
    remembers of smaller ones: without a warmup its first steps would be many times too long.

    Args:
        schedule: the schedule.
        starts: numbers of steps, in increasing order, after which the warmups begin.
        warmup: number of steps of each.
    """

    def factor(step: int) -> float:
        since = min((step - start for start in starts if start <= step), default=warmup)
        return schedule(step) * min(1.0, (since + 1) / (warmup + 1))

    return factor


class WeightAverage:
    """Exponential moving average (EMA) of the weights of a network, for evaluation.

    Update n is ``average <- d * average + (1 - d) * weights`` with
    ``d = min(decay, n / (n + 10))``, so that the initial weights soon lose their influence.
    Floating-point parameters that need gradients are averaged, in at least float32. Buffers are not
    averaged: running statistics of the current weights do not fit the averaged ones, so that
    `counting` computes those of the averaged weights.

    Args:
        network: its current weights are the initial average.
        decay: limit of d, in [0, 1).

    Raises:
        ExperimentError: `decay` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ExperimentError(
                f"the decay of a weight average must be 0 or more and below 1, not {decay}"
            )
        self.decay = decay
        self.updates = 0
        self._statistics: dict[str, Tensor] = {}
        self._average = {
            name: tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
            for name, tensor in network.named_parameters()
            if tensor.is_floating_point() and tensor.requires_grad
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
        """Inside the context `network` has the averaged weights; then its own are restored.

        So are the statistics of its batch norms, once `counting` has computed them.
        """
        tensors = _tensors(network)
        averaged = {**self._average, **self._statistics}
        own = {name: tensors[name].detach().clone() for name in averaged}
        self._copy(averaged, tensors)
        try:
            yield
        finally:
            self._copy(own, tensors)

    @contextmanager
    def counting(self, network: nn.Module) -> Iterator[None]:
        """Inside the context, forward passes compute batch-norm statistics of the averaged weights.

        They are the means over all forward passes, and are kept with the averaged weights; weights
        and statistics of the network itself are restored. Norms in eval mode do not take part.
        """
        norms = batch_norms(network)
        own = {name: each.detach().clone() for name, each in _statistics(norms).items()}
        self._statistics = {}
        try:
            with self.applied(network), counted_statistics(network):
                yield
            counted = _statistics(norms)
            self._statistics = {name: each.detach().clone() for name, each in counted.items()}
        finally:
            self._copy(own, _statistics(norms))

    def copy_to(self, network: nn.Module) -> None:
        """Overwrites weights and batch-norm statistics of a network by the averaged ones."""
        self._copy({**self._average, **self._statistics}, _tensors(network))

    @staticmethod
    @torch.no_grad()
    def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for name, tensor in source.items():
            target[name].copy_(tensor)

    def state(self) -> dict[str, Any]:
        """The state for `load_state`."""
        return {
            "updates": self.updates,
            "average": dict(self._average),
            "statistics": dict(self._statistics),
        }

    def load_state(self, state: State) -> None:
        """Restores a state.

        Raises:
            ExperimentError: the state is of a network with other parameters or dtypes.
        """
        # Version 0.1 also averaged parameters that do not change.
        if not self._average.keys() <= state["average"].keys():
            raise ExperimentError("the weight average is of a network with other parameters")
        for name, own in self._average.items():
            if state["average"][name].dtype != own.dtype:
                raise ExperimentError(f"the weight average of {name} has another dtype")
        self.updates = state["updates"]
        self._copy({name: state["average"][name] for name in self._average}, self._average)
        # Version 0.1 had none.
        self._statistics = {
            name: each.clone() for name, each in state.get("statistics", {}).items()
        }


def batch_norms(network: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network, by name, that update running statistics."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and module.track_running_stats
        and module.training
    }


@contextmanager
def counted_statistics(network: nn.Module) -> Iterator[None]:
    """Inside the context, forward passes compute the statistics of batch norms from the beginning.

    On exit they are the means over all these passes, and remain. Norms in eval mode do not take
    part, and weights do not change.
    """
    norms = batch_norms(network).values()
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """On exit the batch norms of a network have the running statistics of before."""
    statistics = _statistics(batch_norms(network))
    own = {name: each.detach().clone() for name, each in statistics.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, each in statistics.items():
                each.copy_(own[name])


def _statistics(norms: Mapping[str, nn.modules.batchnorm._BatchNorm]) -> dict[str, Tensor]:
    return {
        f"{name}.{buffer}" if name else buffer: tensor
        for name, norm in norms.items()
        for buffer, tensor in norm.named_buffers(recurse=False)
        if tensor is not None
    }


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
