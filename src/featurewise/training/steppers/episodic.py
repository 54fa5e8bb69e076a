"""Episodic training (meta-learning): a batch of episodes, each a support set and a query set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import nn

from featurewise.training.batch import batch_size, rows, to_device
from featurewise.training.errors import ExperimentError
from featurewise.training.steppers.base import Metrics, Objective, Options
from featurewise.training.steppers.supervised import Supervised


@dataclass(frozen=True, slots=True)
class Auxiliary:
    """Auxiliary task co-training (Oreshkin et al. 2018, section 2.4): some steps train on it.

    Attributes:
        objective: loss of the auxiliary task on its part of the same batch.
        probability: completed steps -> probability of an auxiliary step, in [0, 1].
    """

    objective: Objective
    probability: Callable[[int], float]

    def applies(self, step: int) -> bool:
        """Whether this step trains on the auxiliary task; a pure function of the step."""
        uniform = torch.rand((), generator=torch.Generator().manual_seed(step))
        return uniform.item() < self.probability(step)


class Episodic(Supervised):
    """Gradient steps on the mean loss over episodes, optionally accumulated to limit memory.

    The objective gets a batch of episodes (axis 0) and returns the mean over them: it adapts to
    the support sets and computes the loss on the query sets.

    Args:
        network: see `Supervised`.
        objective: see `Supervised`.
        optimizer: see `Supervised`.
        chunk_size: number of episodes per forward and backward pass, whose gradients are
            accumulated; default: None, all episodes of the batch.
        auxiliary: an auxiliary task; see `Auxiliary`.
        options: see `Options`.

    Raises:
        ExperimentError: `chunk_size` is below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        chunk_size: int | None = None,
        auxiliary: Auxiliary | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(network, objective, optimizer, **options)
        if chunk_size is not None and chunk_size < 1:
            raise ExperimentError(f"chunk_size must be at least 1, not {chunk_size}")
        self.chunk_size = chunk_size
        self.auxiliary = auxiliary

    def step(self, batch: Any, /) -> Metrics:
        """One gradient step on the mean over all episodes, or on the auxiliary task.

        The metrics are means over episodes. The auxiliary objective must return metrics of the same
        names as the main one, so that the log has the same columns in each step.
        """
        if self.auxiliary is not None and self.auxiliary.applies(self.steps):
            return self._update(self.auxiliary.objective, batch, None)
        return self._update(self.objective, batch, self.chunk_size)

    def _update(self, objective: Objective, batch: Any, chunk_size: int | None) -> Metrics:
        self.learner.zero_grad()
        batch = to_device(batch, self.learner.device)
        episodes = batch_size(batch)
        chunk_size = chunk_size or episodes
        total: dict[str, Any] = {}
        for start in range(0, episodes, chunk_size):
            stop = min(start + chunk_size, episodes)
            fraction = (stop - start) / episodes
            chunk = rows(batch, start, stop) if fraction < 1 else batch
            with self.learner.autocast():
                loss, metrics = objective(self.learner.module(), chunk)
            (fraction * loss).backward()  # type: ignore[no-untyped-call]
            for name, value in {"loss": loss.detach(), **metrics}.items():
                total[name] = total.get(name, 0.0) + fraction * value
        self.learner.step()
        return {**total, "lr": self.learner.learning_rate}
