"""Regression on two known functions of features x and a condition z: FiLM, and a bilinear form.

``y = (z G) ⊙ x + z H`` and ``y_k = xᵀ W_k z``, where G, H and W are sampled once. W is of rank r: a
sum of r products of a linear function of x, one of z, and a direction of y. There are two training
sets of each function: a small set of examples that is reused, and new examples in every batch. As
the functions are known, errors can be measured exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.checks import at_least_one

CELLS = ("film_few", "film_many", "bilinear_few", "bilinear_many")
"""Which function, and whether its examples are of the small set or new in every batch."""


@dataclass(frozen=True)
class Pairs:
    """Examples of each of the `CELLS`.

    Attributes:
        x: inputs, standard normal.
        z: condition, standard normal.
        y: targets, the value of the function plus noise.
    """

    x: Float[Tensor, "B 4 C"]
    z: Float[Tensor, "B 4 Z"]
    y: Float[Tensor, "B 4 C"]


@dataclass(frozen=True, kw_only=True)
class FormSource:
    """Batches of all four cells.

    Attributes:
        width: C, features of x and of y.
        condition: Z, features of z.
        rank: r, of the bilinear form.
        few: number of examples in each small set.
        batch_size: examples in a batch, of each cell; those of the small sets are sampled with
            replacement.
        noise: standard deviation of the Gaussian noise on the targets. Without noise, targets have
            mean 0 and, over the distribution of the functions, variance 1.
        seed: of examples and noise; the functions are the same for all seeds.

    Raises:
        SmallWorldError: a size below 1.
    """

    width: int
    condition: int
    rank: int
    few: int
    batch_size: int
    noise: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("width", "condition", "rank", "few", "batch_size"):
            at_least_one(getattr(self, name), name)

    def batch(self, index: int, /) -> Pairs:
        """The batch with this index."""
        rng = seeded_rng(self.seed, "new", index)
        chosen = torch.randint(self.few, (self.batch_size,), generator=rng)
        few = self._examples(self.few, self.noise, seeded_rng(self.seed, "few"))
        many = self._examples(self.batch_size, self.noise, rng)
        pairs = zip(few, many, strict=True)
        x, z, y = (torch.stack((a[chosen], b), dim=2).flatten(1, 2) for a, b in pairs)
        return Pairs(x, z, y)

    def exact(self, batch_size: int, split: str = "test") -> Pairs:
        """Examples in all cells that no batch contains, with targets without noise.

        Args:
            batch_size: number of examples.
            split: "validation" or "test"; the random streams of both are independent.
        """
        parts = self._examples(batch_size, 0.0, seeded_rng(self.seed, split))
        x, z, y = (part.repeat_interleave(2, dim=1) for part in parts)
        return Pairs(x, z, y)

    def _examples(
        self, count: int, noise: float, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x, z and y, (count, 2, ...): of the FiLM, then of the bilinear form."""
        x = torch.randn(count, 2, self.width, generator=rng)
        z = torch.randn(count, 2, self.condition, generator=rng)
        scale, shift, weight = functions(self.width, self.condition, self.rank)
        film = x[:, 0] * (z[:, 0] @ scale) + z[:, 0] @ shift
        form = torch.einsum("bi,kij,bj->bk", x[:, 1], weight, z[:, 1])
        exact = torch.stack((film, form), dim=1)
        return x, z, exact + noise * torch.randn(x.shape, generator=rng)


@lru_cache(maxsize=8)
def functions(width: int, condition: int, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The weights of both functions: G and H, (Z, C) each, and W, (C, C, Z)."""
    rng = seeded_rng(0, "functions", width, condition, rank)
    maps = torch.randn(2, condition, width, generator=rng) / (2 * condition) ** 0.5
    of_x, of_y = torch.randn(2, rank, width, generator=rng)
    of_z = torch.randn(rank, condition, generator=rng)
    weight = torch.einsum("rk,ri,rj->kij", of_y, of_x, of_z)
    return maps[0], maps[1], weight / (rank * width * condition) ** 0.5
