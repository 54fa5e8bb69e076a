"""Questions about the signs of x and of a condition z: match, detect, parity.

They separate additive from multiplicative conditioning. `match`: whether two signs agree is the
sign of a product of x and z, which no sum of a function of x and a function of z can express.
`detect`: whether one of two signs is positive is a threshold on their sum. `parity`: whether the
two features of x that z selects have the same sign is not linear in x even after the selection, so
that selecting them is not enough.

Dumoulin et al. 2018, *Feature-wise transformations*, Distill, "a closer look at".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one, check_seed
from featurewise.worlds.small.errors import SmallWorldError

TASKS = ("match", "detect", "parity")
"""The names of the tasks, as the attributes of `Tasks`."""


@dataclass(frozen=True)
class Questions:
    """Questions of one task and their answers.

    Attributes:
        inputs: x, features ``(B, n)``: sign positive or negative with probability 1/2, absolute
            value uniform in 0.5 to 1.5.
        condition: z, ``(B, n)``: distributed like x for ``match`` and ``detect``; for ``parity``
            ones at two random features, zeros elsewhere.
        labels: the answers, true for yes: ``(B, n)`` one for each feature, for ``parity``
            ``(B, 1)``.
    """

    inputs: Float[Tensor, "B n"]
    condition: Float[Tensor, "B n"]
    labels: Bool[Tensor, "B k"]


@dataclass(frozen=True)
class Tasks:
    """A batch: each row has one question of each task.

    Attributes:
        match: do x and z have the same sign? Half of the answers are yes.
        detect: is x or z positive, or both? Three quarters are yes.
        parity: do the two features of x that z selects have the same sign? Half are yes.
    """

    match: Questions
    detect: Questions
    parity: Questions


@dataclass(frozen=True)
class TaskSource:
    """Batches of questions; no question is repeated.

    Attributes:
        seed: 0 or more.
        batch_size: rows in a batch.
        features: features n of x and of z, 2 or more.

    Raises:
        SmallWorldError: a number is too small.
    """

    seed: int
    batch_size: int
    features: int = 8

    def __post_init__(self) -> None:
        at_least_one(self.batch_size, "batch_size")
        if self.features < 2:
            raise SmallWorldError(f"features must be 2 or more, got {self.features}")
        check_seed(self.seed)

    def batch(self, index: int, /) -> Tasks:
        """The batch with this index, which depends on the seed and on the index only."""
        rng = seeded_rng(self.seed, index)
        return Tasks(
            match=match(self._signed(rng), self._signed(rng)),
            detect=detect(self._signed(rng), self._signed(rng)),
            parity=parity(self._signed(rng), self._pairs(rng)),
        )

    def _signed(self, rng: torch.Generator) -> Tensor:
        """Numbers with a random sign and an absolute value in 0.5 to 1.5."""
        sizes, signs = torch.rand(2, self.batch_size, self.features, generator=rng).unbind()
        return (0.5 + sizes).copysign(signs - 0.5)

    def _pairs(self, rng: torch.Generator) -> Tensor:
        """Ones at two random features of each row, zeros elsewhere."""
        two = torch.rand(self.batch_size, self.features, generator=rng).topk(2).indices
        return torch.zeros(self.batch_size, self.features).scatter(1, two, 1.0)


def match(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Questions:
    """Whether x and z have the same sign, for each feature."""
    return Questions(x, z, (x > 0) == (z > 0))


def detect(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Questions:
    """Whether x or z is positive, for each feature."""
    return Questions(x, z, (x > 0) | (z > 0))


def parity(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Questions:
    """Whether an even number of the features where z is one is negative."""
    negative = ((x < 0) & (z > 0)).sum(1, keepdim=True)
    return Questions(x, z, negative % 2 == 0)
