"""Every Python block of the pages runs, and so does every example of a docstring.

Blocks of one page share a namespace, as a reader would type them one after the other.
"""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.M | re.S)
SOURCE = ROOT / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.glob("featurewise/**/*.py")
    if "__" not in path.name and ">>>" in path.read_text()
)
#: What a page may import without the project asking for it to be installed.
OPTIONAL = ("accelerate", "lightning", "transformers")
REFERENCE = sorted(set((ROOT / "docs/api").glob("*.md")) - {ROOT / "docs/api/index.md"})


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Line and code of every fenced Python block."""
    for fence in FENCE.finditer(text):
        indent, code = fence.groups()
        line = text.count("\n", 0, fence.start(2)) + 1
        yield line, re.sub(f"^{indent}", "", code, flags=re.M)


RUNNABLE = [page for page in PAGES if any(blocks(page.read_text()))]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: str(p.relative_to(ROOT)))
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:::lightning.*")
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    # A name that modules know, for code that looks itself up there (dataclasses do).
    namespace = {"__name__": "__main__"}
    for line, code in blocks(page.read_text()):
        for package in OPTIONAL:
            if re.search(rf"^(?:import|from) {package}\b", code, re.M):
                pytest.importorskip(package, reason=f"from line {line} on: no {package}")
        # Empty lines in front put the page's own line numbers into a traceback.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


def test_fences_are_found() -> None:
    text = "a\n```python\nx = 1\n```\n- b\n\n    ```python\n    y = 2\n    ```\n"
    assert list(blocks(text)) == [(3, "x = 1\n"), (8, "y = 2\n")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_fence_escapes(page: Path) -> None:
    """A fence with any addition (a title, ``py``) would not be found above."""
    text = page.read_text()
    assert len(re.findall(r"^ *(?:```|~~~) *\W*py(?!con)", text, re.M)) == len(list(blocks(text)))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert not failed


@pytest.mark.parametrize("page", REFERENCE, ids=lambda p: p.stem)
def test_reference_is_complete(page: Path) -> None:
    """What a room exports is on its page, by name or with its whole file."""
    text = page.read_text()
    room = importlib.import_module(text.split()[1])
    shown = re.findall(r"^::: (\S+)(?:\n    options:\n      members: (.*))?$", text, re.M)
    missing = [
        name
        for name in getattr(room, "__all__", [])
        if not any(
            name in re.findall(r"\w+", members)
            or (not members and hasattr(importlib.import_module(module), name))
            for module, members in shown
        )
    ]
    assert not missing, f"{page.name} does not show {missing}"
