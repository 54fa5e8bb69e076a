"""Run the compatibility tests and write what they found: ``make matrix``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/matrix.md"
TESTS = "tests/retrofit/matrix"
PACKAGES = ("torch", "transformers", "diffusers", "timm", "onnx", "onnxscript", "onnxruntime")

Results = Mapping[tuple[str, str], str]  # (capability, network) -> "pass", or why not

HEAD = """\
# Which networks, and how

Written by `make matrix` from a run of the tests in `tests/retrofit/matrix`. The networks
are small and have random weights; their generators are away from the identity. Each cell compares
the conditioned network with a truth that uses nothing of the library: the same network with hooks
that compute γ·x + β by hand.
"""

LEGEND = """\
✓ equal to the truth. — cannot be, for the reason below: the test sees that the network alone,
without conditions, cannot do it either, or that its package is missing. `refused`: raises a typed
error instead of giving wrong numbers.
"""


def run() -> dict[tuple[str, str], str]:
    """Every cell, from a run of all tests of the folder; several tests of a cell are merged."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-n", "2", "-q", "--timeout", "1800", TESTS]
        environment = {**os.environ, "FEATUREWISE_MATRIX": folder, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
        lines = [line for path in Path(folder).glob("*.jsonl") for line in path.open()]
    return merge([json.loads(line) for line in lines])


def merge(cells: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """The worst result of each cell: a failure, then a reason, then a pass."""
    results: dict[tuple[str, str], str] = {}
    for cell in cells:
        key = cell["capability"], cell["network"]
        results[key] = max(results.get(key, "pass"), cell["result"], key=_badness)
    return results


def _badness(result: str) -> int:
    return {"pass": 0, "fail": 2}.get(result, 1)


def versions() -> dict[str, str]:
    """Versions of what took part."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def page(
    capabilities: Sequence[str],
    networks: Sequence[str],
    results: Results,
    versions: Mapping[str, str],
) -> str:
    """The page, in Markdown.

    Raises:
        ValueError: if a cell failed or was not run.
    """
    missing = [(c, n) for c in capabilities for n in networks if (c, n) not in results]
    failed = [key for key, result in results.items() if result == "fail"]
    if missing or failed:
        raise ValueError(f"cells not run: {missing}; failed: {failed}")
    notes: list[str] = []
    rows = [["", *networks], ["---"] + [":-:"] * len(networks)]
    rows += [[c, *(_cell(results[c, n], notes) for n in networks)] for c in capabilities]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    reasons = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1))
    with_these = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{HEAD}\n{table}\n\n{LEGEND}\n{reasons}\n\nWith {with_these}.\n"


def _cell(result: str, notes: list[str]) -> str:
    if result == "pass":
        return "✓"
    kind, _, reason = result.partition(": ")
    note = reason[:1].upper() + reason[1:] + "."
    if note not in notes:
        notes.append(note)
    word = {"n/a": "—", "refused": "refused"}[kind]
    return f"{word} [{notes.index(note) + 1}]"


def main() -> None:
    """Run, and write the page."""
    sys.path.insert(0, str(ROOT))
    from tests.retrofit.matrix.cells import CAPABILITIES
    from tests.retrofit.matrix.networks import NETWORKS

    names = [network.name for network in NETWORKS]
    PAGE.write_text(page(CAPABILITIES, names, run(), versions()))


if __name__ == "__main__":
    main()
