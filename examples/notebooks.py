"""Make the notebooks from the scripts: ``python examples/notebooks.py``.

A script is cut at its ``# %%`` lines. The docstring becomes the title page; what stands behind
``# %%`` becomes a heading, and comments right below it become text.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))
FOLDER = EXAMPLES / "notebooks"


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


def written(script: Path) -> str:
    """Text of the notebook's file."""
    return json.dumps(notebook(script), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def place(script: Path) -> Path:
    """Where the notebook of a script lies."""
    return FOLDER / f"{script.stem}.ipynb"


def _cell(kind: str, text: str) -> dict[str, Any]:
    source = text.strip().splitlines(keepends=True)
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **code}


def main() -> None:
    """Write all notebooks."""
    FOLDER.mkdir(exist_ok=True)
    for script in SCRIPTS:
        place(script).write_text(written(script))


if __name__ == "__main__":
    main()
