"""``featurewise cards``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurewise.cli import discovery, options
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError


def cards(
    results: Annotated[
        Path, typer.Option(help="Folder of published results: SYSTEM/PRESET.json in it.")
    ] = Path("results"),
    out: Annotated[
        Path, typer.Option(help="Folder for catalogue.md, and cards/ beside it.")
    ] = Path("docs"),
    add: Annotated[
        list[Path] | None,
        typer.Option(help="First publish the results of this 'featurewise run'; may be repeated."),
    ] = None,
) -> None:
    """Write the card of every system and the catalogue from published results.

    Files that it did not make are never overwritten.
    """
    options.require_installed("", "matplotlib")
    if not add and not any(any(results.glob(f"{name}/*.json")) for name in discovery.names()):
        raise UserError(
            f"{results}: holds no results of any system (SYSTEM/PRESET.json), so that there is "
            "nothing to write; name their folder with --results, or publish a run with --add"
        )
    from featurewise.study import catalogue

    console = Terminal(highlight=False, soft_wrap=True)
    for folder in add or []:
        console.print(_add(folder, results), markup=False)
    written = catalogue.save(discovery.published(results), out)
    console.print(f"{len(written)} files; see {out / catalogue.PAGE}", markup=False)


def _add(folder: Path, published: Path) -> str:
    """Publishes what a study measured; says what that is."""
    from featurewise.study import card, catalogue
    from featurewise.study.results import Results
    from featurewise.study.run import RESULTS, SHEET

    if not (folder / RESULTS).is_file():
        raise UserError(f"{folder}: holds no {RESULTS}, as 'featurewise run' leaves it")
    found = Results.load(folder / RESULTS)
    discovery.require(found.system, discovery.names(), "system")
    record = discovery.load(found.system)
    if not found.trials:
        raise UserError(f"{folder}: nothing is measured yet")
    record.require(found)  # whose names are parts of paths from here on
    sheets: dict[str, Path] = {}
    for trial in found.trials:
        path = folder / f"{trial.arm}-s{trial.seed}" / SHEET
        if path.is_file():
            sheets.setdefault(trial.arm, path)
    catalogue.publish(published, record, found, sheets)
    partial = card.missing(record, found)
    text = f"{found.system}, preset {found.preset}: {len(found.trials)} trials published"
    return f"{text}; partial: {partial}" if partial else text
