"""What every kind of training offers to the loop, and what they are built from.

The loop around a stepper knows no networks, losses or optimizers. A stepper owns those it
needs, by name; the loop hands it one batch after another, saves what `state` returns and gives
it back to `load_state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias, TypedDict, Unpack, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featurewise.training.errors import ExperimentError
from featurewise.training.optim import Schedule, WeightAverage, constant
from featurewise.training.state import State

Metrics: TypeAlias = Mapping[str, float | Tensor]
"""Name -> number, or tensor of one element (so that a GPU need not be waited for)."""

Objective: TypeAlias = Callable[[nn.Module, Any], tuple[Tensor, Metrics]]
"""(network, batch) -> loss to minimise (one element), and metrics besides the loss."""

Sampler: TypeAlias = Callable[[nn.Module, Any, torch.Generator], Tensor]
"""(network, condition, source of all randomness) -> samples, one for each row of the condition."""


@runtime_checkable
class Stepper(Protocol):
    """One kind of training."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks in training, by name; each takes a batch."""

    def step(self, batch: Any, /) -> Metrics:
        """HasLearners from one batch; the metrics have the same names each time."""

    def state(self) -> State:
        """All that `load_state` needs to go on bit for bit, random generators excepted."""

    def load_state(self, state: State, /) -> None:
        """Goes on where `state` was taken."""


@runtime_checkable
class HasLearners(Protocol):
    """A stepper made of learners, whose averaged weights are those to publish."""

    @property
    def learners(self) -> tuple[Learner, ...]:
        """How its networks descend; empty where they are solved for."""


@runtime_checkable
class Samples(Protocol):
    """A stepper whose network draws."""

    def sample(self, condition: Any, seed: int = 0) -> Tensor:
        """Samples for each row of the condition; one seed gives one result."""


class Options(TypedDict, total=False):
    """How a network descends, as all steppers that descend take it.

    Attributes:
        schedule: factor on each group's learning rate, by completed steps; constant unless told.
        clip: largest norm of the whole gradient; None leaves it.
        average: decay of an exponential moving average of the weights, used by
            `evaluating`; None for none.
        bfloat16: whether the forward pass runs under bfloat16 autocast.
    """

    schedule: Schedule | None
    clip: float | None
    average: float | None
    bfloat16: bool


class Learner:
    """A network and how it descends: optimizer, schedule, clipping, weight average, precision.

    A step is ``start``, any number of ``backward``, ``take``. The network stays in the mode
    (train or eval, module by module) it is given in, so a frozen backbone may stay in eval mode.
    In a process group the gradients are averaged.

    Args:
        network: on its device already, together with its optimizer.
        optimizer: any torch optimizer over the network's parameters.
        options: see `Options`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        **options: Unpack[Options],
    ) -> None:
        average = options.get("average")
        self.network = network
        self.optimizer = optimizer
        self.schedule = options.get("schedule") or constant()
        self.clip = options.get("clip")
        self.average = None if average is None else WeightAverage(network, average)
        self.bfloat16 = options.get("bfloat16", False)
        self.steps = 0
        self._parallel: DistributedDataParallel | None = None
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first group, as of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def autocast(self) -> torch.autocast:
        """The precision that the forward pass runs in."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def module(self) -> nn.Module:
        """The network, or its twin that averages gradients over the process group."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.network
        if self._parallel is None or self._parallel.process_group is not dist.group.WORLD:
            self._parallel = DistributedDataParallel(self.network)
        return self._parallel

    def zero_grad(self) -> None:
        """Before the first backward pass of a step: no gradients, the scheduled rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule(self.steps)
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """After the last backward pass of a step: the step itself."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        self.steps += 1

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The network in eval mode, without gradients, with averaged weights if there are any."""
        with ExitStack() as stack:
            stack.enter_context(evaluation(self.network))
            stack.enter_context(self.autocast())
            if self.average is not None:
                stack.enter_context(self.average.applied(self.network))
            yield self.network

    def apply_ema(self) -> None:
        """Puts the averaged weights, if there are any, in place of the network's own."""
        if self.average is not None:
            self.average.copy_to(self.network)

    def state(self) -> dict[str, Any]:
        """Weights, buffers, optimizer, weight average and the number of steps."""
        return {
            "steps": self.steps,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
        }

    def load_state(self, state: State, /) -> None:
        """Goes on where `state` was taken.

        Raises:
            ExperimentError: the state belongs to another network, or one of them has a weight
                average and the other has not.
        """
        if (state["average"] is None) != (self.average is None):
            raise ExperimentError(
                "one has a weight average and the other has not: state and stepper"
            )
        check_dtypes(self.network, state["network"])
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ExperimentError(
                f"the state belongs to another network or optimizer: {error}"
            ) from error
        if self.average is not None:
            self.average.load_state(state["average"])
        self.steps = state["steps"]


class SingleNetworkStepper:
    """What all steppers of one learner share; they add their networks and their step.

    Args:
        learner: the one.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The one learner."""
        return (self.learner,)

    @property
    def steps(self) -> int:
        """Completed steps."""
        return self.learner.steps

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The network in eval mode, without gradients, with averaged weights if there are any."""
        with self.learner.evaluating() as network:
            yield network

    def state(self) -> State:
        """The learner's."""
        return self.learner.state()

    def load_state(self, state: State, /) -> None:
        """Goes on where `state` was taken; raises as `Learner.load_state`."""
        self.learner.load_state(state)


def check_dtypes(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Raise where a state has another dtype than the network, which would cast it in silence.

    Raises:
        ExperimentError: the message names the tensor.
    """
    for name, own in network.state_dict().items():
        given = state.get(name)
        if isinstance(given, Tensor) and given.dtype != own.dtype:
            raise ExperimentError(
                f"{name} is {given.dtype} in the state and {own.dtype} in the network"
            )


@contextmanager
def evaluation(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode and without gradients; afterwards each module in its own mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        for module, training in modes.items():
            module.training = training


def draw(sampler: Sampler, network: nn.Module, condition: Any, seed: int) -> Tensor:
    """Samples, their randomness from a generator of their own on the network's device."""
    device = next(network.parameters()).device
    return sampler(network, condition, torch.Generator(device).manual_seed(seed))
