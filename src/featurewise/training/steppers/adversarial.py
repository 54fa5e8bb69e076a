"""Two networks that learn against each other. Goodfellow et al. 2014."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, Unpack

import torch
from torch import Tensor, nn

from featurewise.training.batch import to_device
from featurewise.training.state import State
from featurewise.training.steppers.base import Learner, Metrics, Options, Sampler, draw

GanLoss: TypeAlias = Callable[[nn.Module, nn.Module, Any], tuple[Tensor, Metrics]]
"""(generator, discriminator, batch) -> the loss of one of them, and metrics besides the loss."""


class Adversarial:
    """In each step the discriminator descends once, then the generator does.

    Args:
        generator: batch (its noise and condition) -> samples.
        discriminator: batch (its samples and condition) -> what it thinks of them.
        generator_loss: see `GanLoss`; only the generator follows it.
        discriminator_loss: see `GanLoss`; only the discriminator follows it.
        optimizers: of the generator, of the discriminator.
        sampler: see `Sampler`; it is handed the generator.
        options: of both, see `Options`; only the generator's weights are averaged.
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
        ours, theirs = optimizers
        self.generator = Learner(generator, ours, **options)
        options["average"] = None
        self.discriminator = Learner(discriminator, theirs, **options)
        self.generator_loss = generator_loss
        self.discriminator_loss = discriminator_loss
        self.sampler = sampler

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Both, called ``generator`` and ``discriminator``."""
        return {"generator": self.generator.network, "discriminator": self.discriminator.network}

    @property
    def learners(self) -> tuple[Learner, ...]:
        """The generator's, the discriminator's."""
        return self.generator, self.discriminator

    @property
    def steps(self) -> int:
        """Completed steps."""
        return self.generator.steps

    def step(self, batch: Any, /) -> Metrics:
        """One step of each; losses are ``discriminator_loss`` and ``generator_loss``."""
        batch = to_device(batch, self.generator.device)
        theirs = self._descend("discriminator", self.discriminator, self.discriminator_loss, batch)
        ours = self._descend("generator", self.generator, self.generator_loss, batch)
        return {**theirs, **ours, "lr": self.generator.learning_rate}

    def _descend(self, name: str, learner: Learner, contest: GanLoss, batch: Any) -> Metrics:
        """One of them takes a step; the other keeps the gradients of its own."""
        learner.zero_grad()
        with learner.autocast():
            modules = (self.generator.module(), self.discriminator.module())
            loss, metrics = contest(*modules, batch)
        wanted = [p for p in learner.network.parameters() if p.requires_grad]
        loss.backward(inputs=wanted)  # type: ignore[no-untyped-call]
        learner.step()
        return {f"{name}_loss": loss.detach(), **metrics}

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The generator in eval mode, without gradients, with averaged weights if it has any."""
        with self.generator.evaluating() as network:
            yield network

    def sample(self, condition: Any, seed: int = 0) -> Tensor:
        """Samples for each row of the condition; one seed gives one result."""
        with self.evaluating() as network:
            return draw(self.sampler, network, to_device(condition, self.generator.device), seed)

    def state(self) -> State:
        """Both learners'."""
        return {
            "generator": self.generator.state(),
            "discriminator": self.discriminator.state(),
        }

    def load_state(self, state: State, /) -> None:
        """Goes on where `state` was taken; raises as `Learner.load_state`."""
        self.generator.load_state(state["generator"])
        self.discriminator.load_state(state["discriminator"])
