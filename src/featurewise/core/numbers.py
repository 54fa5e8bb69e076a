"""Checks of numbers and tensors, and tensors in the form in which files store them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Final, SupportsFloat, TypeGuard

import torch
from torch import Tensor

from featurewise.core import _torch

#: Dtypes of floating-point arithmetic; torch supports float8 for storage only.
FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
#: Their description in error messages.
WANTED: Final = "floating point of 16, 32 or 64 bits"
FLOAT_TENSOR: Final = "a floating-point tensor of 16, 32 or 64 bits"


def is_float(x: object) -> TypeGuard[Tensor]:
    """Whether ``x`` is a tensor of float16, bfloat16, float32 or float64."""
    return isinstance(x, Tensor) and x.dtype in FLOATS


def is_number(value: object) -> bool:
    """Whether ``value`` is a real number; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: SupportsFloat) -> bool:
    """Whether a number is finite as a float (``10**400`` is not); always true in compiled code."""
    if torch.compiler.is_compiling():
        return True
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def readable(x: Tensor) -> bool:
    """Whether the values of a tensor can be read: not in compiled code, a transform, or on meta."""
    return not (torch.compiler.is_compiling() or _torch.in_transform() or x.device.type == "meta")


def untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the form in which files store them; those that share memory are copied."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        plain = stored(tensor)
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return found


def stored(tensor: Tensor) -> Tensor:
    """A tensor in the form in which files store it: detached, on the CPU and contiguous.

    Lazy conjugation and negation are resolved, because files store memory.
    """
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
