"""The kernels for a GPU, compiled for one without having one; run by `test_triton`.

Triton's interpreter accepts code that its compiler refuses. The compiler is that of the package
``triton``, for compute capability 9.0, of NVIDIA H100 and H200.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from featurewise.core import kernels
from featurewise.core.kernels import triton as gpu
from featurewise.core.kernels.triton import routes

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def compiled(kernel: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The kernel for these arguments, which Triton specialises in the same way."""
    types, attributes = {}, {}
    constants = {name: value for name, value in options.items() if name != "num_warps"}
    types.update(dict.fromkeys(constants, "constexpr"))
    for place, (name, value) in enumerate(zip(kernel.arg_names, given, strict=False)):
        if isinstance(value, Tensor):
            types[name] = TYPES[value.dtype]
        elif isinstance(value, float):
            types[name] = "fp32"
        elif value is None or value == 1:
            types[name], constants[name] = "constexpr", value
        else:
            types[name] = "i64" if value >= 1 << 31 else "i32"
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={"num_warps": options["num_warps"]})


def stack(binary: bytes, folder: Path) -> int:
    """Bytes that each thread keeps outside of registers."""
    file = folder / "kernel.cubin"
    file.write_bytes(binary)
    command = [str(TOOL), "-res-usage", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", shown)[1])


def images(dtype: torch.dtype) -> Tensor:
    return torch.empty(2, 64, 28, 28, dtype=dtype)


def last(dtype: torch.dtype) -> Tensor:
    return images(dtype).contiguous(memory_format=torch.channels_last)


def tokens(dtype: torch.dtype) -> Tensor:
    return torch.empty(2, 50, 768, dtype=dtype)


def wide(dtype: torch.dtype) -> Tensor:
    return torch.empty(2, 3, 8192, dtype=dtype)


def large(dtype: torch.dtype) -> Tensor:
    return torch.empty(1, 64, 128, 128, dtype=dtype)


@pytest.mark.parametrize(
    ("norm", "make", "axis", "dtype"),
    [
        ("none", images, 1, torch.float32),
        ("none", last, 1, torch.bfloat16),
        ("layer", tokens, 2, torch.bfloat16),
        ("layer", images, 1, torch.float32),
        ("rms", wide, 2, torch.float32),
        ("group", images, 1, torch.bfloat16),
        ("group", last, 1, torch.float32),
        ("group", large, 1, torch.bfloat16),
    ],
)
def test_kernels_compile(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    norm: str,
    make: Callable[[torch.dtype], Tensor],
    axis: int,
    dtype: torch.dtype,
) -> None:
    """Forward and backward, with loads of 16 bytes and in registers."""
    seen = []

    def instead(kernel: Any, programs: int, x: Tensor, *given: Any, **options: Any) -> None:
        made = compiled(kernel, given, options)
        name = kernel.fn.__name__
        seen.append(name)
        assert re.search(r"ld\.global[\w.:]*\.v4\.b32", made.asm["ptx"]), f"{name}: narrow loads"
        assert stack(made.asm["cubin"], tmp_path) <= 128, f"{name}: too many registers"

    monkeypatch.setattr(routes, "_launch", instead)
    monkeypatch.setattr(routes, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    x = make(dtype).requires_grad_()
    width = x.shape[axis]
    gamma, beta = (torch.empty(len(x), width, requires_grad=True) for _ in "gb")
    with kernels.use("triton"):
        if norm == "none":
            y = kernels.modulate(x, gamma, beta, axis, 0, "silu")
        elif norm == "group":
            y = kernels.group_norm_film(x, gamma, beta, 16, 1e-5, "gelu")
        else:
            run = {"layer": kernels.layer_norm_film, "rms": kernels.rms_norm_film}[norm]
            y = run(x, gamma, beta, axis, 1e-5, "relu")
        y.backward(torch.empty_like(y))
    assert len(seen) >= 2
