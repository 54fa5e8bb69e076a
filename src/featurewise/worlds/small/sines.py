"""Sine waves of random amplitude and phase: regression from ten points.

One task is one wave ``y = A sin(x - p)`` with A in [0.1, 5], p in [0, π] and x in [-5, 5] (Finn et
al. 2017, section 5.1; Zintgraf et al. 2019, section 5.1). The waves form a plane: they are linear
in ``(A cos p, A sin p)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.worlds.small.draws import at_least_one, generator

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, math.pi)
RANGE = (-5.0, 5.0)


@dataclass(frozen=True)
class SineTasks:
    """Tasks, one a row: points to fit, and points to be right at.

    Attributes:
        support_x: where K points are given.
        support_y: their heights.
        query_x: where Q others are asked for.
        query_y: their heights.
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
        """Every task given the support points of another: of the one before it."""
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
        shots: K, given points of a task.
        queries: Q, asked points of a task.
        seed: of all that is drawn, at least 0.
        held_out: draw from a stream of its own, which no training source shares.

    Raises:
        SmallWorldError: a number below 1, or a negative seed.
    """

    tasks: int
    shots: int = 10
    queries: int = 10
    seed: int = 0
    held_out: bool = False

    def __post_init__(self) -> None:
        for name in ("tasks", "shots", "queries"):
            at_least_one(getattr(self, name), name)
        generator(self.seed)

    def batch(self, index: int, /) -> SineTasks:
        """The tasks of this index."""
        random = generator(self.seed, int(self.held_out), index)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(shape, generator=random)

        amplitude = uniform(*AMPLITUDES, self.tasks)
        phase = uniform(*PHASES, self.tasks)
        x = uniform(*RANGE, self.tasks, self.shots + self.queries, 1)
        y = amplitude[:, None, None] * torch.sin(x - phase[:, None, None])
        k = self.shots
        return SineTasks(x[:, :k], y[:, :k], x[:, k:], y[:, k:], amplitude, phase)
