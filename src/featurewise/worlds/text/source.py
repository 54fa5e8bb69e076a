"""Batches of text: windows of tokens, each with the token that follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.worlds.text.errors import TextError


@dataclass(frozen=True)
class TextBatch:
    """Windows of a text.

    Attributes:
        tokens: numbers of tokens.
        targets: the token after each of them.
    """

    tokens: Int64[Tensor, "B T"]
    targets: Int64[Tensor, "B T"]


@dataclass(frozen=True)
class TextSource:
    """Windows at random places of a text.

    Attributes:
        text: numbers of tokens, one after another.
        seed: of the places, 0 or more.
        batch_size: windows in a batch.
        window: tokens in a window.

    Raises:
        TextError: a number is too small, or the text is shorter than a window and its targets.
    """

    text: Int64[Tensor, " N"]
    seed: int
    batch_size: int
    window: int

    def __post_init__(self) -> None:
        if min(self.batch_size, self.window) < 1 or self.seed < 0:
            raise TextError(
                f"batch_size and window must be 1 or more and seed 0 or more, got "
                f"{self.batch_size}, {self.window} and {self.seed}"
            )
        if len(self.text) <= self.window:
            raise TextError(
                f"a text of {len(self.text)} tokens has no window of {self.window} and a target"
            )

    def batch(self, index: int, /) -> TextBatch:
        """The batch with this index, which depends on the seed and on the index only."""
        last = len(self.text) - self.window
        rng = seeded_rng(self.seed, "windows", index)
        places = torch.randint(last, (self.batch_size,), generator=rng)
        rows = self.text[places[:, None] + torch.arange(self.window + 1)]
        return TextBatch(rows[:, :-1], rows[:, 1:])


def evaluation_windows(
    text: Int64[Tensor, " N"], window: int, context: int
) -> tuple[TextBatch, Int64[Tensor, " W"]]:
    """All of a text in overlapping windows, so that each token but the first is a target once.

    Args:
        text: numbers of tokens.
        window: tokens in a window.
        context: so many targets at the beginning of each window but the first are not counted, as
            the window before has them: each counted one has at least as many tokens before it.

    Returns:
        The windows; and for each the number of its last targets that count, 0 or more.

    Raises:
        TextError: not ``0 <= context < window``, or the text is too short.
    """
    if not 0 <= context < window or len(text) <= window:
        raise TextError(
            f"context must be from 0 to window - 1 and the text longer than a window, got "
            f"{context}, {window} and {len(text)} tokens"
        )
    last = len(text) - window - 1
    starts = torch.tensor([*range(0, last, window - context), last])
    rows = text[starts[:, None] + torch.arange(window + 1)]
    counted = torch.cat((torch.tensor([window]), starts.diff()))
    return TextBatch(rows[:, :-1], rows[:, 1:]), counted
