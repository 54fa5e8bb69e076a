"""``RowMap``: the condition of each row of a site's features, if the two are not one to one.

Networks and the code around them repeat rows: beams and sampled sequences, the two halves of a
guidance batch, frames, windows, tokens merged into the batch axis. Elsewhere rows are not samples
at all: the tokens routed to an expert, the edges of a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from featurewise.core import ArgumentTypeError, Layout, LayoutError, ShapeError, Site, _torch
from featurewise.core.broadcast import shape_of
from featurewise.core.patterns import matching

#: A row index for all sites, one per pattern of site names, or a function that returns it.
Rows = Tensor | Mapping[str, Tensor] | Callable[[Site, Tensor], Tensor | None]

REPEATS: Final = ("interleave", "tile")


@dataclass(frozen=True, eq=False)
class RowMap:
    """How B conditions map to R rows of features.

    Attributes:
        repeat: with R = k * B, "interleave": the first condition for rows 0 to k - 1, as
            ``Tensor.repeat_interleave`` and beam search do; "tile": all B conditions in order, k
            times, as ``Tensor.tile`` and ``cat([x, x])`` do. k may differ from site to site.
        index: index of the condition for each row of the features, ``(R,)`` integers; one for all
            sites, one per site name, or a function of a site and its features that returns it
            (None: one to one at that site).
    """

    repeat: str | None = None
    index: Rows | None = None
    _sound: set[tuple[int, int]] = field(default_factory=set)  # indices whose range was checked

    @classmethod
    def of(cls, repeat: str | None, rows: Rows | None, layout: Layout) -> RowMap | None:
        """The map for the arguments of a call; None if rows and conditions are one to one.

        Raises:
            LayoutError: an unknown ``repeat``, both arguments, a pattern that matches no site, or
                two patterns that match the same site.
            ArgumentTypeError: an index of another type or dtype.
            ShapeError: an index that is not ``(R,)``.
        """
        if repeat is None and rows is None:
            return None
        if repeat is not None and rows is not None:
            raise LayoutError("pass repeat or rows, not both")
        if repeat is not None and repeat not in REPEATS:
            raise LayoutError(f"repeat must be 'interleave' or 'tile', got {repeat!r}")
        if isinstance(rows, Mapping):
            return cls(None, _by_site(rows, layout))
        if repeat is None and (isinstance(rows, Tensor) or not callable(rows)):
            _check_index(rows, "rows")
        return cls(repeat, rows)

    def expand(self, value: Tensor, site: Site, x: Tensor, count: int) -> Tensor:
        """Parameters ``(B, ...)`` as ``(R, ...)``.

        Args:
            value: parameters, one row per condition.
            site: the site; for the index, and for messages.
            x: features of the site.
            count: R, the number of their rows.

        Raises:
            ShapeError: R is not a multiple of B, or an index of another length or out of range.
            ArgumentTypeError: an index of another dtype.
        """
        if self.repeat is not None:
            return repeated(value, self.repeat, count, f"site '{site.name}'")
        index = self._index_at(site, x)
        if index is None:
            return value
        where = f"site '{site.name}'"
        _check_index(index, where)
        if index.shape[0] != count:
            raise ShapeError(
                f"{where}: rows has {index.shape[0]} entries, the features have {count} rows; "
                "rows={pattern of sites: index} sets one index per site"
            )
        self._check_range(index, value.shape[0], where)
        return value.index_select(0, index.to(value.device))

    def expand_condition(self, condition: Any, site: Site, x: Tensor, count: int) -> Any:
        """``expand`` for each tensor with rows in the condition of a local generator."""
        leaves, structure = _torch.tree_flatten(condition)
        expanded = [
            self.expand(leaf, site, x, count) if isinstance(leaf, Tensor) and leaf.ndim else leaf
            for leaf in leaves
        ]
        return _torch.tree_unflatten(expanded, structure)

    def _index_at(self, site: Site, x: Tensor) -> Tensor | None:
        if isinstance(self.index, Tensor) or self.index is None:
            return self.index
        if isinstance(self.index, Mapping):
            return self.index.get(site.name)
        return self.index(site, x)

    def _check_range(self, index: Tensor, batch: int, where: str) -> None:
        key = id(index), batch
        if torch.compiler.is_compiling() or key in self._sound or not _torch.has_values(index):
            return
        low, high = (int(index.min()), int(index.max())) if index.numel() else (0, 0)
        if low < 0 or high >= batch:
            raise ShapeError(
                f"{where}: rows must be in [0, {batch}), the range of conditions; they are in "
                f"[{low}, {high}]"
            )
        if not callable(self.index):  # the result of a function may be collected, and its id reused
            self._sound.add(key)


def _by_site(rows: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for pattern, index in rows.items():
        _check_index(index, f"rows[{pattern!r}]")
        for name in matching(pattern, layout.names):
            if name in found:
                raise LayoutError(f"site '{name}' is matched by several patterns of rows")
            found[name] = index
    return found


def repeated(value: Tensor, repeat: str, count: int, where: str) -> Tensor:
    """``(B, ...)`` as ``(R, ...)`` with R = k * B, by "interleave" or "tile".

    Raises:
        ShapeError: if R is not a multiple of B.
    """
    batch = value.shape[0]
    if batch == count:
        return value
    if batch == 0 or count % batch:
        raise ShapeError(
            f"{where}: the features have {count} rows, which is not a multiple of the {batch} "
            f"conditions, as repeat={repeat!r} requires"
        )
    rest = tuple(value.shape[1:])
    if repeat == "interleave":
        return value.unsqueeze(1).expand(batch, count // batch, *rest).reshape(count, *rest)
    return value.unsqueeze(0).expand(count // batch, batch, *rest).reshape(count, *rest)


def remedy(count: int, batch: int) -> str:
    """Advice for a site with R rows of features and B conditions."""
    if batch and count % batch == 0:
        return (
            f"if there are {count // batch} rows per sample, pass repeat='interleave' (beams, "
            "sampled sequences, frames, tokens: the rows of a sample are adjacent) or "
            "repeat='tile' (cat([x, x])); else rows=<index of the condition for each row>"
        )
    return "pass rows=<index of the condition for each row>"


def _check_index(index: object, where: str) -> None:
    if not isinstance(index, Tensor):
        raise ArgumentTypeError(f"{where} must be a tensor of integers, got {type(index).__name__}")
    if index.dtype not in (torch.int64, torch.int32):
        raise ArgumentTypeError(f"{where} must be int64 or int32, got {index.dtype}")
    if index.ndim != 1:
        raise ShapeError(f"{where} must be (R,), one entry per row, got {shape_of(index)}")
