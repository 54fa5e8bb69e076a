"""Scales and shifts of all sites of a network, computed together in a few operations.

Separately, each site needs two slices and an addition. A ``Plan`` does one addition (of the offsets
that turn every Δγ into γ) and one split for the whole network; each site then only modulates.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from featurewise.core import _torch
from featurewise.core.kernels import cast, compute_dtype
from featurewise.core.numbers import FLOATS
from featurewise.core.operation import Affine, Diagonal, Operation, Scale, Shift
from featurewise.core.site import Layout, Site

#: Scale and shift of a site, ``(C,)`` or ``(B, C)``; None for no scale or no shift.
Pair = tuple[Tensor | None, Tensor | None]

_PLAIN = (Tensor, nn.Parameter)


class Plan:
    """Computes the scale and the shift of each site from a flat vector of a layout.

    Args:
        layout: the sites.
    """

    # Compiled code guards every value that it reads here: lists of numbers and strings only.
    def __init__(self, layout: Layout) -> None:
        self._sizes = [math.prod(p.shape) for s in layout for p in s.parameters.values()]
        self._kinds = [_kind(site) for site in layout]
        self._names = [list(site.parameters) for site in layout]
        self._alike = all(kind == "affine" for kind in self._kinds)
        self._diagonal = [_diagonal(site) for site in layout]
        self._offsets = [o for site in layout for o in _offsets(site)]
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._alike = all(kind == "affine" for kind in self._kinds)  # absent from older states

    def pairs(self, flat: Tensor) -> tuple[Pair | None, ...] | None:
        """Scale and shift of every site in order.

        Args:
            flat: raw parameters ``(N,)`` or ``(B, N)``, checked against the layout.

        Returns:
            For each site a pair of tensors ``(C,)`` or ``(B, C)``, in float32 at least, or None
            where its operation is not a scale and shift. None instead of the tuple where ``flat``
            has another shape or is a tensor subclass: then the caller handles each site alone.
        """
        traced = torch.compiler.is_compiling()
        if flat.ndim > 2 or not self._kinds or not (traced or type(flat) in _PLAIN):
            return None
        flat = cast(flat, compute_dtype(flat))
        if not traced:  # a compiler fuses the additions with later operations
            flat = flat + self._offset_like(flat)
        parts = flat.split_with_sizes(self._sizes, -1)
        if not traced and self._alike:  # FiLM at every site, as usual: γ and β alternate
            return tuple(zip(parts[::2], parts[1::2], strict=True))
        found: list[Pair | None] = []
        start = 0
        for place, kind in enumerate(self._kinds):
            if kind == "shift":
                found.append((None, parts[start]))
                start += 1
            elif kind in ("scale", "affine"):
                gamma = 1.0 + parts[start] if traced else parts[start]
                found.append((gamma, parts[start + 1] if kind == "affine" else None))
                start += 2 if kind == "affine" else 1
            else:
                stop = start + len(self._names[place])
                found.append(self._from_operation(place, parts[start:stop]))
                start = stop
        return tuple(found)

    def _from_operation(self, place: int, own: tuple[Tensor, ...]) -> Pair | None:
        operation = self._diagonal[place]
        if operation is None:
            return None
        return operation.scale_shift(dict(zip(self._names[place], own, strict=True)))

    def _offset_like(self, flat: Tensor) -> Tensor:
        key = flat.dtype, flat.device
        kept = self._kept.get(key)
        tracing = _torch.in_jit_trace()  # it compares two runs, which must be alike
        if kept is not None and not tracing:
            return kept
        with torch.inference_mode(False):
            made = torch.tensor(self._offsets, dtype=flat.dtype, device=flat.device)
        # A tensor made inside a transform or a fake mode must not outlive it.
        if type(made) is Tensor and not tracing and not _torch.in_transform():
            self._kept[key] = made
        return made


def pair_fits(x: Tensor, pair: Pair, width: int, axis: int, batch_axis: int | None) -> bool:
    """Whether a pair can modulate ``x`` at a site of these axes without ``Site.modulate``."""
    rank = x.ndim
    if x.dtype not in FLOATS or not -rank <= axis < rank or x.shape[axis] != width:
        return False
    some = pair[0] if pair[0] is not None else pair[1]
    if some is None or some.device != x.device:
        return False
    if batch_axis is None:
        return some.ndim == 1
    if not -rank <= batch_axis < rank or batch_axis % rank == axis % rank:
        return False
    return some.ndim == 1 or some.shape[0] == x.shape[batch_axis]


def _kind(site: Site) -> str:
    """How a site uses its part of the split vector: "affine", "scale", "shift" or "other"."""
    operation = site.operation
    return "other" if _offset(operation) is None else type(operation).__name__.lower()


def _diagonal(site: Site) -> Diagonal | None:
    """The operation of a site, if it is a scale and a shift whose parameters are vectors."""
    operation = site.operation
    vectors = all(len(p.shape) == 1 for p in site.parameters.values())
    return operation if isinstance(operation, Diagonal) and operation.plain and vectors else None


def _offsets(site: Site) -> list[float]:
    """Offsets that are added to the raw parameters of a site, one for each number."""
    # Adding negative zero changes no value, and keeps the sign of zeros.
    offset = _offset(site.operation) or -0.0
    return [
        offset if name == "gamma" else -0.0
        for name, p in site.parameters.items()
        for _ in range(math.prod(p.shape))
    ]


def _offset(operation: Operation) -> float | None:
    """Offset that turns a raw γ into the scale; None where the operation does more than add."""
    if type(operation) is Shift:
        return 0.0
    if type(operation) in (Scale, Affine) and isinstance(operation, Scale):
        return 1.0 if operation.activation == "identity" and not operation.raw else None
    return None
