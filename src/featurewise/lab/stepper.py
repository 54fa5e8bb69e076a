"""What one training step does. The loop around it knows no networks, losses or optimizers.

A stepper owns the networks and optimizers it needs, by name; the loop hands it one batch
after another, saves what `state` returns and gives it back to `load_state`. Four kinds of
training fit behind this:

* supervised: one network, one optimizer, one loss (`Supervised`, below);
* episodic: a batch is several episodes (support and query sets); `step` adapts to each
  support set and learns from the query sets. Inner-loop state lives within `step`;
* adversarial: two networks and two optimizers, ``{"generator": ..., "discriminator": ...}``;
  `step` trains both, in whatever ratio, and counts steps itself if the ratio needs it;
* rollout: a batch is the seeds of environments; `step` plays, then learns. Environments
  that go on from step to step belong in `state`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from featurewise.lab.errors import LabError
from featurewise.lab.optim import Schedule, WeightAverage, constant
from featurewise.lab.state import State

Metrics: TypeAlias = Mapping[str, float | Tensor]
"""Name -> number, or tensor of one element (so that a GPU need not be waited for)."""

Objective: TypeAlias = Callable[[nn.Module, Any], tuple[Tensor, Metrics]]
"""(network, batch) -> loss to minimise (one element), and metrics besides the loss."""


@runtime_checkable
class Stepper(Protocol):
    """One kind of training."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks in training, by name."""

    def step(self, batch: Any, /) -> Metrics:
        """Learns from one batch; the metrics have the same names each time."""

    def state(self) -> State:
        """All that `load_state` needs to go on bit for bit, random generators excepted."""

    def load_state(self, state: State, /) -> None:
        """Goes on where `state` was taken."""


class Supervised:
    """One network, one loss, one optimizer.

    The network stays in the mode (train or eval, module by module) it is given in, so a
    frozen backbone may stay in eval mode. In a process group the gradients are averaged.

    Args:
        network: on `device` already, together with its optimizer.
        objective: see `Objective`.
        optimizer: any torch optimizer over the network's parameters.
        schedule: factor on each group's learning rate, by completed steps.
        clip: largest norm of the whole gradient; None leaves it.
        average: decay of an exponential moving average of the weights, used by
            `evaluating`; None for none.
        bfloat16: whether the forward pass runs under bfloat16 autocast.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        schedule: Schedule | None = None,
        clip: float | None = None,
        average: float | None = None,
        bfloat16: bool = False,
    ) -> None:
        self.network = network
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule or constant()
        self.clip = clip
        self.average = None if average is None else WeightAverage(network, average)
        self.bfloat16 = bfloat16
        self.steps = 0
        self._parallel: DistributedDataParallel | None = None
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network, called ``network``."""
        return {"network": self.network}

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def step(self, batch: Any, /) -> Metrics:
        """One gradient step; returns ``loss``, the objective's metrics and the learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule(self.steps)
        with self._autocast():
            loss, metrics = self.objective(self._module(), moved(batch, self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        self.steps += 1
        return {"loss": loss.detach(), **metrics, "lr": self.optimizer.param_groups[0]["lr"]}

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The network in eval mode, without gradients, with averaged weights if there are any."""
        modes = {module: module.training for module in self.network.modules()}
        averaged = self.average.applied(self.network) if self.average else nullcontext()
        self.network.eval()
        try:
            with torch.no_grad(), self._autocast(), averaged:
                yield self.network
        finally:
            for module, training in modes.items():
                module.training = training

    def state(self) -> State:
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
            LabError: the state belongs to another network, or one of them has a weight
                average and the other has not.
        """
        if (state["average"] is None) != (self.average is None):
            raise LabError("one has a weight average and the other has not: state and stepper")
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise LabError(f"the state belongs to another network or optimizer: {error}") from error
        if self.average is not None:
            self.average.load_state(state["average"])
        self.steps = state["steps"]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def _module(self) -> nn.Module:
        """The network, or its twin that averages gradients over the process group."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return self.network
        if self._parallel is None or self._parallel.process_group is not dist.group.WORLD:
            self._parallel = DistributedDataParallel(self.network)
        return self._parallel


def moved(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor on `device`: tensors, mappings, sequences, dataclasses."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(moved(value, device) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {f.name: moved(getattr(batch, f.name), device) for f in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **fields)
    return batch
