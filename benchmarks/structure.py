"""The code itself, measured: ``python -m benchmarks.structure``, part of ``make check``.

For each system: its lines, the files one reads to understand it (its own, and those that the names
it imports are written in), and the share of its lines that also stand in a sibling. What at least
half of the systems import is common ground, read once for all, and told apart. For the library:
import cycles, lazy imports counted.

The bars are those of the house: 240 lines a file, method and experiment together, so that no line
is joined to fit and the record has room for what a card must say; 8 files or 1,500 lines to read
beside the common ground, 10 % duplicated. A long file, duplicates and cycles fail the check; a long
reading is told.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
SYSTEMS = SOURCE / "featurewise" / "systems"
LONGEST, FILES, LINES, SHARE, RUN = 240, 8, 1_500, 0.10, 6
"""Lines of a file; files, or lines, to read; share of duplicated lines, in runs so long."""


@dataclass(frozen=True)
class Figures:
    """What is measured of a system.

    Attributes:
        lines: of its files together.
        longest: lines of the longest.
        files: how many one reads beside the common ground.
        reading: lines of these.
        duplicated: share of its lines that stand in a sibling too, in runs of `RUN` or more.
    """

    lines: int
    longest: int
    files: int
    reading: int
    duplicated: float

    def failures(self) -> list[str]:
        """Which bars are passed that must not be."""
        found = [f"a file of {self.longest} lines"] if self.longest > LONGEST else []
        return found + ([f"{self.duplicated:.0%} twice"] if self.duplicated > SHARE else [])

    def remarks(self) -> list[str]:
        """Which bars are passed, all of them."""
        long = self.files > FILES and self.reading > LINES
        return self.failures() + (["much to read"] if long else [])


def systems() -> dict[str, list[Path]]:
    """Name of every system -> its files."""
    found = {}
    for family in sorted(path for path in SYSTEMS.iterdir() if (path / "__init__.py").is_file()):
        for path in sorted(family.iterdir()):
            if path.suffix == ".py" and path.stem != "__init__":
                found[path.stem] = [path]
            elif (path / "__init__.py").is_file():
                found[path.name] = sorted(path.glob("*.py"))
    return found


@cache
def lines(path: Path) -> int:
    """Number of lines."""
    return len(path.read_text().splitlines())


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files of the library whose names a file imports.

    A name that a package passes on counts where it is written, and the package does not.
    """
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("featurewise"):
            for alias in node.names:
                found |= set(_written(str(node.module), alias.name))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("featurewise."):
                    found |= set(_file(alias.name))
    return frozenset(found - {path})


def _written(module: str, name: str) -> Iterator[Path]:
    """Where a name that is imported from a module is written."""
    if submodule := list(_file(f"{module}.{name}")):
        yield from submodule
        return
    for path in _file(module):
        if path.name == "__init__.py":
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ImportFrom) and name in _names(node):
                    yield from _written(str(node.module), name)
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
    """The system's files and what they import; the library's front door is not read."""
    front = SOURCE / "featurewise" / "__init__.py"
    return {*files, *(each for path in files for each in imported(path))} - {front}


@cache
def code(path: Path) -> list[str]:
    """Lines that say something: no blank ones, no imports, no brackets alone."""
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
    """Share of a system's lines that stand in another's too, in runs of `RUN` lines or more."""
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
    """What at least half of the systems import."""
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
            longest=max(map(lines, files)),
            files=len(reading(files) - ground),
            reading=sum(map(lines, reading(files) - ground)),
            duplicated=duplicated(files, [p for k, ps in found.items() if k != name for p in ps]),
        )
        for name, files in found.items()
    }


def cycles() -> list[list[str]]:
    """Groups of modules that import each other, however far round; lazy imports count.

    An import of a name is one of the module where the name is written: what a package's own file
    passes on makes no cycle.
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


def main() -> int:
    """Prints the figures; 1 if a bar is passed."""
    print(f"{'system':<16}{'lines':>7}{'files read':>12}{'lines read':>12}{'duplicated':>12}")
    figures = measure()
    for name, each in figures.items():
        row = f"{each.lines:>7}{each.files:>12}{each.reading:>12,}{each.duplicated:>12.1%}"
        print(f"{name:<16}{row}  {'; '.join(each.remarks())}".rstrip())
    ground = common()
    print(f"common ground: {len(ground)} files, {sum(map(lines, ground)):,} lines")
    found = cycles()
    print(f"import cycles: {len(found)}", *(" - ".join(group) for group in found), sep="\n  ")
    return int(bool(found) or any(each.failures() for each in figures.values()))


if __name__ == "__main__":
    raise SystemExit(main())
