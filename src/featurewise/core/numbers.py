"""Which numbers and tensors can be computed with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Final, SupportsFloat, TypeGuard

import torch
from torch import Tensor

from featurewise.core import _torch

#: The dtypes that torch computes in; float8 only stores.
FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
#: What errors call them.
WANTED: Final = "floating point of 16, 32 or 64 bits"
FLOAT_TENSOR: Final = "a floating-point tensor of 16, 32 or 64 bits"


def is_float(x: object) -> TypeGuard[Tensor]:
    """Whether ``x`` is a tensor of float16, bfloat16, float32 or float64."""
    return isinstance(x, Tensor) and x.dtype in FLOATS


def is_number(value: object) -> bool:
    """Whether ``value`` is a real number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: SupportsFloat) -> bool:
    """Whether a number is finite as a float: ``10**400`` is not. A trace takes it for finite."""
    if torch.compiler.is_compiling():
        return True
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def readable(x: Tensor) -> bool:
    """Whether the numbers of a tensor can be looked at: no trace, no transform, no meta device."""
    return not (torch.compiler.is_compiling() or _torch.in_transform() or x.device.type == "meta")


def untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they are written, each in memory of its own: tied ones are copied."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        plain = stored(tensor)
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return found


def stored(tensor: Tensor) -> Tensor:
    """A tensor as it is written: on the processor, its memory in order, nothing left to be done.

    A conjugate or a negative that torch has only noted is worked out: a file holds memory.
    """
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
