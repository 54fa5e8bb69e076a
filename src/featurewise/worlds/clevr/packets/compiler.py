"""How the functions of this package are compiled by numba.

Numbers are single precision throughout: a constant of double precision would make every expression
that it is part of twice as slow. So constants are made by :func:`single`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numba import njit

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

# Sums may be reordered and fused, and NaN does not occur; infinity does not either, see `BIG`.
_OPTIONS: Final[dict[str, Any]] = {
    "fastmath": {"contract", "nsz", "nnan", "arcp"},
    "error_model": "numpy",
    "nogil": True,
}


@runtime_checkable
class Rows(Protocol):
    """A one-dimensional array of single-precision numbers; see :mod:`.rows`."""

    def __getitem__(self, index: int, /) -> float: ...

    def __setitem__(self, index: int, value: float, /) -> None: ...


@runtime_checkable
class Table(Protocol):
    """An array of single-precision numbers with several dimensions."""

    def __getitem__(self, index: tuple[int, ...], /) -> float: ...


single: Final = cast("Callable[[float], float]", np.float32)
"""A constant of single precision."""


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function when another compiled function first calls it."""
    return _compiled(function)


def inline(function: FunctionT) -> FunctionT:
    """Compile a function into each of its callers, so that loops over it become SIMD code."""
    return _compiled(function, forceinline=True)


def entry(function: FunctionT) -> FunctionT:
    """Compile a function that Python code calls; the machine code is kept on disk.

    It is kept beside the source, or in the user's cache folder where that cannot be written, or
    nowhere if neither can. Several processes may do so at the same time.
    """
    try:
        return _compiled(function, cache=True)
    except RuntimeError:  # no folder for the cache
        return _compiled(function)


def _compiled(function: FunctionT, **options: Any) -> FunctionT:
    # Run-time checks of arguments, which tests wrap around functions, cannot be compiled.
    compiled: FunctionT = njit(**_OPTIONS, **options)(inspect.unwrap(function))
    return compiled


@inline
def as_single(value: int) -> float:
    """An integer as a number of single precision, in compiled code."""
    return np.float32(value)  # type: ignore[return-value]


ZERO: Final = single(0)
HALF: Final = single(0.5)
ONE: Final = single(1)
TWO: Final = single(2)
FOUR: Final = single(4)
PI: Final = single(np.pi)
BIG: Final = single(1e30)
"""Stands for infinity, which the options of the compiler exclude."""
