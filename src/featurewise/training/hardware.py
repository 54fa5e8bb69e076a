"""Hardware and software of a run: what they are, and whether bfloat16 is worth using."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from featurewise.training import distributed

_PACKAGES = ("featurewise", "torch", "numpy", "safetensors")


def describe() -> dict[str, str]:
    """Name -> description, for a card; without anything that identifies a machine or user."""
    return {
        "processor": _processor(),
        "cores": str(_cores()),
        "threads": str(torch.get_num_threads()),
        "accelerator": _accelerator(),
        "bfloat16": _bfloat16(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
    }


def autocast(device: torch.device, *, bfloat16: bool) -> torch.autocast:
    """Context of a forward pass: bfloat16 autocast if wanted and computed there, else none."""
    enabled = bfloat16 and computes_bfloat16(device.type)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


@functools.lru_cache
def computes_bfloat16(device_type: str) -> bool:
    """Whether products in bfloat16 have instructions of their own.

    A processor without them (x86 without AVX512-BF16 and AMX) takes longer than in float32. With
    AVX2 alone, a step of film's preset demo takes 7 times as long, and a matrix product 17 times.
    """
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device_type != "cpu":
        return True
    if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.9 and 2.10
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    found: Mapping[str, object] = torch.cpu.get_capabilities()
    return any(name.endswith("bf16") and has is True for name, has in found.items())


def _processor() -> str:
    """The model name of the processor from ``/proc/cpuinfo``, else from `platform`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _cores() -> int:
    """The number of cores that this process may use; a container may limit it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _accelerator() -> str:
    if distributed.device().type == "cpu":  # no GPU, or CPU chosen
        return "none"
    names = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _bfloat16() -> str:
    computed = computes_bfloat16(distributed.device().type)
    return "has instructions" if computed else "no instructions"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
