"""Networks that draw: trained by one loss (likelihood, denoising), judged by their samples."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from featurewise.training.batch import to_device
from featurewise.training.steppers.base import Objective, Options, Sampler, draw
from featurewise.training.steppers.supervised import Supervised


class Generative(Supervised):
    """A network trained by one loss, and a way to draw from it.

    Times and noise that the loss needs are in the batch; those of the samples come from the
    generator that the sampler is handed.

    Args:
        network: see `Supervised`.
        objective: see `Supervised`.
        optimizer: see `Supervised`.
        sampler: see `Sampler`.
        options: see `Options`.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        sampler: Sampler,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(network, objective, optimizer, **options)
        self.sampler = sampler

    def sample(self, condition: Any, seed: int = 0) -> Tensor:
        """Samples for each row of the condition, averaged weights; one seed gives one result."""
        with self.evaluating() as network:
            return draw(self.sampler, network, to_device(condition, self.learner.device), seed)
