"""The command line: ``featurewise systems``, ``train``, ``run``, ``cards``, ``ask`` and others.

Systems are found by the names of their files. The work is done in `featurewise.study` and
`featurewise.explorer`. A command imports torch only when it runs, not for help or completion.
"""

from __future__ import annotations

from typing import Annotated

import typer

from featurewise import __version__
from featurewise.cli import weights, world
from featurewise.cli.ask import ask
from featurewise.cli.cards import cards
from featurewise.cli.demo import demo
from featurewise.cli.errors import Commands
from featurewise.cli.evaluate import evaluate
from featurewise.cli.explore import explore, export
from featurewise.cli.run import run
from featurewise.cli.streams import accept_any_terminal, plain_warnings
from featurewise.cli.stylize import stylize
from featurewise.cli.systems import systems
from featurewise.cli.train import train

app = typer.Typer(
    cls=Commands,
    name="featurewise",
    help="Condition any neural network on anything: published systems to train and evaluate.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(systems)
app.command()(train)
app.command()(run)
app.command()(cards)
app.command()(evaluate)
app.command()(ask)
app.command()(stylize)
app.command()(explore)
app.command()(export)
app.add_typer(world.app, name="world")
app.add_typer(weights.app, name="weights")
app.command()(demo)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"featurewise {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options of all commands."""


def main() -> None:
    """Runs the command line."""
    accept_any_terminal()
    plain_warnings()
    app(prog_name="featurewise")
