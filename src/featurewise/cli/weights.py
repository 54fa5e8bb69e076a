"""``featurewise weights``: pretrained weights from installed packages, converted into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from featurewise.cli.console import Terminal
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from featurewise.models.pretrained.store import Source

app = typer.Typer(
    help="List and convert pretrained weights.", no_args_is_help=True, rich_markup_mode=None
)

_From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Folder in which the packages were installed, with pip install --target.",
        file_okay=False,
        exists=True,
        show_default="the environment",
    ),
]


@app.callback()
def weights() -> None:
    """List and convert pretrained weights."""


@app.command("list")
def list_weights(folder: _From = None) -> None:
    """List all weights: which packages are installed, and which weights are in the cache."""
    from featurewise.models.pretrained import convert

    console = Terminal(highlight=False, soft_wrap=True)
    for name in convert.NAMES:
        source = convert.source(name)
        installed = convert.package(source, folder)
        state = "not installed" if installed is None else f"{installed.version} is installed"
        console.print(f"[bold]{name}[/]  {escape(source.title)}")
        console.print(f"  package: {source.package}=={source.version} ({escape(state)})")
        console.print(f"  in the cache: {escape(_state(source))}")
        console.print(f"  licence: {escape(source.licence)}")
    console.print(
        "to convert them: featurewise weights convert [NAME]...", style="dim", markup=False
    )


def _state(source: Source) -> str:
    from featurewise.models.pretrained import convert

    try:
        if convert.is_converted(source):
            return "yes"
    except OSError as error:
        if not source.path.exists():  # the cache itself cannot be read
            raise
        return f"no: {source.path} cannot be read: {error.strerror or error}; remove it"
    return "damaged" if source.path.exists() else "no"


@app.command()
def convert(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Which weights, see featurewise weights list.",
            show_default="all whose package is installed",
        ),
    ] = None,
    folder: _From = None,
) -> None:
    """Convert weights of installed packages into safetensors in the cache.

    The packages are not imported. A file whose SHA-256 is not the known one raises an error and is
    not parsed. Weights that are in the cache are kept.
    """
    from featurewise.cli.errors import UserError
    from featurewise.models.pretrained import convert as conversion

    chosen = [conversion.source(name) for name in names or conversion.NAMES]
    if not names:
        chosen = [each for each in chosen if conversion.package(each, folder) is not None]
    if not chosen:
        packages = " ".join(
            f"{each.package}=={each.version}" for each in map(conversion.source, conversion.NAMES)
        )
        where = f" in {folder}" if folder else ""
        raise UserError(
            f"none of the packages is installed{where}: pip install --no-deps {packages}"
        )
    for number, source in enumerate(chosen, 1):
        notes().print(f"{number}/{len(chosen)} {source.title}", markup=False)
        path, written = conversion.convert(source.name, folder)
        done = f"{path.stat().st_size / 1e6:.1f} MB written" if written else "was there already"
        typer.echo(f"{source.name}: {path} ({done})")
