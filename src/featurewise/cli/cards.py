"""``featurewise cards``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from featurewise.cli import discovery, options
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError

Others = Literal["keep", "drop"]


def cards(
    results: Annotated[
        Path, typer.Option(help="Folder of published results: SYSTEM/PRESET.json in it.")
    ] = Path("results"),
    out: Annotated[Path, typer.Option(help="Folder for catalogue.md and cards/.")] = Path("docs"),
    add: Annotated[
        list[Path] | None,
        typer.Option(help="First publish the results of this 'featurewise run'; may be repeated."),
    ] = None,
    others: Annotated[
        Others | None,
        typer.Option(
            help="With --add: what becomes of published trials of the same preset that the run has "
            "not. Without it, a run that has not all of them is not published."
        ),
    ] = None,
) -> None:
    """Write the card of every system and the catalogue from published results.

    Only files that this command wrote are overwritten.
    """
    options.require_installed("", "matplotlib")
    if not add and not any(any(results.glob(f"{name}/*.json")) for name in discovery.names()):
        raise UserError(
            f"{results}: holds no results of any system (SYSTEM/PRESET.json); name the folder of "
            "the results with --results, or publish a run with --add"
        )
    from featurewise.study import catalogue

    console = Terminal(highlight=False, soft_wrap=True)
    for folder in add or []:
        console.print(_add(folder, results, others), markup=False)
    written = catalogue.save(discovery.published(results), out)
    console.print(f"{len(written)} files; see {out / catalogue.PAGE}", markup=False)


def _add(folder: Path, published: Path, others: Others | None) -> str:
    """Publishes the results of a study; returns a line that describes them."""
    from featurewise.study import card, catalogue
    from featurewise.study.results import Results
    from featurewise.study.run import RESULTS, SHEET

    if not (folder / RESULTS).is_file():
        raise UserError(f"{folder}: holds no {RESULTS}, which 'featurewise run' writes")
    found = Results.load(folder / RESULTS)
    discovery.require(found.system, discovery.names(), "system")
    record = discovery.load(found.system)
    if not found.trials:
        raise UserError(f"{folder}: no trial has finished yet")
    record.require(found)  # before names from the file become parts of paths
    sheets: dict[str, Path] = {}
    for trial in found.trials:
        path = folder / f"{trial.arm}-s{trial.seed}" / SHEET
        if path.is_file():
            sheets.setdefault(trial.arm, path)
    written = catalogue.publish(published, record, found, sheets, others)
    together = Results.load(written[0])
    partial = card.missing(record, together)
    text = f"{found.system}, preset {found.preset}: {len(found.trials)} trials published"
    if kept := len(together.trials) - len(found.trials):
        text += f", {kept} kept"
    return f"{text}; partial: {partial}" if partial else text
