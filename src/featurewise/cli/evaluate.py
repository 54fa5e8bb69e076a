"""``featurewise evaluate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.console import Console

from featurewise.cli import discovery
from featurewise.cli.errors import UserError

if TYPE_CHECKING:
    from featurewise.lab.results import Measurement, Trial

Batches: TypeAlias = Callable[[Any], Iterator[Any]]
"""Settings of a network -> the batches it is measured on."""

RUN_HELP = "A system's name (the model that comes with it), or the folder of a run or a model."


def evaluate(
    run: Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=discovery.complete_run)],
    data: Annotated[
        Path | None,
        typer.Option(help="Data set in the layout of CLEVR v1.0, in place of the built-in world."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of that data set.")] = "val",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many pictures.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Another run, on the same data; may be repeated.",
            autocompletion=discovery.complete_run,
        ),
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Also with each question of another picture.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure accuracy by question type on pictures that were not trained on."""
    from featurewise.cli import accuracy
    from featurewise.lab.model import load_network

    found = discovery.find(run)
    others = [discovery.find(other) for other in beside or []]
    for other in others:
        if other.system.name != found.system.name:
            raise UserError(f"{other.folder}: is of {other.system.name}, not of {run}")
    answering = discovery.part(found, "answering")
    batches, sentence = _data(answering, found, data, split, limit)
    columns: dict[str, Measurement | list[Trial]] = {}
    for each, name in _named([found, *others]):
        network, settings = load_network(each.folder, each.system)
        columns[name] = answering.measured(network, settings, batches(settings))
        if control and each is found:
            measured = answering.measured(network, settings, batches(settings), control=True)
            columns[f"{name}, other questions"] = measured
    if data is None and limit is None:
        columns.update(_shipped(found, columns))
    shown = accuracy.table(found.system.title, sentence, columns, answering.groups)
    if as_json:
        typer.echo(json.dumps(accuracy.as_json(shown), indent=1, allow_nan=False))
    else:
        Console().print(accuracy.on_screen(shown))


def _data(
    answering: Any, found: discovery.Found, data: Path | None, split: str, limit: int | None
) -> tuple[Batches, str]:
    """Where batches come from, and the sentence that says so."""
    some = "" if limit is None else f", the first {limit} pictures"
    if data is None:
        batches = lambda settings: answering.held_out(settings, limit)  # noqa: E731
        return batches, f"{found.system.world} Held out from all training{some}."

    def from_folder(settings: Any) -> Iterator[Any]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = TextColumn("reading pictures"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("", visible=False)
            batches: Iterator[Any] = answering.from_folder(
                settings,
                data,
                split,
                limit,
                lambda made, total: bar.update(task, completed=made, total=total, visible=True),
            )
        return batches

    return from_folder, f"Data set in {data}, split {split}{some}."


def _named(found: list[discovery.Found]) -> Iterator[tuple[discovery.Found, str]]:
    """Each with a short name of its own: the arm, and the folder where that is not enough."""
    from featurewise.lab.run import read_run

    arms = [read_run(each.folder).arm for each in found]
    for each, arm in zip(found, arms, strict=True):
        yield each, arm if arms.count(arm) == 1 else f"{arm} ({each.folder.name})"


def _shipped(
    found: discovery.Found, columns: dict[str, Measurement | list[Trial]]
) -> dict[str, list[Trial]]:
    """Arms that were measured before, at the same preset, and whose results are published."""
    from featurewise.lab.run import read_run

    run = read_run(found.folder)
    results = discovery.published_results(found.system.name).get(run.preset)
    if results is None:
        return {}
    return {arm: results.of(arm) for arm in results.arms() if arm != run.arm and arm not in columns}
