"""The stepper protocol that the training loop uses, and the parts that steppers are built from.

The loop has no access to networks, losses or optimizers; a stepper owns them. The loop passes
batches to `step`, saves what `state` returns, and passes it to `load_state` to resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeAlias, TypedDict, Unpack, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featurewise.common.modes import evaluating
from featurewise.training import hardware
from featurewise.training.batch import to_device
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import Schedule, WeightAverage, batch_norms, constant
from featurewise.training.state import State

Metrics: TypeAlias = Mapping[str, float | Tensor]
"""Name -> number, or tensor of one element (which avoids a synchronisation with the GPU)."""

Objective: TypeAlias = Callable[[nn.Module, Any], tuple[Tensor, Metrics]]
"""(network, batch) -> loss to minimise (one element), and metrics besides the loss."""

Sampler: TypeAlias = Callable[[nn.Module, Any, torch.Generator], Tensor]
"""(network, condition, rng) -> samples, one for each row of the condition."""


@runtime_checkable
class Stepper(Protocol):
    """Performs training steps."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks in training, by name; each is called with a batch."""

    def step(self, batch: Any, /) -> Metrics:
        """One training step on a batch; the names of the metrics are the same in every step."""

    def state(self) -> State:
        """The state for an exact continuation, except for the global random generators."""

    def load_state(self, state: State, /) -> None:
        """Restores a state."""


@runtime_checkable
class HasLearners(Protocol):
    """A stepper that trains by learners, whose averaged weights are the final ones."""

    @property
    def learners(self) -> tuple[Learner, ...]:
        """One learner per network; empty for closed-form solutions."""


@runtime_checkable
class CanCalibrate(Protocol):
    """A stepper that can compute the batch-norm statistics of its averaged weights."""

    def calibrate(self, batches: Iterable[Any], /) -> None:
        """Computes them from batches of training; see `Learner.calibrate`."""


@runtime_checkable
class CanSample(Protocol):
    """A stepper whose network can be sampled from."""

    def sample(self, condition: Any, seed: int = 0) -> Tensor:
        """A sample for each row of the condition, determined by the seed."""


class Options(TypedDict, total=False):
    """Options of gradient descent, for all steppers that use it.

    Attributes:
        schedule: completed steps -> factor on the learning rate of each parameter group; default:
            constant.
        clip: maximum norm of the gradient of all parameters; default: None, no clipping.
        average: decay of an exponential moving average (EMA) of the weights, which `evaluating`
            uses; default: None, no average.
        bfloat16: run the forward pass under bfloat16 autocast, or in float32 on a device that does
            not compute bfloat16 (see `featurewise.training.hardware.computes_bfloat16`); default:
            False.
    """

    schedule: Schedule | None
    clip: float | None
    average: float | None
    bfloat16: bool


class Learner:
    """A network with its optimizer, schedule, gradient clipping, weight average and precision.

    An update is ``zero_grad()``, one or more backward passes, ``step()``. Each module keeps its
    train or eval mode, so a frozen backbone may stay in eval mode. In a process group the gradients
    are averaged over the processes.

    Args:
        network: on its device already.
        optimizer: any torch optimizer of the parameters of the network.
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
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first parameter group in the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def autocast(self) -> torch.autocast:
        """Context of the forward pass: bfloat16 autocast, or none."""
        return hardware.autocast(self.device, bfloat16=self.bfloat16)

    def module(self) -> nn.Module:
        """The network, wrapped in `DistributedDataParallel` if there are several processes."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.network
        if self._parallel is None or self._parallel.process_group is not dist.group.WORLD:
            self._parallel = DistributedDataParallel(self.network)
        return self._parallel

    def zero_grad(self) -> None:
        """Clears the gradients and sets the scheduled learning rate, before the backward pass."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule(self.steps)
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Clips the gradient, updates the weights and their average, after the backward pass."""
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        self.steps += 1

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The network in eval mode, without gradients, with averaged weights if it has them."""
        with ExitStack() as stack:
            stack.enter_context(evaluation(self.network))
            stack.enter_context(self.autocast())
            if self.average is not None:
                stack.enter_context(self.average.applied(self.network))
            yield self.network

    def calibrate(self, forward: Callable[[Any], object], batches: Iterable[Any]) -> None:
        """Computes batch-norm statistics of the averaged weights, in train mode.

        Running statistics follow the weights in training. They can be far from those of the
        averaged weights, so that a network with both is much worse than with either.

        Args:
            forward: called with each batch, on the learner's device; calls the network.
            batches: of training; not taken where there is no average or no batch norm.
        """
        if self.average is None or not batch_norms(self.network):
            return
        with torch.no_grad(), self.autocast(), self.average.counting(self.network):
            for batch in batches:
                forward(to_device(batch, self.device))

    def apply_ema(self) -> None:
        """Replaces the weights of the network by their average, if there is one."""
        if self.average is not None:
            self.average.copy_to(self.network)

    def state(self) -> dict[str, Any]:
        """Weights, buffers, optimizer state, weight average and number of completed steps."""
        return {
            "steps": self.steps,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
        }

    def load_state(self, state: State, /) -> None:
        """Restores a state.

        Raises:
            ExperimentError: the state is of another network or optimizer, or exactly one of state
                and learner has a weight average.
        """
        if (state["average"] is None) != (self.average is None):
            has, lacks = ("state", "stepper") if self.average is None else ("stepper", "state")
            raise ExperimentError(f"the {has} has a weight average, the {lacks} has none")
        check_dtypes(self.network, state["network"])
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ExperimentError(
                f"the state is of another network or optimizer: {error}"
            ) from error
        if self.average is not None:
            self.average.load_state(state["average"])
        self.steps = state["steps"]


class SingleNetworkStepper:
    """Base of steppers with one learner; subclasses define `networks` and `step`.

    Args:
        learner: of the network.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The only learner."""
        return (self.learner,)

    @property
    def steps(self) -> int:
        """Number of completed steps."""
        return self.learner.steps

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The network in eval mode, without gradients, with averaged weights if it has them."""
        with self.learner.evaluating() as network:
            yield network

    def state(self) -> State:
        """The state of the learner."""
        return self.learner.state()

    def load_state(self, state: State, /) -> None:
        """Restores a state; raises like `Learner.load_state`."""
        self.learner.load_state(state)


def check_dtypes(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Checks that a state dict has the dtypes of a network; `load_state_dict` would cast silently.

    Raises:
        ExperimentError: a dtype differs; the message names the tensor.
    """
    for name, own in network.state_dict().items():
        loaded = state.get(name)
        if isinstance(loaded, Tensor) and loaded.dtype != own.dtype:
            raise ExperimentError(
                f"{name} is {loaded.dtype} in the state and {own.dtype} in the network"
            )


@contextmanager
def evaluation(network: nn.Module) -> Iterator[nn.Module]:
    """The network in eval mode, without gradients; on exit the mode of each module is restored."""
    with evaluating(network), torch.no_grad():
        yield network


def generate(sampler: Sampler, network: nn.Module, condition: Any, seed: int) -> Tensor:
    """Samples from a network, with a seeded generator on its device."""
    device = next(network.parameters()).device
    return sampler(network, condition, torch.Generator(device).manual_seed(seed))
