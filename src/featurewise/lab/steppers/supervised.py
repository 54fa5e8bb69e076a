"""One network, one loss, one optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack

import torch
from torch import nn

from featurewise.lab.batch import moved
from featurewise.lab.state import State
from featurewise.lab.steppers.base import Learner, Metrics, Objective, Options


class Supervised:
    """One network, one loss, one optimizer.

    Args:
        network: see `Learner`.
        objective: see `Objective`.
        optimizer: see `Learner`.
        options: see `Options`.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        **options: Unpack[Options],
    ) -> None:
        self.objective = objective
        self.learner = Learner(network, optimizer, **options)

    @property
    def network(self) -> nn.Module:
        """The network in training."""
        return self.learner.network

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The one network, called ``network``."""
        return {"network": self.network}

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The one learner."""
        return (self.learner,)

    @property
    def steps(self) -> int:
        """Completed steps."""
        return self.learner.steps

    def step(self, batch: Any, /) -> Metrics:
        """One gradient step; returns ``loss``, the objective's metrics and the learning rate."""
        self.learner.start()
        with self.learner.autocast():
            module = self.learner.module()
            loss, metrics = self.objective(module, moved(batch, self.learner.device))
        loss.backward()  # type: ignore[no-untyped-call]
        self.learner.take()
        return {"loss": loss.detach(), **metrics, "lr": self.learner.rate}

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
