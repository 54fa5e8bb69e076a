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
            metavar="[SYSTEM]...",
            help="Those to tell all of; else one line for each there is.",
            autocompletion=discovery.complete_system,
        ),
    ] = None,
) -> None:
    """List the systems: published methods that can be trained, measured and asked."""
    console = Terminal()
    if not names:
        titles = [(name, discovery.outline(name, "title")) for name in discovery.names()]
        console.print(_table(("system", "what it is"), titles))
        console.print("All of one: featurewise systems SYSTEM", style="dim")
    for name in names or ():
        _tell(console, name, discovery.load(name))


def _tell(console: Console, name: str, record: System[Any]) -> None:
    """Paper, presets, arms and claims of a system."""
    console.print(f"[bold]{name}[/]  {escape(record.prose.title)}")
    console.print(escape(record.prose.body))
    console.print(f"{escape(record.paper.citation)}, {escape(record.paper.where)}", style="dim")
    console.print(f"[dim]{record.paper.url}[/]", soft_wrap=True)
    model = discovery.shipped_model(discovery.module(name))
    if (model / "model.json").is_file():
        console.print(f"ships a trained model: featurewise evaluate {name}")
    presets = [(p, f"{s.steps:,}", record.cost.get(p, "")) for p, s in record.presets.items()]
    told = 3 if record.cost else 2
    head = ("preset", "steps", "expected cost")[:told]
    console.print(_table(head, (row[:told] for row in presets)))
    console.print(_table(("arm", "what it does"), ((arm.name, arm.what) for arm in record.arms)))
    console.print(
        _table(
            ("claim", "criterion"),
            (
                (claim.sentence, claim.criterion.sentence.replace("`", ""))
                for claim in record.claims
            ),
        )
    )


def _table(head: tuple[str, ...], rows: Any) -> Table:
    table = Table(*head, box=None, pad_edge=True, header_style="italic")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
