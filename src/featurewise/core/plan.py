"""All sites of a network prepared at once: what a call of it needs, in a few operations.

Site by site, the parameters of a network cost two cuts and an addition each. A ``Plan`` makes one
addition (of the offsets that turn every Δγ into γ) and one split for the whole network; what is
left at a site is the modulation itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from featurewise.core import _torch
from featurewise.core.film import cast, compute_dtype
from featurewise.core.operation import Affine, Diagonal, Operation, Scale, Shift
from featurewise.core.site import Layout, Site

#: Scale and shift of a site, ``(C,)`` or ``(B, C)``; None where nothing is multiplied or added.
Pair = tuple[Tensor | None, Tensor | None]

_PLAIN = (Tensor, nn.Parameter)


class Plan:
    """How a flat vector of a layout becomes the scale and the shift of each site.

    Args:
        layout: the sites.
    """

    # Compiled code guards every value that it reads here: plain lists of numbers and words only.
    def __init__(self, layout: Layout) -> None:
        self._sizes = [math.prod(p.shape) for s in layout for p in s.parameters.values()]
        self._kinds = [_kind(site) for site in layout]
        self._names = [list(site.parameters) for site in layout]
        self._diagonal = [_diagonal(site) for site in layout]
        self._offsets = [o for site in layout for o in _offsets(site)]
        self._kept: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def pairs(self, flat: Tensor) -> tuple[Pair | None, ...] | None:
        """Scale and shift of every site in order.

        Args:
            flat: raw parameters ``(N,)`` or ``(B, N)``, checked against the layout.

        Returns:
            For each site a pair of tensors ``(C,)`` or ``(B, C)``, in float32 at least, or None
            where its operation is no scale and shift. None in place of it all where ``flat`` is
            of another form, or no plain tensor: then sites are prepared one by one.
        """
        traced = torch.compiler.is_compiling()
        if flat.ndim > 2 or not self._kinds or not (traced or type(flat) in _PLAIN):
            return None
        flat = cast(flat, compute_dtype(flat))
        if not traced:  # a compiler fuses the additions into what follows
            flat = flat + self._offset_like(flat)
        parts = flat.split_with_sizes(self._sizes, -1)
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
                found.append(self._asked(place, parts[start:stop]))
                start = stop
        return tuple(found)

    def _asked(self, place: int, own: tuple[Tensor, ...]) -> Pair | None:
        operation = self._diagonal[place]
        if operation is None:
            return None
        return operation.scale_shift(dict(zip(self._names[place], own, strict=True)))

    def _offset_like(self, flat: Tensor) -> Tensor:
        key = (flat.dtype, flat.device)
        kept = self._kept.get(key)
        tracing = _torch.in_jit_trace()  # which compares two runs, and each must say the same
        if kept is not None and not tracing:
            return kept
        with torch.inference_mode(False):
            made = torch.tensor(self._offsets, dtype=flat.dtype, device=flat.device)
        # A tensor made inside a transform or a fake mode must not outlive it.
        if type(made) is Tensor and not tracing and not _torch.in_transform():
            self._kept[key] = made
        return made


def _kind(site: Site) -> str:
    """How a site is read off the split vector: "affine", "scale" or "shift"; else "asked"."""
    operation = site.operation
    return "asked" if _offset(operation) is None else type(operation).__name__.lower()


def _diagonal(site: Site) -> Diagonal | None:
    """The operation of a site where it is a scale and a shift of vectors."""
    operation = site.operation
    vectors = all(len(p.shape) == 1 for p in site.parameters.values())
    return operation if isinstance(operation, Diagonal) and operation.plain and vectors else None


def _offsets(site: Site) -> list[float]:
    """What is added to the raw parameters of a site, number by number."""
    # Negative zero is the one number whose addition changes no bit, not even of a negative zero.
    offset = _offset(site.operation) or -0.0
    return [
        offset if name == "gamma" else -0.0
        for name, p in site.parameters.items()
        for _ in range(math.prod(p.shape))
    ]


def _offset(operation: Operation) -> float | None:
    """What makes the scale of raw γ by addition; None where more is asked of the operation."""
    if type(operation) is Shift:
        return 0.0
    if type(operation) in (Scale, Affine) and isinstance(operation, Scale):
        return 1.0 if operation.activation == "identity" and not operation.raw else None
    return None
