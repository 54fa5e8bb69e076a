"""Generative adversarial networks. Goodfellow et al. 2014."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, Unpack

import torch
from torch import Tensor, nn

from featurewise.training.batch import to_device
from featurewise.training.optim import kept_statistics
from featurewise.training.state import State
from featurewise.training.steppers.base import Learner, Metrics, Options, Sampler, generate

GanLoss: TypeAlias = Callable[[nn.Module, nn.Module, Any], tuple[Tensor, Metrics]]
"""(generator, discriminator, batch) -> loss of one of the two, and metrics besides the loss."""


class Adversarial:
    """In each step, one update of the discriminator, then one of the generator.

    Args:
        generator: batch (its noise and condition) -> samples.
        discriminator: batch (its samples and condition) -> logits.
        generator_loss: see `GanLoss`; its gradient updates the generator only.
        discriminator_loss: see `GanLoss`; its gradient updates the discriminator only.
        optimizers: of the generator and of the discriminator.
        sampler: see `Sampler`; called with the generator.
        options: of both, see `Options`; only the generator has averaged weights.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        generator_loss: GanLoss,
        discriminator_loss: GanLoss,
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        sampler: Sampler,
        **options: Unpack[Options],
    ) -> None:
        generator_optimizer, discriminator_optimizer = optimizers
        self.generator = Learner(generator, generator_optimizer, **options)
        options["average"] = None
        self.discriminator = Learner(discriminator, discriminator_optimizer, **options)
        self.generator_loss = generator_loss
        self.discriminator_loss = discriminator_loss
        self.sampler = sampler

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks ``generator`` and ``discriminator``."""
        return {"generator": self.generator.network, "discriminator": self.discriminator.network}

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The learners of generator and discriminator."""
        return self.generator, self.discriminator

    @property
    def steps(self) -> int:
        """Number of completed steps."""
        return self.generator.steps

    def step(self, batch: Any, /) -> Metrics:
        """One update of each; the losses are ``discriminator_loss`` and ``generator_loss``."""
        batch = to_device(batch, self.generator.device)
        first = self._update("discriminator", self.discriminator, self.discriminator_loss, batch)
        second = self._update("generator", self.generator, self.generator_loss, batch)
        return {**first, **second, "lr": self.generator.learning_rate}

    def _update(self, name: str, learner: Learner, objective: GanLoss, batch: Any) -> Metrics:
        """One update of one network; the gradients of the other network do not change."""
        learner.zero_grad()
        with learner.autocast():
            modules = (self.generator.module(), self.discriminator.module())
            loss, metrics = objective(*modules, batch)
        trained = [p for p in learner.network.parameters() if p.requires_grad]
        loss.backward(inputs=trained)  # type: ignore[no-untyped-call]
        learner.step()
        return {f"{name}_loss": loss.detach(), **metrics}

    def calibrate(self, batches: Iterable[Any], /) -> None:
        """Computes batch-norm statistics of the averaged weights; see `Learner.calibrate`."""
        generator, discriminator = self.generator.network, self.discriminator.network
        with kept_statistics(discriminator):
            self.generator.calibrate(
                partial(self.generator_loss, generator, discriminator), batches
            )

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The generator in eval mode, without gradients, with averaged weights if there are any."""
        with self.generator.evaluating() as network:
            yield network

    def sample(self, condition: Any, seed: int = 0) -> Tensor:
        """A sample for each row of the condition, determined by the seed."""
        with self.evaluating() as network:
            return generate(
                self.sampler, network, to_device(condition, self.generator.device), seed
            )

    def state(self) -> State:
        """The states of both learners."""
        return {
            "generator": self.generator.state(),
            "discriminator": self.discriminator.state(),
        }

    def load_state(self, state: State, /) -> None:
        """Restores a state; raises like `Learner.load_state`."""
        self.generator.load_state(state["generator"])
        self.discriminator.load_state(state["discriminator"])
