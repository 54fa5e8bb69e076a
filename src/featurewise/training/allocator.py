"""Lets the C allocator keep large blocks, which a training step asks for again and again.

The allocator of glibc maps every block above 32 MiB anew from the kernel and gives it back when
it is freed, so that each use first faults in and zeroes all its pages. The activations and
gradients of convolutions are such blocks on a CPU.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_BLOCK = 1 << 30
_FREE = (1 << 31) - 1  # the largest int


def use_large_allocations() -> bool:
    """Has the process keep freed blocks of up to 1 GiB for the next use.

    Call it once, before training on a CPU. Freed memory then stays with the process, up to 2 GiB
    more than it uses: what it needs at most it keeps until it ends. It changes no numbers, and
    nothing on a GPU, which torch manages itself.

    Returns:
        Whether anything was set: only on Linux with glibc.

    Source:
        mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    if not _glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(_MMAP_THRESHOLD, _BLOCK) and mallopt(_TRIM_THRESHOLD, _FREE))


def _glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows; macOS and musl; neither answers
        return False
