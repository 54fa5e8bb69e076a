"""``featurewise systems``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featurewise.cli import discovery
from featurewise.cli.console import Terminal

if TYPE_CHECKING:
    from featurewise.study.system import System


def systems(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SYSTEM",
            help="Systems to describe in detail; without a name, all systems are listed.",
            autocompletion=discovery.complete_system,
        ),
    ] = None,
) -> None:
    """List the systems: published methods that can be trained and evaluated.

    The column "trained model" names the commands that work without training first.
    """
    console = Terminal()
    if not names:
        rows = []
        for name in discovery.names():
            commands = ", ".join(discovery.commands_of_shipped_model(name))
            rows.append((name, commands, discovery.outline(name, "title")))
        console.print(_table(("system", "trained model", "title"), rows))
        console.print("details of a system: featurewise systems SYSTEM", style="dim")
    for name in names or ():
        _describe(console, name, discovery.load(name))


def _describe(console: Console, name: str, record: System[Any]) -> None:
    """Prints paper, trained model, presets, arms and claims of a system."""
    console.print(f"[bold]{name}[/]  {escape(record.prose.title)}")
    console.print(escape(record.prose.body))
    console.print(f"{escape(record.paper.citation)}, {escape(record.paper.where)}", style="dim")
    console.print(f"[dim]{record.paper.url}[/]", soft_wrap=True)
    if commands := discovery.commands_of_shipped_model(name):
        usage = {
            "ask": f"featurewise ask {name} IMAGE QUESTION",
            "stylize": f"featurewise stylize {name} IMAGE --style STYLE",
        }
        lines = [usage.get(command, f"featurewise {command} {name}") for command in commands]
        console.print(f"trained model included: {', '.join(lines)}")
    presets = [(p, f"{s.steps:,}", record.cost.get(p, "")) for p, s in record.presets.items()]
    columns = 3 if record.cost else 2
    head = ("preset", "steps", "expected cost")[:columns]
    console.print(_table(head, (row[:columns] for row in presets)))
    console.print(_table(("arm", "description"), ((arm.name, arm.what) for arm in record.arms)))
    criteria = (claim.criterion.sentence.replace("`", "") for claim in record.claims)
    claims = [
        f"{c.sentence}\n  {criterion}" for c, criterion in zip(record.claims, criteria, strict=True)
    ]
    console.print(_table(("claim, and its criterion",), ((text,) for text in claims)))


def _table(head: tuple[str, ...], rows: Any) -> Table:
    table = Table(*head, box=None, pad_edge=True, header_style="italic")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
