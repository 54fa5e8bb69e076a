"""Systems by the names of their files, and runs by their folders."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import typer

import featurewise.systems
from featurewise.cli.errors import UserError
from featurewise.cli.outline import read_outline

if TYPE_CHECKING:
    from featurewise.study.catalogue import Entry
    from featurewise.study.results import Results
    from featurewise.study.system import System

RUN, MODEL = "run.json", "model.json"
"""What a run's folder and a model's hold, as `featurewise.study.run` has it; named here too, so
that completion need not import that."""


@dataclass(frozen=True)
class Found:
    """A trained network that the command line named.

    Attributes:
        system: its record.
        module: where the record is.
        folder: of the run or the model.
        shipped: whether it came with this library.
    """

    system: System[Any]
    module: ModuleType
    folder: Path
    shipped: bool


def names() -> dict[str, str]:
    """Name of every system -> its module; none is imported for this."""
    return {name: f"featurewise.systems.{path[0]}.{name}" for name, path in _files().items()}


def _files() -> dict[str, tuple[str, Path]]:
    """Name of every system -> its family, and the file that holds its record."""
    found = {}
    for root in featurewise.systems.__path__:
        for family in pkgutil.iter_modules([root]):
            folder = Path(root, family.name)
            for system in pkgutil.iter_modules([str(folder)]):
                file = Path(system.name, "__init__.py") if system.ispkg else f"{system.name}.py"
                found[system.name] = (family.name, folder / file)
    return dict(sorted(found.items()))


def outline(name: str, part: Literal["title", "presets", "arms"]) -> Any:
    """A part of `Outline`: read from the system's file, where it is written out there.

    Raises:
        UserError: there is no system of this name.
    """
    known = _files()
    require(name, known, "system")
    if (found := getattr(read_outline(known[name][1]), part)) is not None:
        return found
    record = load(name)
    if part == "presets":
        return {preset: record.cost.get(preset, "") for preset in record.presets}
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
    """The record of a system; raises like `module`, and when its file holds no record."""
    from featurewise.study.system import System

    found = getattr(module(name), "SYSTEM", None)
    if not isinstance(found, System):
        raise UserError(f"{names()[name]}: a system file ends in 'SYSTEM = System(...)'")
    return found


def find(text: str) -> Found:
    """What a RUN argument names: a system's name (its shipped model) or a folder.

    Raises:
        UserError: neither, or the system ships no model.
        ExperimentError: the folder's facts are damaged.
    """
    from featurewise.study.run import read_run

    if text in names():
        found = Found(load(text), module(text), shipped_model(module(text)), True)
        if not (found.folder / MODEL).is_file():
            raise UserError(
                f"{text} ships no trained model; train one with 'featurewise train {text}' and "
                "name its folder"
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
    """Where a system keeps the model that comes with it."""
    return Path(str(of.__file__)).parent / "model"


PUBLISHED = Path(featurewise.systems.__path__[0]).parents[2] / "results"
"""Where a checkout keeps the published results; an installed library has none."""


def published(folder: Path | None = None) -> list[Entry]:
    """Every system with its published results, by family, then name.

    Args:
        folder: of the results; the checkout's unless told.

    Raises:
        ExperimentError: a file is damaged.
    """
    from featurewise.study.catalogue import read

    families = {name: family for name, (family, _) in _files().items()}
    order = sorted(families, key=lambda name: (families[name], name))
    return [read(folder or PUBLISHED, families[name], load(name)) for name in order]


def published_results(name: str, folder: Path | None = None) -> dict[str, Results]:
    """What the arms of a system measured, by preset: the files ``<folder>/<name>/<preset>.json``.

    Args:
        name: of the system.
        folder: as for `published`.

    Raises:
        ExperimentError: a file is damaged.
    """
    from featurewise.study.catalogue import read

    entry = read(folder or PUBLISHED, "", load(name))
    return {each.preset: each for each in entry.results}


def part(found: Found | ModuleType, name: str) -> Any:
    """A further module of a system that is a package, such as ``answering``.

    Raises:
        UserError: this system has none.
    """
    of = found.module if isinstance(found, Found) else found
    path = f"{of.__name__}.{name}"
    if not hasattr(of, "__path__") or importlib.util.find_spec(path) is None:
        raise UserError(f"{of.SYSTEM.name} has no {name}: it answers no questions")
    return importlib.import_module(path)


def require(name: str, known: Iterable[str], kind: str) -> None:
    """Raises a `UserError` that suggests near names when `name` is none of those known."""
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
    """Presets of the system on the line, with their cost."""
    return _completed(ctx, incomplete, "presets")


def complete_arm(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Arms of the system on the line, with what they do."""
    return _completed(ctx, incomplete, "arms")


def _completed(
    ctx: typer.Context, incomplete: str, part: Literal["presets", "arms"]
) -> list[tuple[str, str]]:
    # In front of an option whose value is wanted, the parser leaves arguments where they are.
    name = next((word for word in (ctx.params.get("system"), *ctx.args) if word in names()), None)
    if name is None:
        return []
    return [each for each in outline(name, part).items() if each[0].startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Systems, and the run and model folders that begin so."""
    folders = [
        str(path.parent)
        for kind in (RUN, MODEL)
        for pattern in (f"{incomplete}*/{kind}", f"{incomplete}*/*/{kind}")
        for path in Path().glob(pattern)
        if not Path(incomplete).is_absolute()
    ]
    return complete_system(incomplete) + sorted(set(folders))
