"""All Python blocks of the pages and all examples in docstrings run without errors.

Blocks of one page share a namespace and run in order.
"""

from __future__ import annotations

import doctest
import html
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from featurewise.worlds.pictures import MissingPicturesError
from featurewise.worlds.sound import MissingSynthesiserError
from featurewise.worlds.text import MissingTextError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.M | re.S)
SOURCE = ROOT / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.glob("featurewise/**/*.py")
    if "__" not in path.name and ">>>" in path.read_text()
)
#: Packages that a page may import although the project does not install them.
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
    # Dataclasses look up their module by this name.
    namespace = {"__name__": "__main__"}
    for line, code in blocks(page.read_text()):
        for package in OPTIONAL:
            if re.search(rf"^(?:import|from) {package}\b", code, re.M):
                pytest.importorskip(package, reason=f"from line {line} on: no {package}")
        # With empty lines in front, tracebacks show the line numbers of the page.
        try:
            exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
        except (MissingPicturesError, MissingSynthesiserError, MissingTextError) as error:
            pytest.skip(f"from line {line} on: {error}")


def test_fences_are_found() -> None:
    text = "a\n```python\nx = 1\n```\n- b\n\n    ```python\n    y = 2\n    ```\n"
    assert list(blocks(text)) == [(3, "x = 1\n"), (8, "y = 2\n")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_fence_is_found(page: Path) -> None:
    """A fence with other text, such as a title or ``py``, would not be run by the test above."""
    text = page.read_text()
    assert len(re.findall(r"^ *(?:```|~~~) *\W*py(?!con)", text, re.M)) == len(list(blocks(text)))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert not failed


@pytest.mark.parametrize("page", REFERENCE, ids=lambda p: p.stem)
def test_reference_is_complete(page: Path) -> None:
    """All names that a room exports are on its page, by name or with their whole file."""
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


def loaded(path: Path) -> ModuleType:
    """Imports a Python file that is not in a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_starts_with_the_installation() -> None:
    top = (ROOT / "README.md").read_text().splitlines()[:16]
    assert "pip install featurewise" in "\n".join(top)
    (image,) = [line for line in top if line.startswith("![")]
    path = ROOT / re.fullmatch(r"!\[.+\]\((.+)\)", image)[1]
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 150_000


def test_commands_of_the_readme_exist() -> None:
    """Each ``featurewise`` command and its options exist; no line has a prompt."""
    text = (ROOT / "README.md").read_text()
    assert not re.search(r"^\$ ", text, re.M)
    lines = re.findall(r"^featurewise (.*?)(?:  #.*)?$", text, re.M)
    lines += re.findall(r"^\| `featurewise (.*?)`", text, re.M)
    assert len(lines) > 7
    for line in {re.sub(r" film .*", " film", line.split(" --")[0]) for line in lines}:
        words = [word for word in line.split() if word != "film"]
        shown = subprocess.run(
            [sys.executable, "-m", "featurewise", *words, "--help"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for each in lines:
            if each.startswith(line):
                assert all(option in shown for option in re.findall(r"--[a-z]+", each)), each


def test_links_of_the_readme_work_on_a_package_index() -> None:
    setup = loaded(ROOT / "setup.py")
    readme = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", setup.absolute(readme))
    assert len(links) > 10 and all(link.startswith(setup.PAGES) for link in links)
    pages = (ROOT / "mkdocs.yml").read_text()
    for link in re.findall(r"\]\((?!http)([^)\s#]+)", readme):
        page = setup._ELSEWHERE.get(link, link.removeprefix("docs/")).rstrip("/")
        if page.endswith(".png"):
            assert (ROOT / link).is_file()
        elif page.startswith("cards/"):
            assert (ROOT / "docs" / page).is_file()
        else:
            assert f" {page.removesuffix('.md')}.md\n" in pages, link
    assert setup.absolute("[a](docs/bank.md#b) [c](https://d.org/e.md) [f](#g)") == (
        f"[a]({setup.PAGES}bank/#b) [c](https://d.org/e.md) [f](#g)"
    )


@pytest.mark.parametrize(
    ("language", "session", "typed"),
    [
        ("console", "$ featurewise demo  # 3 min\nFiLM: 73 %\n$ ls 'a & b' | wc\n", 2),
        ("pycon", ">>> x = [1]\n>>> for i in x:\n...     print(i < 2)\nTrue\n", 3),
        ("python", "x = 1  # $ not a prompt\n", 0),
    ],
)
def test_copy_buttons_copy_no_prompts(language: str, session: str, typed: int) -> None:
    markdown = pytest.importorskip("markdown")
    pytest.importorskip("pymdownx")
    extensions = ["pymdownx.highlight", "pymdownx.superfences"]
    settings = {"pymdownx.highlight": {"anchor_linenums": True}}
    page = markdown.markdown(
        f"```{language}\n{session}```\n", extensions=extensions, extension_configs=settings
    )
    shown = loaded(ROOT / "docs/copying.py").on_page_content(page, page=None)
    copied = re.findall(r'data-copy="(.*?)"', shown, re.S)
    assert re.sub(r' data-copy=".*?"', "", shown, flags=re.S) == page
    if not typed:
        assert not copied
        return
    lines = [line for line in session.splitlines() if line[:2] in ("$ ", ">>", "..")]
    wanted = [re.sub(r"^(\$|>>>|\.\.\.) ", "", line) for line in lines]
    assert len(wanted) == typed and html.unescape(copied[0]).split("\n") == wanted


def test_the_sounds_page_says_how_it_is_made() -> None:
    command = [sys.executable, ROOT / "docs/sounds.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "usage: python docs/sounds.py runs/audio_effect-small runs/wavenet-small\n"
    )
