"""Rules that linters do not check: unsafe imports, unwanted text, length of systems."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import structure

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/featurewise"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MODULES = sorted(SOURCE.rglob("*.py"))
SHIPPED = [
    *MODULES,
    *sorted((ROOT / "benchmarks").rglob("*.py")),
    *sorted((ROOT / "examples").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.py")),
]

#: These modules and functions can run code from a file.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "builtins.eval",
    "builtins.exec",
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.jit.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pandas.read_pickle",
}
#: The one module that reads a file of ``torch.save``: bytes of a pinned SHA-256, weights only.
TORCH_FILE = "src/featurewise/models/pretrained/torch_file.py"
#: Text that must not be in the project; the patterns do not match themselves.
UNWANTED = {
    "a path of one machine": r"/(?:work|tmp|root|home)/\w",
    "a package registry": r"\bpyp[i]\.|pythonhoste[d]|download\.pytorc[h]|(?:extra-)?index-ur[l]",
    "an unfinished mark": r"\b(?:TOD[O]|FIXM[E]|XX[X]|NotImplementedErro[r])\b",
}
LOCKS = ("locked", "torch", "accelerators")
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".txt", ".js", ".css", ".html", ".json"}
FOLDERS = ("src", "tests", "benchmarks", "examples", "docs", "requirements", ".ci")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every import and call in ``tree`` that could run code from a file."""
    alias: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                alias[item.asname or item.name.split(".")[0]] = (
                    item.name if item.asname else item.name.split(".")[0]
                )
                if item.name.split(".")[0] in UNSAFE_MODULES:
                    yield node.lineno, f"import {item.name}"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for item in node.names:
                alias[item.asname or item.name] = f"{node.module}.{item.name}"
            if node.module.split(".")[0] in UNSAFE_MODULES:
                yield node.lineno, f"from {node.module} import ..."
    for node in ast.walk(tree):
        name = dotted(node, alias) if isinstance(node, ast.Name | ast.Attribute) else None
        if name in UNSAFE_CALLS:
            yield node.lineno, name
        if isinstance(node, ast.Call) and dotted(node.func, alias) == "numpy.load":
            for keyword in node.keywords:
                harmless = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in ("allow_pickle", None) and not harmless:
                    yield node.lineno, "numpy.load(allow_pickle=...)"


def dotted(node: ast.AST, alias: dict[str, str]) -> str | None:
    """``a.b.c`` with the first name replaced by what was imported under it."""
    if isinstance(node, ast.Name):
        return alias.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        front = dotted(node.value, alias)
        return None if front is None else f"{front}.{node.attr}"
    return None


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads as read",
        "import joblib.memory",
        "import torch\ntorch.load(path)",
        "from torch import load as read\nread(path)",
        "import torch as t\nread = t.load",
        "eval(text)",
        "from builtins import exec as run\nrun(text)",
        "import yaml\nyaml.load(text)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=trusted)",
        "from numpy import load\nload(path, **options)",
    ],
)
def test_unsafe_code_is_found(line: str) -> None:
    assert list(unsafe(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "network.eval()",
        "import json\njson.load(file)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=False, mmap_mode='r')",
        "from featurewise.training.checkpoint import load\nload(path)",
        "import yaml\nyaml.safe_load(text)",
    ],
)
def test_safe_code_is_accepted(line: str) -> None:
    assert not list(unsafe(ast.parse(line)))


@pytest.mark.parametrize("path", SHIPPED, ids=name_of)
def test_nothing_runs_code_from_files(path: Path) -> None:
    found = [f"line {line}: {name}" for line, name in unsafe(ast.parse(path.read_text()))]
    if name_of(path) == TORCH_FILE:
        found = [each for each in found if not each.endswith(": torch.load")]
    assert not found, (
        f"{name_of(path)}: use safetensors for weights and JSON for everything else: {found}"
    )


def test_the_one_torch_load_reads_weights_only() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / TORCH_FILE).read_text()))
        if isinstance(node, ast.Call) and dotted(node.func, {}) == "torch.load"
    ]
    assert [
        {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        for call in calls
    ] == [{"map_location": "cpu", "weights_only": True}]
    importers = [path.name for path in MODULES if "torch_file import" in path.read_text()]
    assert importers == ["readers.py"], "only the conversion of packages reads these files"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_bare_asserts(path: Path) -> None:
    lines = [n.lineno for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Assert)]
    assert not lines, f"{name_of(path)}: raise a typed error instead of assert, lines {lines}"


@pytest.mark.parametrize("name", structure.systems())
def test_systems_are_within_limits(name: str) -> None:
    found = structure.measure()[name].failures()
    assert not found, (
        f"{name}: {found}; move shared code to a room below. A method ends at the line that begins "
        f"with {structure.EXPERIMENT!r}"
    )


def test_there_are_no_import_cycles() -> None:
    assert not structure.cycles()


def test_duplicated_lines_are_found(tmp_path: Path) -> None:
    shared = [f"x{i} = {i}" for i in range(structure.RUN)]
    texts = {
        "one.py": ["a = 1", "import os", *shared, "b = 2", "", ")"],
        "two.py": [*shared, "c = 3"],
        "near.py": [*shared[:-1], "d = 4"],
    }
    for name, lines in texts.items():
        (tmp_path / name).write_text("\n".join(lines).replace(")", "e = (\n)"))
    one, two, near = (tmp_path / name for name in texts)
    assert structure.duplicated([one], [two]) == structure.RUN / (structure.RUN + 3)
    assert structure.duplicated([one], [near]) == 0


@pytest.mark.parametrize(
    ("line", "decodes"),
    [
        ('if arm.name == "film":', True),
        ('if arm == "film":', True),
        ('if arm in ("film", "question"):', True),
        ('kind, _, depth = name.partition("_")', True),
        ('kind, depth = name.split("_")', True),
        ('if arm.startswith("cosine"):', True),
        ("return config.width", False),
        ("for arm in SYSTEM.arms:", False),
        ('charm == "film"', False),
        ('name.startswith("count_")', False),
    ],
)
def test_decoding_of_an_arms_name_is_found(line: str, decodes: bool) -> None:
    assert structure.decodes_arm_name(line) == decodes


def test_long_lines_are_counted() -> None:
    assert structure.long_lines(["x" * 89, "x" * 90, "", "x"]) == 0.25


def test_undocumented_fields_are_found() -> None:
    documented = (
        '"""A.\n\n    Attributes:\n        one, two: both.\n        three (int): it.\n    """'
    )
    fields = "one: int; two: int; three: int; four: int; _five: int; six: ClassVar[int]"
    frozen = f"@dataclass(frozen=True)\nclass A:\n    {documented}\n    {fields}\n"
    assert structure.undocumented_fields(frozen) == ["A.four"]
    assert structure.undocumented_fields(frozen.replace(documented, "")) == [
        "A.one",
        "A.two",
        "A.three",
        "A.four",
    ]
    assert structure.undocumented_fields(frozen.replace("frozen=True", "slots=True")) == []
    assert structure.undocumented_fields(frozen.replace("class A", "class _A")) == []


def test_the_application_of_a_system_is_not_read_with_its_method() -> None:
    assert [*structure.applications()] == [
        "film",
        "audio_effect",
        "style_transfer",
    ]
    beside = structure.applications()["film"]
    assert {path.name for path in beside} == {
        "application.py",
        "examples.py",
        "exploration.py",
        "fused.py",
        "fused_steps.py",
        "learned.py",
        "places.py",
        "pretraining.py",
        "probe.py",
        "sums.py",
    }
    method = structure.systems()["film"]
    assert not structure.reading(method) & {*beside}
    assert {path.name for path in method} >= {"__init__.py", "network.py", "experiment.py"}


def test_the_systems_of_the_library_are_packages() -> None:
    """As the page says: the record apart from method and experiment."""
    assert "Those of the library are packages" in (ROOT / "docs/systems.md").read_text()
    for name, files in structure.systems().items():
        assert {path.name for path in files} >= {"__init__.py", "experiment.py"}, name


def test_a_method_that_imports_its_experiment_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directly, through a file beside it, or in a function; a config's base class is allowed."""
    package = tmp_path / "featurewise" / "systems" / "family" / "name"
    package.mkdir(parents=True)
    monkeypatch.setattr(structure, "SOURCE", tmp_path)
    study = tmp_path / "featurewise" / "study"
    study.mkdir()
    for path in (study / "system.py", study / "metric.py", package / "experiment.py"):
        path.write_text("data = Metric = 1")
    here = "from featurewise.systems.family.name"

    def mixed(method: str, baselines: str = "") -> tuple[str, ...]:
        structure.imported.cache_clear()
        (package / "__init__.py").write_text(f"{here}.method import Config")
        (package / "method.py").write_text(method)
        (package / "baselines.py").write_text(baselines)
        return structure.mixed(sorted(package.glob("*.py")))

    try:
        assert mixed("from featurewise.study import system") == ()
        assert mixed(f"{here}.baselines import A", "A = 1") == ()
        assert mixed(f"{here}.experiment import data") == ("experiment.py",)
        assert mixed(f"def f():\n    {here}.experiment import data") == ("experiment.py",)
        assert mixed(f"{here}.baselines import A", f"{here}.experiment import data") == (
            "experiment.py",
        )
        assert mixed("from featurewise.study.metric import Metric") == ("metric.py",)
        assert mixed(f"{here} import SYSTEM") == ("__init__.py",)
        (package / "method.py").unlink()
        assert structure.mixed(sorted(package.glob("*.py"))) == ()
    finally:
        structure.imported.cache_clear()


def test_imports_are_resolved_to_the_defining_file() -> None:
    found = {name_of(path) for path in structure.imported(SOURCE / "study/model.py")}
    assert "src/featurewise/training/steppers/base.py" in found
    assert "src/featurewise/training/steppers/__init__.py" not in found


def test_text_is_about_the_project_only() -> None:
    top = [path for path in ROOT.iterdir() if path.is_file()]
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    found = []
    for path in top + below:
        if path.suffix not in TEXT | {""} or "egg-info" in str(path) or path.stat().st_size > 2e6:
            continue
        if path.name == ".git":  # in a worktree of git, a file with the path of the repository
            continue
        text = path.read_text(errors="ignore")
        found += [
            f"{name_of(path)}:{text.count(chr(10), 0, hit.start()) + 1}: {what}: {hit[0]}"
            for what, pattern in UNWANTED.items()
            for hit in re.finditer(pattern, text)
        ]
    assert not found, "\n".join(found)


def test_tests_mirror_the_tree() -> None:
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name[0] not in "._"}
    assert folders <= rooms | {"fixtures"}, f"test folders without a room: {folders - rooms}"
    untested = [room for room in rooms if not any((ROOT / "tests" / room).rglob("test_*.py"))]
    assert not untested, f"rooms without a test: {untested}"


def test_import_is_light() -> None:
    """``import featurewise`` imports no systems, worlds, training, explorer or command line."""
    code = "import sys, featurewise; print(*sorted(m for m in sys.modules if '.' in m))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    heavy = ("systems", "worlds", "training", "study", "analysis", "explorer", "cli")
    loaded = [m for m in shown if m.startswith(tuple(f"featurewise.{room}" for room in heavy))]
    assert not loaded


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {plain(line.split("==")[0]) for line in lines if "==" in line}
    extras = [item for extra in PROJECT["optional-dependencies"].values() for item in extra]
    wanted = PROJECT["dependencies"] + extras
    missing = [w for w in wanted if plain(re.split(r"[\[<>=~!; ]", w)[0]) not in pinned]
    assert not missing, f"constraints.txt does not pin {missing}"
    exact = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")
    loose = [line for line in lines if line and line[0] != "#" and not exact.fullmatch(line)]
    assert not loose, f"constraints.txt pins no version of {loose}"


def test_the_lock_has_a_hash_for_every_pin() -> None:
    """Hashes of all pinned packages, and of the setuptools that builds the library."""
    text = "".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in LOCKS)
    entries = re.split(r"^(?=\w)", text, flags=re.M)[1:]
    locked = dict(re.split(r"[ ;]", each, maxsplit=1)[0].split("==") for each in entries)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {plain(name): version for name, version in (x.split("==") for x in lines if "==" in x)}
    assert {name: locked.get(name) for name in pinned} == pinned, "run make lock"
    assert "setuptools" in locked
    bare = [each.split()[0] for each in entries if "--hash=sha256:" not in each]
    assert not bare, f"no hash for {bare}"
    assert "://" not in text


def test_extras_in_hints_exist() -> None:
    extras = {
        extra: {plain(re.split(r"[\[<>=~!; ]", item)[0]) for item in items}
        for extra, items in PROJECT["optional-dependencies"].items()
    }
    assert {"optuna", "psycopg"} <= extras["study"] and "scikit-learn" in extras["systems"]
    texts = [*MODULES, ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    hints = [
        (name_of(path), extra)
        for path in texts
        for listed in re.findall(r"featurewise\[([a-z,]+)\]", path.read_text())
        for extra in listed.split(",")
    ]
    assert len(hints) > 3
    unknown = [hint for hint in hints if hint[1] not in extras]
    assert not unknown, f"unknown extras: {unknown}"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == PROJECT["version"]
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
