"""Questions about features of x and of a condition z: match, detect-in-either, parity.

They tell additive from multiplicative conditioning. Whether two signs agree (`match`) is the sign
of a product of x and z, which no sum of a function of x and a function of z has. Whether one of
two signs is positive (`detect`) is a threshold on their sum. `parity` asks whether the two features
of x that z points at have one sign: once z has selected them it is still not linear in x, so that
selecting is not enough.

Dumoulin et al. 2018, *Feature-wise transformations*, Distill, "a closer look at".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featurewise.worlds.small.draws import at_least_one, generator
from featurewise.worlds.small.errors import SmallWorldError

TASKS = ("match", "detect", "parity")
"""The names of the tasks, as the attributes of `Tasks`."""


@dataclass(frozen=True)
class Asked:
    """Questions of one task and their answers.

    Attributes:
        x: features ``(B, n)``; the sign of each is fair, its size uniform in 0.5 to 1.5.
        z: the condition ``(B, n)``: drawn like x for ``match`` and ``detect``; for ``parity`` a
            one at each of two features, zeros elsewhere.
        answers: ``(B, n)`` a yes or no for each feature, for ``parity`` ``(B, 1)``.
    """

    x: Float[Tensor, "B n"]
    z: Float[Tensor, "B n"]
    answers: Bool[Tensor, "B k"]


@dataclass(frozen=True)
class Tasks:
    """A batch: one question of each task a row.

    Attributes:
        match: do x and z have the same sign? Half of the answers are yes.
        detect: is x or z positive, or both? Three quarters are yes.
        parity: do the two features of x that z points at have the same sign? Half are yes.
    """

    match: Asked
    detect: Asked
    parity: Asked


@dataclass(frozen=True)
class TaskSource:
    """Batches of fresh questions.

    Attributes:
        seed: not negative.
        batch_size: rows of a batch.
        features: features n of x and of z, at least 2.
        shuffled: control: every question has the z of another row, and its own answers.

    Raises:
        SmallWorldError: a number is too small; a batch that is shuffled has at least 2 rows.
    """

    seed: int
    batch_size: int
    features: int = 8
    shuffled: bool = False

    def __post_init__(self) -> None:
        at_least_one(self.batch_size, "batch_size")
        if self.shuffled and self.batch_size < 2:
            raise SmallWorldError("a batch of 1 row cannot be shuffled; batch_size must be 2")
        if self.features < 2:
            raise SmallWorldError(f"features must be at least 2, got {self.features}")
        generator(self.seed)

    def batch(self, index: int, /) -> Tasks:
        """The batch of this index, which depends on the seed and on the index alone."""
        draws = generator(self.seed, index)
        return Tasks(
            match=self._dealt(match(self._signed(draws), self._signed(draws))),
            detect=self._dealt(detect(self._signed(draws), self._signed(draws))),
            parity=self._dealt(parity(self._signed(draws), self._pointers(draws))),
        )

    def _dealt(self, asked: Asked) -> Asked:
        return replace(asked, z=asked.z.roll(1, 0)) if self.shuffled else asked

    def _signed(self, draws: torch.Generator) -> Tensor:
        sizes, signs = torch.rand(2, self.batch_size, self.features, generator=draws).unbind()
        return (0.5 + sizes).copysign(signs - 0.5)

    def _pointers(self, draws: torch.Generator) -> Tensor:
        two = torch.rand(self.batch_size, self.features, generator=draws).topk(2).indices
        return torch.zeros(self.batch_size, self.features).scatter(1, two, 1.0)


def match(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Asked:
    """Whether x and z have the same sign, feature by feature."""
    return Asked(x, z, (x > 0) == (z > 0))


def detect(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Asked:
    """Whether x or z is positive, feature by feature."""
    return Asked(x, z, (x > 0) | (z > 0))


def parity(x: Float[Tensor, "B n"], z: Float[Tensor, "B n"]) -> Asked:
    """Whether an even number of the features where z is one is negative."""
    negative = ((x < 0) & (z > 0)).sum(1, keepdim=True)
    return Asked(x, z, negative % 2 == 0)
