"""Sine waves of random amplitude and phase: regression from ten points.

One task is one wave ``y = A sin(x - p)`` with A in [0.1, 5], p in [0, π] and x in [-5, 5] (Finn et
al. 2017, section 5.1; Zintgraf et al. 2019, section 5.1). The waves form a plane: they are linear
in ``(A cos p, A sin p)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one, check_split

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, math.pi)
RANGE = (-5.0, 5.0)


@dataclass(frozen=True)
class SineTasks:
    """T tasks: support points to adapt to, and query points to evaluate at.

    Attributes:
        support_x: x of the K support points.
        support_y: y of the K support points.
        query_x: x of the Q query points.
        query_y: y of the Q query points.
        amplitude: A of each task.
        phase: p of each task, in radians.
    """

    support_x: Float[Tensor, "T K 1"]
    support_y: Float[Tensor, "T K 1"]
    query_x: Float[Tensor, "T Q 1"]
    query_y: Float[Tensor, "T Q 1"]
    amplitude: Float[Tensor, " T"]
    phase: Float[Tensor, " T"]

    def swapped(self) -> SineTasks:
        """Control: every task has the support points of the task before it in the batch."""
        x, y = self.support_x.roll(1, 0), self.support_y.roll(1, 0)
        return replace(self, support_x=x, support_y=y)

    @property
    def plane(self) -> Float[Tensor, "T 2"]:
        """``(A cos p, A sin p)``, in which the waves are linear."""
        directions = torch.stack((self.phase.cos(), self.phase.sin()), dim=1)
        return self.amplitude[:, None] * directions


@dataclass(frozen=True)
class SineSource:
    """Batches of tasks by index; the tasks never repeat.

    Attributes:
        tasks: T, tasks in a batch.
        shots: K, support points of a task.
        queries: Q, query points of a task.
        seed: of all random numbers, 0 or more.
        split: "train" or "test"; the random streams of both are independent.

    Raises:
        SmallWorldError: a number below 1, a negative seed, or an unknown split.
    """

    tasks: int
    shots: int = 10
    queries: int = 10
    seed: int = 0
    split: Literal["train", "test"] = "train"

    def __post_init__(self) -> None:
        for name in ("tasks", "shots", "queries"):
            at_least_one(getattr(self, name), name)
        seeded_rng(self.seed)
        check_split(self.split)

    def batch(self, index: int, /) -> SineTasks:
        """The batch with this index."""
        rng = seeded_rng(self.seed, int(self.split == "test"), index)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(shape, generator=rng)

        amplitude = uniform(*AMPLITUDES, self.tasks)
        phase = uniform(*PHASES, self.tasks)
        x = uniform(*RANGE, self.tasks, self.shots + self.queries, 1)
        y = amplitude[:, None, None] * torch.sin(x - phase[:, None, None])
        k = self.shots
        return SineTasks(x[:, :k], y[:, :k], x[:, k:], y[:, k:], amplitude, phase)
