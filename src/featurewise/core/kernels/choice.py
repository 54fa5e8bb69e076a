"""Which kernels compute features on a GPU: torch's operators, or ours after an explicit `use`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from featurewise.core.errors import OperationError

_chosen: ModuleType | None = None


class use:  # noqa: N801 (a function that is also a context, as torch.set_grad_enabled)
    """Choose the kernels for features on a GPU, for the whole process.

    At once and for good, or until the end of a ``with``::

        kernels.use("triton")
        with kernels.use("torch"):
            ...

    With "triton", FiLM, and a layer, RMS, group or instance norm before it, run in one kernel
    forward and one backward, where a kernel takes the shapes and dtypes; otherwise, and under
    compilation and transforms, nothing changes. These kernels were tested in Triton's interpreter
    on a CPU and never timed: measure (``python -m benchmarks.film_gpu``) before you rely on them.

    Args:
        kernels: "torch", the default of the library, or "triton".

    Raises:
        OperationError: another name, or Triton is not installed.
    """

    def __init__(self, kernels: str) -> None:
        global _chosen
        if kernels not in ("torch", "triton"):
            raise OperationError(f"kernels are 'torch' or 'triton', got {kernels!r}")
        if kernels == "triton" and find_spec("triton") is None:
            raise OperationError(
                "the kernels 'triton' need Triton, which builds of torch for a GPU bring along: "
                "install one of these, or pip install triton"
            )
        self._before = _chosen
        _chosen = import_module("featurewise.core.kernels.triton") if kernels == "triton" else None

    def __enter__(self) -> None:
        """The choice was made already."""

    def __exit__(self, *error: object) -> None:
        global _chosen
        _chosen = self._before


def chosen() -> ModuleType | None:
    """The module of the kernels for a GPU; None for torch's operators."""
    return _chosen
