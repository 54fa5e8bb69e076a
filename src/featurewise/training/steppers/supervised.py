"""One network, one loss, one optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Unpack

import torch
from torch import nn

from featurewise.training.batch import to_device
from featurewise.training.steppers.base import (
    Learner,
    Metrics,
    Objective,
    Options,
    SingleNetworkStepper,
)


class Supervised(SingleNetworkStepper):
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
        super().__init__(Learner(network, optimizer, **options))
        self.objective = objective

    @property
    def network(self) -> nn.Module:
        """The network in training."""
        return self.learner.network

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The only network, ``network``."""
        return {"network": self.network}

    def step(self, batch: Any, /) -> Metrics:
        """One gradient step; returns ``loss``, the objective's metrics and the learning rate."""
        self.learner.zero_grad()
        with self.learner.autocast():
            module = self.learner.module()
            loss, metrics = self.objective(module, to_device(batch, self.learner.device))
        loss.backward()  # type: ignore[no-untyped-call]
        self.learner.step()
        return {"loss": loss.detach(), **metrics, "lr": self.learner.learning_rate}

    def calibrate(self, batches: Iterable[Any], /) -> None:
        """Computes batch-norm statistics of the averaged weights; see `Learner.calibrate`."""
        self.learner.calibrate(partial(self.objective, self.network), batches)
