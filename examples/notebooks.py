"""Generate the notebooks from the scripts, run them, and keep their outputs.

``python examples/notebooks.py`` generates all of them, ``python examples/notebooks.py 04`` those
whose names begin with 04. A script is split at its ``# %%`` lines. The docstring becomes the first
cell; text after ``# %%`` becomes a heading, and comments directly below it become text.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))
FOLDER = EXAMPLES / "notebooks"
QUIET = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}


def notebook(script: Path) -> dict[str, Any]:
    """The notebook of a script, without outputs (nbformat 4.5)."""
    front, *parts = re.split(r"^# %% ", script.read_text(), flags=re.M)
    first, *rest = (ast.get_docstring(ast.parse(front)) or "").splitlines()
    cells = [_cell("markdown", f"# {first.rstrip('.')}\n" + "\n".join(rest))]
    for part in parts:
        heading, *lines = part.splitlines()
        comments = 0
        while lines[comments].startswith("# "):
            comments += 1
        text = "\n".join(line.removeprefix("# ") for line in lines[:comments])
        cells.append(_cell("markdown", f"## {heading}\n\n{text}"))
        cells.append(_cell("code", "\n".join(lines[comments:])))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def without_outputs(book: dict[str, Any]) -> dict[str, Any]:
    """A notebook without the outputs of its cells."""
    unrun = {"execution_count": None, "outputs": []}
    cells = [
        {**cell, **unrun} if cell["cell_type"] == "code" else dict(cell) for cell in book["cells"]
    ]
    return {**book, "cells": cells}


def ran(book: dict[str, Any], folder: Path, seconds: int = 600) -> dict[str, Any]:
    """The notebook with the outputs of its cells: results and images, no warnings.

    Args:
        book: a notebook made by `notebook`.
        folder: working directory of the cells.
        seconds: time limit of one cell.
    """
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.reads(text_of(book), as_version=4)
    NotebookClient(node, timeout=seconds, resources={"metadata": {"path": str(folder)}}).execute()
    shown: dict[str, Any] = json.loads(json.dumps(node))
    cells = []
    for cell, original in zip(shown["cells"], book["cells"], strict=True):
        outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
        kept = {"execution_count": cell.get("execution_count"), "outputs": outputs}
        cells.append({**original, **(kept if original["cell_type"] == "code" else {})})
    return {**book, "cells": cells}


def text_of(book: dict[str, Any]) -> str:
    """Text of a notebook's file."""
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def place(script: Path) -> Path:
    """Path of the notebook of a script."""
    return FOLDER / f"{script.stem}.ipynb"


def _cell(kind: str, text: str) -> dict[str, Any]:
    source = text.strip().splitlines(keepends=True)
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **code}


def main() -> None:
    """Write all notebooks, or those whose names are given."""
    os.environ.update(QUIET)
    FOLDER.mkdir(exist_ok=True)
    for script in SCRIPTS:
        if script.name.startswith(tuple(sys.argv[1:]) or ""):
            with tempfile.TemporaryDirectory() as folder:
                place(script).write_text(text_of(ran(notebook(script), Path(folder))))


if __name__ == "__main__":
    main()
