"""Figures about the structure of the code: ``python -m benchmarks.structure``, in ``make check``.

For each system: its lines, the files that one reads to understand it (its own files and those that
define the names it imports), and the share of its lines that also occur in another system. Files
that at least half of the systems import are counted once, as common ground. For the library: import
cycles (lazy imports count), undocumented fields of dataclasses, and for the systems room the share
of long lines and the number of lines that decode the name of an arm.

Limits: 250 lines of method per file, the part that a reader copies (of a file that is not divided
into method and experiment, such as those of a package, all lines count); 8 files or 1,500 lines to
read beside the common ground; 10 % duplicated lines; 5 % long lines in systems. A long method, one
that imports its experiment, duplicated or long lines, an undocumented field, a line that decodes
the name of an arm, or an import cycle fail the check. What there is to read is only printed.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
SYSTEMS = SOURCE / "featurewise" / "systems"
LONGEST, FILES, LINES, SHARE, RUN = 250, 8, 1_500, 0.10, 6
"""Limits: lines of the method in a file; files, or lines, to read; share of duplicated lines, which
count in runs of at least `RUN` lines."""
WIDE, WIDE_SHARE = 90, 0.05
"""Columns from which on a line counts as long; largest share of such lines in systems."""
EXPERIMENT = "# --- experiment -"
"""Where the method of a system file ends and its experiment begins."""
METHOD = "method.py"
"""Name of the file with the method of a system that is a package."""

#: Ways to decode the name of an arm; an arm should change the settings of its system instead.
DECODING = re.compile(
    r"""\barm\.name\b | (?<!for\ )\barm\ (?:==|!=|in|not\ in)\ | \.r?(?:partition|split)\("_"\)
        | \barm(?:\.name)?\.startswith\(""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Figures:
    """Figures of one system.

    Attributes:
        lines: lines of all its files.
        longest: lines of the longest method in its files, or of the longest file that is not
            divided into method and experiment.
        files: number of files to read beside the common ground.
        reading: lines of these files.
        duplicated: share of its lines that also occur in another system, in runs of at least
            `RUN` lines.
        mixed: names of the files that its method imports and should not, see `mixed`.
    """

    lines: int
    longest: int
    files: int
    reading: int
    duplicated: float
    mixed: tuple[str, ...]

    def failures(self) -> list[str]:
        """Exceeded limits that fail the check."""
        found = [f"a method or file of {self.longest} lines"] if self.longest > LONGEST else []
        found += [f"{self.duplicated:.0%} twice"] if self.duplicated > SHARE else []
        return found + [f"the method imports {name}" for name in self.mixed]

    def remarks(self) -> list[str]:
        """All exceeded limits."""
        long = self.files > FILES and self.reading > LINES
        return self.failures() + (["much to read"] if long else [])


def systems() -> dict[str, list[Path]]:
    """Name of every system -> its files.

    Of a package, these are ``__init__.py``, which defines the record, and the files of the package
    that it imports at once, directly or indirectly. A file that is imported only when a function is
    called serves an application, such as the command line; one reads it to use the system, not to
    understand the method. `applications` has those.
    """
    found = {}
    for family in sorted(path for path in SYSTEMS.iterdir() if (path / "__init__.py").is_file()):
        for path in sorted(family.iterdir()):
            if path.suffix == ".py" and path.stem != "__init__":
                found[path.stem] = [path]
            elif (path / "__init__.py").is_file():
                found[path.name] = sorted(_imported_at_once(path / "__init__.py"))
    return found


def applications() -> dict[str, list[Path]]:
    """Name of every system with files that only an application imports -> these files."""
    packages = {n: files for n, files in systems().items() if files[0].name == "__init__.py"}
    found = {
        name: sorted(set(files[0].parent.glob("*.py")) - {*files})
        for name, files in packages.items()
    }
    return {name: files for name, files in found.items() if files}


def _imported_at_once(start: Path) -> set[Path]:
    """A file and all others of its folder that are imported with it."""
    found, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path.parent == start.parent and path not in found:
            found.add(path)
            todo += imported(path, at_once=True)
    return found


def mixed(files: list[Path]) -> tuple[str, ...]:
    """Files of the experiment that the method of a package imports, directly or indirectly.

    They are ``experiment.py``, ``__init__.py``, and all of ``featurewise.study`` but the base class
    of a config.

    Args:
        files: of a system; one without a file `METHOD` has no such imports.
    """
    method = next((path for path in files if path.name == METHOD), None)
    if method is None:
        return ()
    study = SOURCE / "featurewise" / "study"
    reached = {*_imported_at_once(method)}
    reached |= {each for path in reached for each in imported(path)}
    return tuple(
        sorted(
            path.name
            for path in reached
            if path in (method.with_name("experiment.py"), method.with_name("__init__.py"))
            or (study in path.parents and path.name != "system.py")
        )
    )


@cache
def lines(path: Path) -> int:
    """Number of lines."""
    return len(path.read_text().splitlines())


@cache
def method_lines(path: Path) -> int:
    """Number of lines before the experiment begins; of a file without one, all."""
    text = path.read_text().splitlines()
    return next((i for i, line in enumerate(text) if line.startswith(EXPERIMENT)), len(text))


@cache
def imported(path: Path, at_once: bool = False) -> frozenset[Path]:
    """Files of the library that define the names a file imports.

    A name that a package re-exports counts for the file that defines it, not for the package.

    Args:
        path: the file.
        at_once: whether only imports that run when the file is imported count, not those within
            functions.
    """
    found: set[Path] = set()
    tree = ast.parse(path.read_text())
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featurewise"):
            for alias in node.names:
                found |= set(_defining(str(node.module), alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("featurewise."):
                    found |= set(_file(alias.name))
    return frozenset(found - {path})


def _defining(module: str, name: str) -> Iterator[Path]:
    """Files that define a name imported from a module."""
    if submodule := list(_file(f"{module}.{name}")):
        yield from submodule
        return
    for path in _file(module):
        if path.name == "__init__.py":
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ImportFrom) and name in _names(node):
                    yield from _defining(str(node.module), name)
                    return
        yield path


def _names(node: ast.ImportFrom) -> set[str]:
    return {alias.asname or alias.name for alias in node.names}


def _file(module: str) -> Iterator[Path]:
    path = SOURCE / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            yield candidate


def reading(files: list[Path]) -> set[Path]:
    """The files of a system and the files they import.

    Not ``featurewise/__init__.py``, nor `applications`.
    """
    top = SOURCE / "featurewise" / "__init__.py"
    unread = {path for path in files[0].parent.glob("*.py") if files[0].name == "__init__.py"}
    return {*files, *({each for path in files for each in imported(path)} - unread)} - {top}


@cache
def code(path: Path) -> list[str]:
    """Stripped lines of a file without imports, blank lines and lines of brackets alone."""
    text = path.read_text()
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return [
        line.strip()
        for number, line in enumerate(text.splitlines(), 1)
        if number not in skipped and any(letter.isalnum() for letter in line)
    ]


def duplicated(own: list[Path], others: list[Path]) -> float:
    """Share of the lines of `own` that also occur in `others`, in runs of at least `RUN` lines."""
    theirs = {run for path in others for run in _runs(code(path))}
    total = shared = 0
    for path in own:
        text = code(path)
        hit = [False] * len(text)
        for start, run in enumerate(_runs(text)):
            if run in theirs:
                hit[start : start + RUN] = [True] * RUN
        total += len(text)
        shared += sum(hit)
    return shared / max(total, 1)


def _runs(text: list[str]) -> list[tuple[str, ...]]:
    return [tuple(text[i : i + RUN]) for i in range(len(text) - RUN + 1)]


def common() -> set[Path]:
    """Files that at least half of the systems import."""
    found = systems()
    counts = Counter(path for files in found.values() for path in reading(files) - {*files})
    return {path for path, count in counts.items() if 2 * count >= len(found)}


@cache
def measure() -> dict[str, Figures]:
    """The figures of every system."""
    found, ground = systems(), common()
    return {
        name: Figures(
            lines=sum(map(lines, files)),
            longest=max(map(method_lines, files)),
            files=len(reading(files) - ground),
            reading=sum(map(lines, reading(files) - ground)),
            duplicated=duplicated(files, [p for k, ps in found.items() if k != name for p in ps]),
            mixed=mixed(files),
        )
        for name, files in found.items()
    }


def cycles() -> list[list[str]]:
    """Groups of modules that import each other, directly or indirectly; lazy imports count.

    An imported name counts as an import of the module that defines it, so that a re-export in the
    ``__init__.py`` of a package makes no cycle.
    """
    graph = {path: imported(path) for path in SOURCE.rglob("*.py") if path.name != "__init__.py"}
    reach = {path: _reached(path, graph) for path in graph}
    groups = {
        frozenset(q for q in reach[path] if path in reach.get(q, ())) | {path}
        for path in graph
        if path in reach[path]
    }
    return sorted(sorted(str(p.relative_to(SOURCE)) for p in group) for group in groups)


def _reached(start: Path, graph: Mapping[Path, frozenset[Path]]) -> set[Path]:
    found: set[Path] = set()
    todo = list(graph[start])
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += graph.get(path, ())
    return found


def system_lines() -> list[str]:
    """Lines of all files of all systems."""
    return [
        line for files in systems().values() for p in files for line in p.read_text().splitlines()
    ]


def long_lines(text: list[str]) -> float:
    """Share of lines of at least `WIDE` columns."""
    return sum(len(line) >= WIDE for line in text) / max(len(text), 1)


def decodes_arm_name(line: str) -> bool:
    """Whether a line of code decodes the name of an arm."""
    return DECODING.search(line) is not None


def undocumented_fields(text: str) -> list[str]:
    """Public fields of frozen dataclasses that no section ``Attributes:`` or ``Args:`` names.

    Args:
        text: source of a module.

    Returns:
        ``Class.field`` for each; private classes and fields, and class variables, do not count.
    """
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and _is_frozen(node):
            named = _attributes(ast.get_docstring(node) or "")
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            names = [
                each.target.id
                for each in fields
                if isinstance(each.target, ast.Name)
                and "ClassVar" not in ast.unparse(each.annotation)
            ]
            found += [f"{node.name}.{n}" for n in names if n[0] != "_" and n not in named]
    return found


def all_undocumented_fields() -> list[str]:
    """Those of the whole library, with their modules."""
    return [
        f"{path.relative_to(SOURCE)}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name in undocumented_fields(path.read_text())
    ]


def _is_frozen(node: ast.ClassDef) -> bool:
    """Whether a class is decorated with ``@dataclass(frozen=True, ...)``."""
    return any(
        isinstance(each, ast.Call)
        and ast.unparse(each.func).split(".")[-1] == "dataclass"
        and any(k.arg == "frozen" and ast.unparse(k.value) == "True" for k in each.keywords)
        for each in node.decorator_list
    )


def _attributes(docstring: str) -> set[str]:
    """Names in the sections ``Attributes:`` and ``Args:``; they end at a line without indent."""
    sections = re.findall(r"^(?:Attributes|Args):\n((?:[ ]+.*\n?|\n)*)", docstring, re.MULTILINE)
    entries = re.findall(r"^    (\w[\w, ]*?)(?: \(.*?\))?:", "".join(sections), re.MULTILINE)
    return {name for entry in entries for name in re.split(r",\s*", entry)}


def main() -> int:
    """Prints the figures; returns 1 if a limit that fails the check is exceeded."""
    print(f"{'system':<16}{'lines':>7}{'files read':>12}{'lines read':>12}{'duplicated':>12}")
    figures = measure()
    for name, each in figures.items():
        row = f"{each.lines:>7}{each.files:>12}{each.reading:>12,}{each.duplicated:>12.1%}"
        print(f"{name:<16}{row}  {'; '.join(each.remarks())}".rstrip())
    for name, files in applications().items():
        length = sum(map(lines, files))
        print(f"{name}: application, beside the method: {len(files)} files, {length:,} lines")
    ground = common()
    print(f"common ground: {len(ground)} files, {sum(map(lines, ground)):,} lines")
    text, failed = system_lines(), [each.failures() for each in figures.values()]
    wide, decoding = long_lines(text), sum(map(decodes_arm_name, text))
    print(f"systems: lines of at least {WIDE} columns: {wide:.1%}")
    print(f"systems: lines that decode the name of an arm: {decoding}")
    fields = all_undocumented_fields()
    print(f"undocumented fields of dataclasses: {len(fields)}", *fields, sep="\n  ")
    found = cycles()
    print(f"import cycles: {len(found)}", *(" - ".join(group) for group in found), sep="\n  ")
    return int(bool(found or any(failed) or wide > WIDE_SHARE or decoding or fields))


if __name__ == "__main__":
    raise SystemExit(main())
