"""Learning to learn: a batch is several episodes, each a small training set and its test."""

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
    """A second task that some steps are given to instead (Oreshkin et al. 2018, section 2.4).

    Attributes:
        objective: on the same batch, whose auxiliary part it reads.
        probability: completed steps -> probability that a step is given to it, in [0, 1].
    """

    objective: Objective
    probability: Callable[[int], float]

    def takes(self, step: int) -> bool:
        """Whether this step is the second task's; a pure function of the step."""
        drawn = torch.rand((), generator=torch.Generator().manual_seed(step))
        return drawn.item() < self.probability(step)


class Episodic(Supervised):
    """Episodes a few at a time, so that memory is that of a few; the step is that of all.

    The objective sees a batch of episodes (their axis is 0) and returns the mean over them. It
    adapts to the support sets and is judged on the query sets; what it adapts lives in it.

    Args:
        network: see `Supervised`.
        objective: see `Supervised`.
        optimizer: see `Supervised`.
        at_once: how many episodes go through the objective together; None for all.
        auxiliary: a second task; see `Auxiliary`.
        options: see `Options`.

    Raises:
        ExperimentError: `at_once` is below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        at_once: int | None = None,
        auxiliary: Auxiliary | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(network, objective, optimizer, **options)
        if at_once is not None and at_once < 1:
            raise ExperimentError(f"at least 1 episode goes through at once, not {at_once}")
        self.at_once = at_once
        self.auxiliary = auxiliary

    def step(self, batch: Any, /) -> Metrics:
        """One gradient step on the mean over all episodes, or on the second task.

        The metrics are means over episodes; a step of the second task reports its own under the
        names of the first, so that a log has the same columns at each step.
        """
        if self.auxiliary is not None and self.auxiliary.takes(self.steps):
            return self._descend(self.auxiliary.objective, batch, None)
        return self._descend(self.objective, batch, self.at_once)

    def _descend(self, objective: Objective, batch: Any, at_once: int | None) -> Metrics:
        self.learner.zero_grad()
        batch = to_device(batch, self.learner.device)
        episodes = batch_size(batch)
        at_once = at_once or episodes
        total: dict[str, Any] = {}
        for start in range(0, episodes, at_once):
            stop = min(start + at_once, episodes)
            share = (stop - start) / episodes
            part = rows(batch, start, stop) if share < 1 else batch
            with self.learner.autocast():
                loss, metrics = objective(self.learner.module(), part)
            (share * loss).backward()  # type: ignore[no-untyped-call]
            for name, value in {"loss": loss.detach(), **metrics}.items():
                total[name] = total.get(name, 0.0) + share * value
        self.learner.step()
        return {**total, "lr": self.learner.learning_rate}
