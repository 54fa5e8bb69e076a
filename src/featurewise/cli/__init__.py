"""The command line: ``featurewise systems``, ``train``, ``run``, ``cards``, ``ask`` and others.

Thin: it finds systems by the names of their files and joins them to the lab and the explorer.
"""

from __future__ import annotations

import typer

from featurewise.cli import world
from featurewise.cli.ask import ask
from featurewise.cli.cards import cards
from featurewise.cli.demo import demo
from featurewise.cli.errors import Commands
from featurewise.cli.evaluate import evaluate
from featurewise.cli.run import run
from featurewise.cli.systems import systems
from featurewise.cli.train import train

app = typer.Typer(
    cls=Commands,
    name="featurewise",
    help="Condition any neural network on anything: published systems to train, measure and ask.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(systems)
app.command()(train)
app.command()(run)
app.command()(cards)
app.command()(evaluate)
app.command()(ask)
app.add_typer(world.app, name="world")
app.command()(demo)


def main() -> None:
    """Runs the command line."""
    app(prog_name="featurewise")
