"""Finds systems by the names of their files or packages, and runs by their folders."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

import typer

import featurewise.systems
from featurewise.cli.errors import UserError
from featurewise.cli.outline import read_outline, read_title

if TYPE_CHECKING:
    from featurewise.study.answerer import Answerer
    from featurewise.study.catalogue import Entry
    from featurewise.study.results import Results
    from featurewise.study.stylist import Stylist
    from featurewise.study.system import System

QUESTIONS = "film"
"""Default system of the commands that answer questions, ``demo`` and ``ask --example``."""

RUN, MODEL = "run.json", "model.json"
"""File that marks the folder of a run, and of a model. The same names stand in
`featurewise.study.run`; completion cannot import them from there, because that imports torch."""


@dataclass(frozen=True)
class Found:
    """A trained network that was named on the command line.

    Attributes:
        system: record of its system.
        module: module that defines the record.
        folder: folder of the run or the model.
        shipped: True for a model that is part of this library.
    """

    system: System[Any]
    module: ModuleType
    folder: Path
    shipped: bool


def names() -> dict[str, str]:
    """Name of every system -> name of its module, which is not imported."""
    return {name: f"featurewise.systems.{path[0]}.{name}" for name, path in _files().items()}


def _files() -> Mapping[str, tuple[str, Path]]:
    """Name of every system -> its family, and the file that defines its record."""
    return _files_in(tuple(featurewise.systems.__path__))


@lru_cache(maxsize=8)
def _files_in(roots: tuple[str, ...]) -> Mapping[str, tuple[str, Path]]:
    found = {}
    for root in roots:
        for family in pkgutil.iter_modules([root]):
            folder = Path(root, family.name)
            for system in pkgutil.iter_modules([str(folder)]):
                file = Path(system.name, "__init__.py") if system.ispkg else f"{system.name}.py"
                found[system.name] = (family.name, folder / file)
    return MappingProxyType(dict(sorted(found.items())))


def outline(name: str, part: Literal["title", "presets", "arms", "answers"]) -> Any:
    """A part of `Outline`, from the text of the system's file; if computed there, from the record.

    Raises:
        UserError: there is no system of this name.
    """
    known = _files()
    require(name, known, "system")
    path = known[name][1]
    found = read_title(path) if part == "title" else getattr(read_outline(path), part)
    if found is not None:
        return found
    record = load(name)
    if part == "presets":
        return {preset: record.cost.get(preset, "") for preset in record.presets}
    if part == "answers":
        return record.answerer is not None
    return record.prose.title if part == "title" else {arm.name: arm.what for arm in record.arms}


def module(name: str) -> ModuleType:
    """The module of a system.

    Raises:
        UserError: there is none of this name.
    """
    known = names()
    require(name, known, "system")
    return importlib.import_module(known[name])


def load(name: str) -> System[Any]:
    """The record of a system.

    Raises:
        UserError: there is no system of this name, or its file defines no record.
    """
    from featurewise.study.system import System

    found = getattr(module(name), "SYSTEM", None)
    if not isinstance(found, System):
        raise UserError(f"{names()[name]}: a system file ends in 'SYSTEM = System(...)'")
    return found


def find(text: str) -> Found:
    """The trained network of a RUN argument: the name of a system (its shipped model) or a folder.

    Raises:
        UserError: the argument is neither, or the system has no shipped model.
        ExperimentError: a file of the folder is damaged.
    """
    from featurewise.study.run import read_run

    if text in names():
        found = Found(load(text), module(text), shipped_model(module(text)), True)
        if not (found.folder / MODEL).is_file():
            raise UserError(
                f"{text} has no shipped model; train one with 'featurewise train {text}' and "
                "give its folder"
            )
        return found
    folder = Path(text)
    if not folder.is_dir():
        hint = _hint(text, names())
        raise UserError(f"{text}: no such run folder, and no system of that name{hint}")
    if not (folder / RUN).is_file() and not (folder / MODEL).is_file():
        raise UserError(f"{text}: is neither a run ({RUN}) nor a model ({MODEL})")
    name = read_run(folder).system
    if name not in names():
        raise UserError(f"{text}: is of system {name!r}, which this version does not have")
    return Found(load(name), module(name), folder, False)


def shipped_model(of: ModuleType) -> Path:
    """Folder of the trained model that is shipped with a system; it may not exist."""
    return _model_beside(Path(str(of.__file__)))


def commands_of_shipped_model(name: str) -> tuple[str, ...]:
    """Commands that work with the shipped model of a system; empty without such a model.

    Reads the text of the system's file only; the system is not imported.

    Raises:
        UserError: there is no system of this name.
    """
    known = _files()
    require(name, known, "system")
    file = known[name][1]
    if not (_model_beside(file) / MODEL).is_file():
        return ()
    found = read_outline(file)
    if found.paints:
        return ("stylize",)
    return ("ask", "evaluate") if found.answers else ()


def _model_beside(file: Path) -> Path:
    return file.parent / "model"


PUBLISHED = Path(featurewise.systems.__path__[0]).parents[2] / "results"
"""Folder of published results in a checkout; an installed library has none."""


def published(folder: Path | None = None) -> list[Entry]:
    """Every system with its published results, by family, then name.

    Args:
        folder: folder of the results; default: `PUBLISHED`.

    Raises:
        ExperimentError: a file is damaged.
    """
    from featurewise.study.catalogue import read

    families = {name: family for name, (family, _) in _files().items()}
    order = sorted(families, key=lambda name: (families[name], name))
    return [read(folder or PUBLISHED, families[name], load(name)) for name in order]


def published_results(name: str, folder: Path | None = None) -> dict[str, Results]:
    """Published results of a system by preset: the files ``<folder>/<name>/<preset>.json``.

    Args:
        name: name of the system.
        folder: see `published`.

    Raises:
        ExperimentError: a file is damaged.
    """
    from featurewise.study.catalogue import read

    entry = read(folder or PUBLISHED, "", load(name))
    return {each.preset: each for each in entry.results}


def answerer(system: System[Any]) -> Answerer[Any]:
    """What a system offers that answers questions.

    Args:
        system: its record.

    Raises:
        UserError: the system answers no questions.
    """
    if system.answerer is None:
        raise UserError(f"{system.name} answers no questions")
    return system.answerer()


def stylist(system: System[Any]) -> Stylist[Any]:
    """What a system offers that paints images.

    Args:
        system: its record.

    Raises:
        UserError: the system paints no images.
    """
    if system.stylist is None:
        raise UserError(f"{system.name} paints no images")
    return system.stylist()


def require(name: str, known: Iterable[str], kind: str) -> None:
    """Raises a `UserError` with similar names if `name` is not among the known names."""
    known = list(known)
    if name not in known:
        hint = _hint(name, known) or f"; there is {', '.join(known)}"
        raise UserError(f"no {kind} is called {name!r}{hint}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def complete_system(incomplete: str) -> list[str]:
    """Names of systems, for the shell."""
    return [name for name in names() if name.startswith(incomplete)]


def complete_preset(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Presets of the system on the command line, with their cost, for the shell."""
    return _completed(ctx, incomplete, "presets")


def complete_arm(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Arms of the system on the command line, with their descriptions, for the shell."""
    return _completed(ctx, incomplete, "arms")


def _completed(
    ctx: typer.Context, incomplete: str, part: Literal["presets", "arms"]
) -> list[tuple[str, str]]:
    # While an option is completed, the parser leaves earlier arguments in `ctx.args`.
    name = next((word for word in (ctx.params.get("system"), *ctx.args) if word in names()), None)
    if name is None:
        return []
    return [each for each in outline(name, part).items() if each[0].startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Names of systems, and folders of runs and models, that start with the text."""
    folders = [
        str(path.parent)
        for kind in (RUN, MODEL)
        for pattern in (f"{incomplete}*/{kind}", f"{incomplete}*/*/{kind}")
        for path in Path().glob(pattern)
        if not Path(incomplete).is_absolute()
    ]
    return complete_system(incomplete) + sorted(set(folders))
