"""Questions about a grid of symbols, by place or by feature: what separates attention from FiLM.

Half of the questions are about a place: "which symbol is here?". The symbols of these grids are
independent, so that other places carry no information about it. The other half are about a symbol,
which is a feature of the grid: "how many places have it?", uniform from 0 to one less than the
number of symbols; the evidence is distributed over the whole grid. Both kinds of question have as
many possible answers as there are symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.small.errors import SmallWorldError

KINDS = ("place", "feature")
"""The two kinds of question, by number."""


@dataclass(frozen=True)
class Places:
    """Grids, each with a question and its answer.

    Attributes:
        grids: one binary map for each of S symbols, 1 where the grid has it.
        cue: the condition, one-hot: which of H·W places (row by row), or after these which of S
            symbols the question is about.
        task: kind of question, index into `KINDS`.
        place: index of the place in question, row by row; 0 for questions about a symbol.
        answers: the symbol at the place, or the number of places with the symbol.
    """

    grids: Float[Tensor, "B S H W"]
    cue: Float[Tensor, "B Z"]
    task: Int64[Tensor, " B"]
    place: Int64[Tensor, " B"]
    answers: Int64[Tensor, " B"]


@dataclass(frozen=True, kw_only=True)
class PlaceSource:
    """Batches in which questions of both kinds alternate.

    Attributes:
        side: height and width of a grid.
        symbols: S, number of symbols, and of possible answers.
        batch_size: questions in a batch, an even number.
        seed: of all random numbers, 0 or more.

    Raises:
        SmallWorldError: a grid with fewer than S - 1 places, or an odd batch size.
    """

    side: int
    symbols: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.symbols < 2 or self.side**2 < self.symbols - 1:
            raise SmallWorldError(
                f"symbols must be from 2 to {self.side**2 + 1} for a grid of {self.side} x "
                f"{self.side}, got {self.symbols}"
            )
        if self.batch_size < 2 or self.batch_size % 2:
            raise SmallWorldError(
                f"batch_size must be even, for both kinds of question, got {self.batch_size}"
            )

    def batch(self, index: int, /) -> Places:
        """The batch with this index."""
        half, places = self.batch_size // 2, self.side**2
        rng = seeded_rng(self.seed, index)
        content = torch.randint(self.symbols, (half, places), generator=rng)
        place = torch.randint(places, (half,), generator=rng)
        symbol = torch.randint(self.symbols, (half,), generator=rng)
        count = torch.randint(self.symbols, (half,), generator=rng)
        counted = self._with(symbol, count, rng)
        zeros = torch.zeros_like(place)
        answers = (content.gather(1, place[:, None])[:, 0], count)
        cue = F.one_hot(_alternate(place, places + symbol), places + self.symbols).float()
        return Places(
            grids=self._maps(_alternate(content, counted)),
            cue=cue,
            task=_alternate(zeros, zeros + 1),
            place=_alternate(place, zeros),
            answers=_alternate(*answers),
        )

    def _with(self, symbol: Tensor, count: Tensor, rng: torch.Generator) -> Tensor:
        """Grids with ``symbol`` at ``count`` random places, and other random symbols elsewhere."""
        shape = (len(symbol), self.side**2)
        others = torch.randint(self.symbols - 1, shape, generator=rng)
        others = others + (others >= symbol[:, None])
        order = torch.rand(shape, generator=rng).argsort(1)
        return torch.where(order < count[:, None], symbol[:, None], others)

    def _maps(self, content: Int64[Tensor, "B L"]) -> Float[Tensor, "B S H W"]:
        maps = F.one_hot(content, self.symbols).float().transpose(1, 2)
        return maps.reshape(len(content), self.symbols, self.side, self.side)


def lifts(attention: Float[Tensor, "B L"], batch: Places) -> dict[str, float]:
    """Attention to the relevant places, divided by that of uniform attention.

    The relevant places are the place in question, or the places with the symbol in question.

    Args:
        attention: weight of each place, row by row. Each row sums to 1; rows of zeros are ignored.
        batch: the questions.

    Returns:
        ``lift_place`` and ``lift_feature``: 1 for uniform attention.
    """
    grids = batch.grids.flatten(2)
    at_place = torch.arange(grids.shape[2], device=grids.device) == batch.place[:, None]
    with_symbol = torch.einsum("bsl,bs->bl", grids, batch.cue[:, grids.shape[2] :])
    relevant = torch.where(batch.task[:, None] == 0, at_place, with_symbol)
    lift = {}
    for i, kind in enumerate(KINDS):
        rows = (batch.task == i) & (attention.sum(1) > 0)
        total = (attention[rows] * relevant[rows]).sum()
        lift[f"lift_{kind}"] = float(total / relevant[rows].mean(1).sum())
    return lift


def _alternate(one: Tensor, other: Tensor) -> Tensor:
    """Rows of both tensors, alternating."""
    return torch.stack((one, other), dim=1).flatten(0, 1)
