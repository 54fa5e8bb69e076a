"""``RowMap``: which condition each row of a site's features has, where that is not one to one.

Rows multiply inside networks and around them: beams and sampled sequences, the two halves of a
guidance batch, frames, windows, tokens in one axis. Elsewhere rows are no samples at all: the
tokens that an expert was given, the edges of a graph.
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

#: A row index of all sites, one per pattern of site names, or what gives it at a site.
Rows = Tensor | Mapping[str, Tensor] | Callable[[Site, Tensor], Tensor | None]

REPEATS: Final = ("interleave", "tile")


@dataclass(frozen=True, eq=False)
class RowMap:
    """How B conditions belong to R rows of features.

    Attributes:
        repeat: with R = k * B, "interleave" gives rows 0 to k - 1 the first condition, as
            ``Tensor.repeat_interleave`` and beam search do; "tile" gives the rows all B
            conditions k times in order, as ``Tensor.tile`` and ``cat([x, x])`` do. k may differ
            from site to site.
        index: the row of the condition for each row of the features, ``(R,)`` integers; one for
            all sites, or one per site name, or a function of a site and its features that gives
            it (None: one to one there).
    """

    repeat: str | None = None
    index: Rows | None = None
    _sound: set[tuple[int, int]] = field(default_factory=set)  # indices whose range was checked

    @classmethod
    def of(cls, repeat: str | None, rows: Rows | None, layout: Layout) -> RowMap | None:
        """The map that a call asks for; None where rows and conditions are one to one.

        Raises:
            LayoutError: another word for ``repeat``, both, or a pattern that matches no site or
                a site that another matches too.
            ArgumentTypeError: an index that is none of these, or of another dtype.
            ShapeError: an index that is not ``(R,)``.
        """
        if repeat is None and rows is None:
            return None
        if repeat is not None and rows is not None:
            raise LayoutError("give repeat or rows, not both")
        if repeat is not None and repeat not in REPEATS:
            raise LayoutError(f"repeat must be 'interleave' or 'tile', got {repeat!r}")
        if isinstance(rows, Mapping):
            return cls(None, _by_site(rows, layout))
        if repeat is None and (isinstance(rows, Tensor) or not callable(rows)):
            _check_index(rows, "rows")
        return cls(repeat, rows)

    def expand(self, value: Tensor, site: Site, x: Tensor, rows: int) -> Tensor:
        """Parameters ``(B, ...)`` as ``(R, ...)``.

        Args:
            value: parameters, a row per condition.
            site: where; for the index, and for messages.
            x: the features there.
            rows: R, how many rows they have.

        Raises:
            ShapeError: R is no multiple of B, or an index of another length or out of range.
            ArgumentTypeError: an index of another dtype.
        """
        if self.repeat is not None:
            return repeated(value, self.repeat, rows, f"site '{site.name}'")
        index = self._index_at(site, x)
        if index is None:
            return value
        where = f"site '{site.name}'"
        _check_index(index, where)
        if index.shape[0] != rows:
            raise ShapeError(
                f"{where}: rows has {index.shape[0]} entries, the features have {rows} rows; "
                "rows={pattern of sites: index} gives sites indices of their own"
            )
        self._check_range(index, value.shape[0], where)
        return value.index_select(0, index.to(value.device))

    def expand_condition(self, condition: Any, site: Site, x: Tensor, rows: int) -> Any:
        """The same of what a local generator is given: each of its tensors that has rows."""
        leaves, structure = _torch.tree_flatten(condition)
        expanded = [
            self.expand(leaf, site, x, rows) if isinstance(leaf, Tensor) and leaf.ndim else leaf
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
                f"{where}: rows must lie in [0, {batch}), the conditions that there are; they "
                f"reach from {low} to {high}"
            )
        if not callable(self.index):  # what a function makes may be collected, and its id reused
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


def repeated(value: Tensor, repeat: str, rows: int, where: str) -> Tensor:
    """``(B, ...)`` as ``(R, ...)`` with R = k * B, by "interleave" or "tile".

    Raises:
        ShapeError: if R is no multiple of B.
    """
    batch = value.shape[0]
    if batch == rows:
        return value
    if batch == 0 or rows % batch:
        raise ShapeError(
            f"{where}: the features have {rows} rows, which is no multiple of the {batch} "
            f"conditions; repeat={repeat!r} cannot serve them"
        )
    rest = tuple(value.shape[1:])
    if repeat == "interleave":
        return value.unsqueeze(1).expand(batch, rows // batch, *rest).reshape(rows, *rest)
    return value.unsqueeze(0).expand(rows // batch, batch, *rest).reshape(rows, *rest)


def remedy(rows: int, batch: int) -> str:
    """What to do where a site has R rows of features and there are B conditions."""
    if batch and rows % batch == 0:
        return (
            f"if the rows are {rows // batch} of each sample, say so: repeat='interleave' (beams, "
            "sampled sequences, frames, tokens: the rows of a sample follow each other) or "
            "repeat='tile' (cat([x, x])); else rows=<index of the condition for each row>"
        )
    return "rows=<index of the condition for each row> says which condition each row has"


def _check_index(index: object, where: str) -> None:
    if not isinstance(index, Tensor):
        raise ArgumentTypeError(f"{where} must be a tensor of integers, got {type(index).__name__}")
    if index.dtype not in (torch.int64, torch.int32):
        raise ArgumentTypeError(f"{where} must be int64 or int32, got {index.dtype}")
    if index.ndim != 1:
        raise ShapeError(f"{where} must be (R,), one entry per row, got {shape_of(index)}")
