"""Kernels for a GPU: chosen explicitly; in processes of their own, interpreted and compiled.

Triton reads its environment when it is imported. It comes with builds of torch for a GPU; without
one, ``pip install triton`` runs these tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from benchmarks import film_gpu

from featurewise.core import OperationError, film, kernels
from featurewise.core.kernels import choice

FOLDER = Path(__file__).parent / "triton"
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="needs Triton, which builds of torch for a GPU bring along (pip install triton)",
)


def run(name: str, **environment: str) -> None:
    """Run the tests of a file in a process of their own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(FOLDER / f"{name}.py")],
        env=inherited | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@needs_triton
@pytest.mark.timeout(900)
def test_in_the_interpreter() -> None:
    run("interpreted", TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.timeout(900)
def test_for_a_gpu(tmp_path: Path) -> None:
    run("compiled", TRITON_CACHE_DIR=str(tmp_path))


def test_nothing_is_chosen_by_default() -> None:
    assert choice.chosen() is None


def test_unknown_kernels() -> None:
    with pytest.raises(OperationError, match="'torch' or 'triton', got 'cuda'"):
        kernels.use("cuda")
    assert choice.chosen() is None


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(OperationError, match="pip install triton"):
        kernels.use("triton")
    assert choice.chosen() is None


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
@pytest.mark.parametrize("shape", [(2, 8, 3), (4, 8, 110, 100), (2, 600, 120)], ids=str)
def test_activations_by_torch(activation: str, shape: tuple[int, ...]) -> None:
    """One more operator, on all routes of a CPU."""
    axis = 2 if shape[-1] == 120 else 1
    x = torch.randn(shape)
    gamma, beta = (torch.randn(shape[0], shape[axis]) for _ in "gb")
    wanted = kernels.ACTIVATIONS[activation](film(x, gamma, beta, axis=axis))
    assert torch.equal(film(x, gamma, beta, axis=axis, activation=activation), wanted)


def test_unknown_activations() -> None:
    with pytest.raises(OperationError, match="one of identity, relu, silu, gelu, got 'tanh'"):
        film(torch.randn(2, 3), torch.ones(3), torch.zeros(3), activation="tanh")


@pytest.mark.traced
def test_the_benchmark_runs_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    """But for what times and captures."""
    film_gpu.dry_run("layer, FiLM, silu")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) > 3 and all(" agree" in line for line in shown[1:-1])
    assert shown[-1].endswith("bars would be checked")


def test_the_benchmark_counts_bytes_and_bars() -> None:
    """A copy moves features twice; ours as fast as a copy is r 1, and half as fast 0.5."""
    chain = film_gpu.Chain("none", "relu", (0.95, 0.88))
    times = {
        "copy": {"forward": 2.0},
        "ours": {"forward": 2.0, "backward": 6.0},
        "compile": {"forward": 1.8, "backward": 9.0},
    }
    line = film_gpu.Line(chain, film_gpu.TOKENS, 4000, (2, 3), times)
    assert line.r("forward") == 1 and line.r("backward") == 0.5
    found = [text[:6].strip() for text in film_gpu.verdicts([line], 1000)]
    assert found == ["met", "MISSED", "MISSED", "met", "met"]
    small = [*film_gpu.verdicts([line], 2000)]
    assert small[-1].startswith("MISSED small") and "CPU nan" in small[-1]
