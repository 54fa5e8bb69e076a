"""Questions about the signs of x and of a condition z: match, detect, parity, fallback.

They separate additive from multiplicative conditioning. `match`: whether two signs agree is the
sign of a product of x and z, which no sum of a function of x and a function of z can express.
`detect`: whether one of two signs is positive is a threshold on their sum. `parity`: whether the
two features of x that z selects have the same sign is not linear in x even after the selection, so
that selecting them is not enough. `fallback`: in half of the questions x is zero, and the answer is
the sign of z; a sum of x and z has it, and a multiple of x does not.

Dumoulin et al. 2018, *Feature-wise transformations*, Distill, "a closer look at".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one, check_seed
from featurewise.worlds.small.errors import SmallWorldError

TASKS = ("match", "detect", "parity", "fallback")
"""The names of the tasks, as the attributes of `Tasks`."""

SPLITS = ("train", "validation", "test")
"""Streams of questions."""


@dataclass(frozen=True)
class Questions:
    """Questions of one task and their answers.

    Attributes:
        inputs: x, features ``(B, n)``: sign positive or negative with probability 1/2, absolute
            value uniform in 0.5 to 1.5; for ``fallback`` zero in a random half of the questions.
        condition: z, ``(B, n)``: signs and absolute values as of x; for ``parity`` ones at two
            random features, zeros elsewhere.
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
        fallback: is x positive, or where x is zero, z? Half are yes.
    """

    match: Questions
    detect: Questions
    parity: Questions
    fallback: Questions


@dataclass(frozen=True)
class TaskSource:
    """Batches of questions; no question is repeated.

    Attributes:
        seed: 0 or more.
        batch_size: rows in a batch.
        features: features n of x and of z, 2 or more.
        split: "train", "validation" or "test"; the random streams of all are independent.

    Raises:
        SmallWorldError: a number is too small, or an unknown split.
    """

    seed: int
    batch_size: int
    features: int = 8
    split: Literal["train", "validation", "test"] = "train"

    def __post_init__(self) -> None:
        at_least_one(self.batch_size, "batch_size")
        if self.features < 2:
            raise SmallWorldError(f"features must be 2 or more, got {self.features}")
        check_seed(self.seed)
        if self.split not in SPLITS:
            raise SmallWorldError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")

    def batch(self, index: int, /) -> Tasks:
        """The batch with this index, which depends on the seed and on the index only."""
        rng = seeded_rng(self.seed, self.split, index)
        return Tasks(
            match=match(self._signed(rng), self._signed(rng)),
            detect=detect(self._signed(rng), self._signed(rng)),
            parity=parity(self._signed(rng), self._pairs(rng)),
            fallback=fallback(self._signed(rng) * self._half(rng), self._signed(rng)),
        )

    def _signed(self, rng: torch.Generator) -> Tensor:
        """Numbers with a random sign and an absolute value in 0.5 to 1.5."""
        sizes, signs = torch.rand(2, self.batch_size, self.features, generator=rng).unbind()
        return (0.5 + sizes).copysign(signs - 0.5)

    def _half(self, rng: torch.Generator) -> Tensor:
        """1 or 0 for each row, with probability 1/2."""
        return torch.randint(2, (self.batch_size, 1), generator=rng).float()

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


def fallback(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Questions:
    """Whether x is positive, or where x is zero, z; for each feature."""
    return Questions(x, z, torch.where(x == 0, z, x) > 0)
