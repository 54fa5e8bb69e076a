"""A grid of symbols, asked about by place or by feature: where attention and FiLM part.

Half the questions point at a place: "which symbol lies here?". The symbols of these grids are drawn
independently, so that no other place helps. The other half name a symbol, which is a feature of
the grid: "how many places show it?", from none to one fewer than there are symbols, all equally
often; the answer is spread over the whole grid. Both have as many answers as there are symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featurewise.worlds.small.draws import generator
from featurewise.worlds.small.errors import SmallWorldError

KINDS = ("place", "feature")
"""The two kinds of question, by number."""


@dataclass(frozen=True)
class Places:
    """Grids, each with a question and its answer.

    Attributes:
        grids: one map for each of S symbols, 1 where it lies.
        cue: the question: which of H·W places (row by row), or after these which of S symbols,
            one 1 among zeros.
        task: index into `KINDS`.
        place: the place asked about, row by row; 0 where a symbol is asked about.
        answers: the symbol at the place, or how often the symbol lies in the grid.
    """

    grids: Float[Tensor, "B S H W"]
    cue: Float[Tensor, "B Z"]
    task: Int64[Tensor, " B"]
    place: Int64[Tensor, " B"]
    answers: Int64[Tensor, " B"]


@dataclass(frozen=True, kw_only=True)
class PlaceSource:
    """Batches of both kinds of question in turn.

    Attributes:
        side: height and width of a grid.
        symbols: S, how many there are, and how many answers.
        batch_size: an even number.
        seed: of everything drawn.
        shuffled: as a control, every question has the cue of another of its kind.

    Raises:
        SmallWorldError: a grid too small for S - 1 symbols of a kind, or an odd batch.
    """

    side: int
    symbols: int
    batch_size: int
    seed: int
    shuffled: bool = False

    def __post_init__(self) -> None:
        if self.symbols < 2 or self.side**2 < self.symbols - 1:
            raise SmallWorldError(
                f"a grid of {self.side} x {self.side} takes 2 to {self.side**2 + 1} symbols, "
                f"not {self.symbols}"
            )
        if self.batch_size < 2 or self.batch_size % 2:
            raise SmallWorldError(
                f"batch_size must be even: both kinds in turn, not {self.batch_size}"
            )

    def batch(self, index: int, /) -> Places:
        """The batch of this index: questions about places and about features in turn."""
        half, places = self.batch_size // 2, self.side**2
        draw = generator(self.seed, index)
        content = torch.randint(self.symbols, (half, places), generator=draw)
        place = torch.randint(places, (half,), generator=draw)
        asked = torch.randint(self.symbols, (half,), generator=draw)
        count = torch.randint(self.symbols, (half,), generator=draw)
        counted = self._with(asked, count, draw)
        zeros = torch.zeros_like(place)
        answers = (content.gather(1, place[:, None])[:, 0], count)
        cue = F.one_hot(_in_turn(place, places + asked), places + self.symbols).float()
        return Places(
            grids=self._maps(_in_turn(content, counted)),
            cue=cue.roll(2, 0) if self.shuffled else cue,
            task=_in_turn(zeros, zeros + 1),
            place=_in_turn(place, zeros),
            answers=_in_turn(*answers),
        )

    def _with(self, asked: Tensor, count: Tensor, draw: torch.Generator) -> Tensor:
        """Grids with so many of the symbol asked for, at any places, others elsewhere."""
        shape = (len(asked), self.side**2)
        others = torch.randint(self.symbols - 1, shape, generator=draw)
        others = others + (others >= asked[:, None])
        order = torch.rand(shape, generator=draw).argsort(1)
        return torch.where(order < count[:, None], asked[:, None], others)

    def _maps(self, content: Int64[Tensor, "B L"]) -> Float[Tensor, "B S H W"]:
        maps = F.one_hot(content, self.symbols).float().transpose(1, 2)
        return maps.reshape(len(content), self.symbols, self.side, self.side)


def lifts(looked: Float[Tensor, "B L"], batch: Places) -> dict[str, float]:
    """How many times more than by chance one looks at the places that are asked about.

    Args:
        looked: how much at each place, row by row; rows that sum to one, or are zero and do not
            count.
        batch: the questions: about the place itself, or about the places that show the symbol.

    Returns:
        ``lift_place`` and ``lift_feature``: 1 for looking anywhere.
    """
    grids = batch.grids.flatten(2)
    there = torch.arange(grids.shape[2], device=grids.device) == batch.place[:, None]
    shown = torch.einsum("bsl,bs->bl", grids, batch.cue[:, grids.shape[2] :])
    asked = torch.where(batch.task[:, None] == 0, there, shown)
    lift = {}
    for i, kind in enumerate(KINDS):
        of = (batch.task == i) & (looked.sum(1) > 0)
        lift[f"lift_{kind}"] = float((looked[of] * asked[of]).sum() / asked[of].mean(1).sum())
    return lift


def _in_turn(one: Tensor, other: Tensor) -> Tensor:
    """Rows of one and of the other, one after the other."""
    return torch.stack((one, other), dim=1).flatten(0, 1)
