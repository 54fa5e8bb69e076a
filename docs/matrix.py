"""Run the compatibility tests and write their results: ``make matrix``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/matrix.md"
TESTS = "tests/retrofit/matrix"
PACKAGES = (
    *("torch", "transformers", "accelerate", "diffusers", "timm", "torchvision"),
    *("segmentation_models_pytorch", "monai", "onnx", "onnxscript", "onnxruntime"),
)

Results = Mapping[tuple[str, str], str]  # (capability, network) -> "pass", "fail", or a reason

HEAD = """\
# Compatibility matrix

Written by `make matrix` from a run of the tests in `tests/retrofit/matrix`. The networks
are small and have random weights; their generators have random weights too, so that γ and β are
not the identity. Each cell compares the conditioned network with a reference that does not use the
library: the same network with handwritten hooks that compute γ·x + β.
"""

MORE = """\
## More networks of other packages

Small versions with random weights, tested for the capabilities that depend most on how a network is
written. The sites are norms, attention projections, convolutions and blocks, some of them in
both an encoder and a decoder.
"""

LEGEND = """\
✓ equal to the reference; a number refers to a requirement below. — not possible, for the reason
below: the test checks that the network without conditioning cannot do it either, or that its
package is missing. `refused`: raises a typed error instead of returning wrong values.
"""


def run() -> dict[tuple[str, str], str]:
    """All cells, from a run of all tests of the folder; several tests of a cell are merged."""
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
        results[key] = max(results.get(key, "pass"), cell["result"], key=_severity)
    return results


def _severity(result: str) -> int:
    return {"pass": 0, "fail": 2}.get(result, 1)


def versions() -> dict[str, str]:
    """Versions of Python and the packages."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Table(NamedTuple):
    """Content of one table.

    Attributes:
        capabilities: tested capabilities.
        networks: names of the networks.
    """

    capabilities: Sequence[str]
    networks: Sequence[str]


def page(first: Table, more: Table, results: Results, versions: Mapping[str, str]) -> str:
    """The page, in Markdown: capabilities by networks, then more networks by capabilities.

    Raises:
        ValueError: if a cell failed or was not run.
    """
    cells = [(c, n) for table in (first, more) for c in table.capabilities for n in table.networks]
    missing = [cell for cell in cells if cell not in results]
    failed = [key for key, result in results.items() if result == "fail"]
    if missing or failed:
        raise ValueError(f"cells not run: {missing}; failed: {failed}")
    notes: list[str] = []
    upper = _table(first.networks, first.capabilities, lambda n, c: _cell(results[c, n], notes))
    lower = _table(more.capabilities, more.networks, lambda c, n: _cell(results[c, n], notes))
    reasons = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1))
    with_these = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{HEAD}\n{upper}\n\n{MORE}\n{lower}\n\n## Symbols\n\n{LEGEND}\n{reasons}\n\n"
        f"With {with_these}.\n"
    )


def _table(columns: Sequence[str], rows: Sequence[str], cell: Callable[[str, str], str]) -> str:
    lines = [["", *columns], ["---"] + [":-:"] * len(columns)]
    lines += [[row, *(cell(column, row) for column in columns)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(result: str, notes: list[str]) -> str:
    if result == "pass":
        return "✓"
    kind, _, reason = result.partition(": ")
    note = reason[:1].upper() + reason[1:] + "."
    if note not in notes:
        notes.append(note)
    word = {"pass": "✓", "n/a": "—", "refused": "refused"}[kind]
    return f"{word} [{notes.index(note) + 1}]"


def main() -> None:
    """Run, and write the page."""
    sys.path.insert(0, str(ROOT))
    from tests.retrofit.matrix.cells import CAPABILITIES, OF_PACKAGES
    from tests.retrofit.matrix.networks import NETWORKS
    from tests.retrofit.matrix.packages import MORE as MORE_NETWORKS

    first = Table(CAPABILITIES, [network.name for network in NETWORKS])
    more = Table(OF_PACKAGES, [network.name for network in MORE_NETWORKS])
    PAGE.write_text(page(first, more, run(), versions()))


if __name__ == "__main__":
    main()
