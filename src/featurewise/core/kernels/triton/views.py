"""How features lie in memory, as the kernels see them, and the tiles in which they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from featurewise.core.broadcast import positions

TILE: Final = 4096
"""Numbers of a tile where each is read and written once."""

SUM_TILE: Final = 2048
"""Numbers of a tile where sums are kept beside it."""

LARGEST_GROUP: Final = 16384
"""Numbers of the largest tile of a whole group (64 kB in registers)."""

MOST_FEATURES: Final = 8192
"""The same where features are normalised at each position; twice as many leave the registers."""

WIDE: Final = 1024
"""Most numbers side by side in a tile."""

NARROW: Final = 128
"""The same where sums are kept for all of them."""

PROGRAMS: Final = 1024
"""Sums are split until there are so many programs: eight for each processor of a large GPU."""

STEPS: Final = 4
"""A program that keeps sums reads so many tiles at least: its sums are small beside them."""

MOST_STEPS: Final = 256
"""And so many at most: sums of sums are added in pairs."""

SIDE_BY_SIDE: Final = 16
"""Positions of a tile at least, where features at each position are not side by side."""

SECTOR: Final = 32
"""Bytes that a GPU reads at least."""


@dataclass(frozen=True)
class View:
    """Features as ``(samples, kept, reduced)``; see `code`.

    Attributes:
        samples: number of samples, or of groups of all samples.
        kept: number of γ of a sample.
        reduced: how many numbers share a γ in a sample.
        groups: of a sample.
        stride_b: numbers from one sample to the next.
        stride_g: numbers from one group to the next.
        stride: numbers from one of ``kept`` to the next if ``rows``, else one of ``reduced``.
        rows: whether ``reduced`` lies side by side, rather than ``kept``.
    """

    samples: int
    kept: int
    reduced: int
    groups: int
    stride_b: int
    stride_g: int
    stride: int
    rows: bool

    @property
    def numbers(self) -> tuple[int, ...]:
        """What the kernels take."""
        return self.kept, self.reduced, self.groups, self.stride_b, self.stride_g, self.stride

    def flags(self, tile: tuple[int, int]) -> dict[str, int | bool]:
        """What the kernels are compiled for, and the number of warps."""
        side_by_side = self.reduced if self.rows else self.kept
        align = math.gcd(16, side_by_side, self.stride, self.stride_b, self.stride_g)
        bk, bj = tile
        warps = min(max(bk * bj // 512, 1), 16)
        return {"ROWS": self.rows, "ALIGN": align, "BK": bk, "BJ": bj, "num_warps": warps}

    def tile(self, numbers: int, widest: int = WIDE) -> tuple[int, int]:
        """A tile ``(BK, BJ)`` of ``numbers`` numbers at most, ``widest`` side by side."""
        inner, outer = (self.reduced, self.kept) if self.rows else (self.kept, self.reduced)
        wide = min(_power_of_two(inner), widest)
        high = min(_power_of_two(outer), max(1, numbers // wide))
        return (high, wide) if self.rows else (wide, high)

    def norm_tile(self, norm: str, numbers: int) -> tuple[int, int] | None:
        """A tile with all that is normalised together; None if it is too large."""
        bk, bj = _power_of_two(self.kept), _power_of_two(self.reduced)
        if norm == "group":
            return (bk, bj) if bk * bj <= LARGEST_GROUP else None
        least = SIDE_BY_SIDE if self.rows else 1
        bj = min(bj, max(least, numbers // bk))
        return (bk, bj) if bk * bj <= MOST_FEATURES else None

    def split(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Into how many chunks ``reduced`` is split, and the tiles of each."""
        blocks = -(-self.reduced // tile[1])
        programs = self.samples * -(-self.kept // tile[0])
        wanted = min(-(-PROGRAMS // programs), -(-blocks // STEPS))
        steps = -(-blocks // max(wanted, -(-blocks // MOST_STEPS), 1))
        return -(-blocks // steps), steps


def film_view(x: Tensor, gamma: Tensor, axis: int) -> View | None:
    """The view of features and one γ for each of them.

    Args:
        x: features, samples on axis 0.
        gamma: ``(C,)``, ``(B, C)`` or ``(B, C, *positions)``.
        axis: feature axis.

    Returns:
        None where features lie in another order, or γ is repeated over positions.
    """
    innermost = is_innermost(x, axis)
    if not innermost and not (axis == 1 and x.is_contiguous()):
        return None
    batch, width = x.shape[0], x.shape[axis]
    each = x.numel() // (batch * width)
    if gamma.ndim > 2:  # one γ for each number
        full = gamma.shape[2:] == positions(x, axis, 0)
        return View(1, x.numel(), 1, 1, 0, 0, x.numel(), False) if full else None
    if not innermost:
        return View(1, batch * width, each, 1, 0, 0, each, True)
    if gamma.ndim == 1:
        return View(1, width, batch * each, 1, 0, 0, width, False)
    return View(batch, width, each, 1, width * each, 0, width, False)


def norm_view(x: Tensor, gamma: Tensor, norm: str, axis: int, groups: int) -> View | None:
    """The view of features that are normalised over ``kept``, or of the groups of all samples.

    Args:
        x: features, samples on axis 0.
        gamma: ``(C,)`` or ``(B, C)``.
        norm: "layer", "rms" or "group".
        axis: feature axis.
        groups: of a group norm, a divisor of C.
    """
    film = film_view(x, gamma, axis)
    if film is None or gamma.ndim > 2:
        return None
    batch, width = x.shape[0], x.shape[axis]
    each = x.numel() // (batch * width)
    if norm == "group":
        own = width // groups
        if film.rows:
            return View(batch * groups, own, each, groups, width * each, own * each, each, True)
        return View(batch * groups, own, each, groups, width * each, own, width, False)
    return View(batch, width, each, 1, width * each, 0, each, True) if film.rows else film


def is_innermost(x: Tensor, axis: int) -> bool:
    """Whether features lie along the innermost axis of dense memory, behind the samples."""
    return x.ndim > 1 and axis > 0 and torch.movedim(x, axis, -1).is_contiguous()


def flat(parameter: Tensor, x: Tensor, axis: int, view: View) -> Tensor:
    """γ or β of every sample of a view, side by side: ``(samples * kept,)``."""
    if parameter.ndim == 1:
        return parameter.expand(view.samples * view.kept // len(parameter), -1).reshape(-1)
    if parameter.ndim > 2 and is_innermost(x, axis):
        parameter = torch.movedim(parameter, 1, -1)
    return parameter.reshape(-1)


def unflat(sums: Tensor, parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """The gradient by γ or β, from that by what `flat` made of it."""
    if parameter.ndim == 1:
        return sums.view(-1, len(parameter)).sum(0)
    if parameter.ndim > 2 and is_innermost(x, axis):
        lifted = torch.movedim(parameter, 1, -1).shape
        return torch.movedim(sums.view(lifted), -1, 1)
    return sums.view(parameter.shape)


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
