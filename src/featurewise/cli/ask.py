"""``featurewise ask``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featurewise.cli import discovery, example
from featurewise.cli.errors import UserError
from featurewise.cli.evaluate import RUN_HELP
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from PIL import Image

_BAR = 30


def _show_example(wanted: bool) -> bool:
    """Asks the model that comes with FiLM, and ends the command."""
    if wanted:
        typer.echo(f"image: {example.IMAGE}\nquestion: {example.QUESTION}")
        ask("film", example.IMAGE, example.QUESTION)
        raise typer.Exit
    return wanted


def ask(
    run: Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=discovery.complete_run)],
    image: Annotated[Path, typer.Argument(help="A PNG or JPEG picture.")],
    question: Annotated[str, typer.Argument(help="In English, in quotes.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to put the picture of what it looked at.",
            show_default="IMAGE.attention.png",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many answers to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    as_example: Annotated[
        bool,
        typer.Option(
            "--example",
            help="Ask the model that comes with FiLM about an image that comes with it.",
            callback=_show_example,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Ask a trained network a question about a picture."""
    from featurewise.explorer.overlay import heat
    from featurewise.lab.model import load_network
    from featurewise.worlds.clevr.images import read_picture

    found = discovery.find(run)
    answering = discovery.part(found, "answering")
    original = read_picture(image)
    if not question.strip():
        raise UserError('the question is empty; ask something, such as "How many cubes are there?"')
    network, settings = load_network(found.folder, found.system)
    answer = answering.answer(network, answering.picture(settings, image), question)
    place = None
    if answer.places is not None:
        place = _save(heat(original, answer.places.numpy()), image, out)
    if as_json:
        typer.echo(json.dumps(_facts(answer, top, place), indent=1))
        return
    _show(Console(highlight=False, soft_wrap=True), answer, top, place)


def _save(overlay: Image.Image, image: Path, out: Path | None) -> Path:
    """Where the overlay was put: as told, else beside the picture, else here."""
    name = f"{image.stem}.attention.png"
    if out is not None:
        overlay.save(out, format="PNG")
        return out
    try:
        overlay.save(image.with_name(name), format="PNG")
    except OSError:
        overlay.save(name, format="PNG")
        return Path(name)
    return image.with_name(name)


def _facts(answer: Any, top: int, place: Path | None) -> dict[str, Any]:
    return {
        "question": answer.question,
        "answers": [{"answer": a, "probability": p} for a, p in answer.ranked[:top]],
        "unknown_words": list(answer.unknown),
        "attention": None if place is None else str(place),
    }


def _show(console: Console, answer: Any, top: int, place: Path | None) -> None:
    if answer.unknown:
        words = ", ".join(repr(word) for word in answer.unknown)
        notes().print(f"[yellow]unknown words[/], read as blanks: {escape(words)}")
    rows = Table.grid(padding=(0, 2))
    for text, probability in answer.ranked[:top]:
        bar = "█" * round(_BAR * probability)
        rows.add_row(f"[bold]{text}[/]", f"{probability:6.1%}", f"[cyan]{bar}[/]")
    console.print(rows)
    if place is not None:
        console.print(f"what it looked at: {place}", markup=False)
