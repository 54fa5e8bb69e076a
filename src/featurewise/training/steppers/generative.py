"""Generative networks that are trained by one loss, such as likelihood or denoising."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from featurewise.training.batch import to_device
from featurewise.training.steppers.base import Objective, Options, Sampler, generate
from featurewise.training.steppers.supervised import Supervised


class Generative(Supervised):
    """A network trained by one loss, with a sampler.

    Random numbers of the loss, such as timesteps and noise, are part of the batch. The sampler uses
    the generator that it is called with.

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
        """A sample for each row of the condition, by the averaged weights if there are any.

        Args:
            condition: passed to the sampler.
            seed: determines the samples.
        """
        with self.evaluating() as network:
            return generate(self.sampler, network, to_device(condition, self.learner.device), seed)
