"""``featurewise systems``."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featurewise.cli import discovery


def systems() -> None:
    """List the systems: published methods that can be trained, measured and asked."""
    console = Console()
    for name in discovery.names():
        record = discovery.load(name)
        model = discovery.shipped_model(discovery.module(name))
        console.print(f"[bold]{name}[/]  {escape(record.title)}")
        console.print(f"{escape(record.paper.citation)}, {record.paper.where}", style="dim")
        console.print(f"[dim]{record.paper.url}[/]", soft_wrap=True)
        if (model / "model.json").is_file():
            console.print(f"ships a trained model: featurewise evaluate {name}")
        console.print(_table("preset", "cost", {p: record.cost.get(p, "") for p in record.presets}))
        console.print(_table("arm", "what it does", {a.name: a.what for a in record.arms}))


def _table(name: str, told: str, rows: dict[str, str]) -> Table:
    table = Table(name, told, box=None, pad_edge=True, header_style="italic")
    for key, value in rows.items():
        table.add_row(key, escape(value) or "–")
    return table
