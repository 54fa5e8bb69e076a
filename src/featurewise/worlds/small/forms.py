"""Answers of two known functions of features and a condition: a FiLM, and a bilinear form.

``(z G) ⊙ x + z H`` and ``y_k = xᵀ W_k z``, with G, H and W drawn at random, once. Of each there is
a small set of rows that are seen again and again, and fresh rows without end. What a class of
functions can learn, and from how much, can only be told when the function is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.worlds.small.draws import at_least_one, generator

CELLS = ("film_few", "film_many", "bilinear_few", "bilinear_many")
"""Which function, and whether its rows are of the small set or fresh."""


@dataclass(frozen=True)
class Pairs:
    """Features, conditions and answers, for each of the `CELLS`."""

    x: Float[Tensor, "B 4 C"]
    z: Float[Tensor, "B 4 Z"]
    y: Float[Tensor, "B 4 C"]


@dataclass(frozen=True, kw_only=True)
class FormSource:
    """Batches of all four cells.

    Attributes:
        width: C, features of x and of y.
        condition: Z, width of z.
        few: rows of the small sets.
        batch_size: rows of a batch, drawn by lot from the small sets.
        noise: standard deviation of what is added to the answers; they themselves have mean 0
            and, over all functions that may be drawn, variance 1.
        seed: of rows and noise; the functions are the same for all.
        shuffled: as a control, every row gets the z of another.

    Raises:
        SmallWorldError: a size below 1.
    """

    width: int
    condition: int
    few: int
    batch_size: int
    noise: float
    seed: int
    shuffled: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "condition", "few", "batch_size"):
            at_least_one(getattr(self, name), name)

    def batch(self, index: int, /) -> Pairs:
        """The batch of this index."""
        draw = generator(self.seed, 1, index)
        chosen = torch.randint(self.few, (self.batch_size,), generator=draw)
        few = self._answered(self.few, self.noise, generator(self.seed, 0))
        many = self._answered(self.batch_size, self.noise, draw)
        pairs = zip(few, many, strict=True)
        x, z, y = (torch.stack((a[chosen], b), dim=2).flatten(1, 2) for a, b in pairs)
        return self._told(x, z, y)

    def exact(self, rows: int) -> Pairs:
        """Fresh rows in all cells, answered without noise."""
        found = self._answered(rows, 0.0, generator(self.seed, 2))
        x, z, y = (part.repeat_interleave(2, dim=1) for part in found)
        return self._told(x, z, y)

    def _told(self, x: Tensor, z: Tensor, y: Tensor) -> Pairs:
        return Pairs(x, z.roll(1, 0) if self.shuffled else z, y)

    def _answered(
        self, rows: int, noise: float, draw: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x, z and answers, (rows, 2, ...): of the FiLM, then of the bilinear form."""
        x = torch.randn(rows, 2, self.width, generator=draw)
        z = torch.randn(rows, 2, self.condition, generator=draw)
        scale, shift, weight = functions(self.width, self.condition)
        film = x[:, 0] * (z[:, 0] @ scale) + z[:, 0] @ shift
        form = torch.einsum("bi,kij,bj->bk", x[:, 1], weight, z[:, 1])
        truth = torch.stack((film, form), dim=1)
        return x, z, truth + noise * torch.randn(x.shape, generator=draw)


@lru_cache(maxsize=8)
def functions(width: int, condition: int) -> tuple[Tensor, Tensor, Tensor]:
    """G and H, (Z, C) each, and W, (C, C, Z)."""
    draw = generator(0, 3, width, condition)
    maps = torch.randn(2, condition, width, generator=draw) / (2 * condition) ** 0.5
    weight = torch.randn(width, width, condition, generator=draw)
    return maps[0], maps[1], weight / (width * condition) ** 0.5
