"""``featurewise ask``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from featurewise.cli import discovery, example
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UserError
from featurewise.cli.evaluate import RUN_HELP
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from PIL.Image import Image

_BAR = 30
_SOFTWARE = "featurewise ask"


def _show_example(wanted: bool) -> bool:
    """Asks the model that comes with FiLM, and ends the command."""
    if wanted:
        typer.echo(f"image: {example.IMAGE}\nquestion: {example.QUESTION}")
        ask("film", example.IMAGE, example.QUESTION)
        raise typer.Exit
    return wanted


def ask(
    run: Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=discovery.complete_run)],
    image: Annotated[Path, typer.Argument(help="A PNG or JPEG image.")],
    question: Annotated[str, typer.Argument(help="In English, in quotes.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="PNG file, or folder for IMAGE.attention.png, that shows where it looked. "
            "Only a file that this command made is overwritten.",
            show_default="none",
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
    """Ask a trained network a question about an image."""
    from featurewise.study.model import load_network
    from featurewise.worlds.clevr.images import read_rgb_image

    found = discovery.find(run)
    answering = discovery.part(found, "answering")
    original = read_rgb_image(image)
    if not question.strip():
        raise UserError('the question is empty; ask something, such as "How many cubes are there?"')
    place = None if out is None else _place(image, out)
    network, settings = load_network(found.folder, found.system)
    answer = answering.answer(network, answering.picture(settings, image), question)
    said = [note] if (note := answering.framing(settings, image)) else []
    if place is not None and answer.places is None:
        said.append(f"{place} is not written: this network pools no map of places")
    failed = None
    if place is not None and answer.places is not None:
        rows = answering.attended_rows(settings, original.size)
        failed = _save(original, answer.places.numpy(), rows, place)
    shown = None if failed or answer.places is None else place
    if as_json:
        typer.echo(json.dumps(_facts(answer, top, said, shown), indent=1))
    else:
        _show(Terminal(highlight=False, soft_wrap=True), answer, top, said, shown)
    if failed:
        raise UserError(f"{place}: {failed}")


def _place(image: Path, out: Path) -> Path:
    """The file that is asked for; refused where something of the user's would be lost."""
    if out.is_dir():
        out = out / f"{image.name}.attention.png"
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: is written as PNG; name a file that ends in .png")
    if not out.exists():
        return out
    if out.samefile(image):
        raise UserError(f"{out}: is the image of the question; name another file")
    if not _made_by_us(out):
        raise UserError(f"{out}: exists and was not made by this command; name another file")
    return out


def _made_by_us(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as found:
            return found.info.get("Software") == _SOFTWARE
    except (OSError, SyntaxError, ValueError):
        return False


def _save(original: Image, places: Any, rows: tuple[float, float], place: Path) -> str | None:
    """Writes the overlay; says why where it cannot, so that the answer is not lost."""
    from io import BytesIO

    from PIL.PngImagePlugin import PngInfo

    from featurewise.common.files import write_bytes
    from featurewise.explorer.overlay import heat

    mark = PngInfo()
    mark.add_text("Software", _SOFTWARE)
    heat(original, places, rows).save(content := BytesIO(), format="PNG", pnginfo=mark)
    try:
        write_bytes(place, content.getvalue())
    except OSError as error:
        return error.strerror or str(error)
    return None


def _facts(answer: Any, top: int, said: list[str], place: Path | None) -> dict[str, Any]:
    return {
        "question": answer.question,
        "answers": [{"answer": a, "probability": p} for a, p in answer.ranked[:top]],
        "unknown_words": list(answer.unknown),
        "near_words": {word: list(near) for word, near in answer.unknown.items() if near},
        "notes": said,
        "attention": None if place is None else str(place),
    }


def _show(console: Terminal, answer: Any, top: int, said: list[str], place: Path | None) -> None:
    aside = notes()
    if answer.unknown:
        words = ", ".join(repr(word) for word in answer.unknown)
        aside.print(f"[yellow]unknown words[/], read as blanks: {escape(words)}")
        for word, near in answer.unknown.items():
            if near:
                hint = f"{word!r}: did you mean {' or '.join(map(repr, near))}?"
                aside.print(f"  {escape(hint)}")
    for note in said:
        aside.print(f"[yellow]note[/]: {escape(note)}")
    rows = Table.grid(padding=(0, 2))
    for text, probability in answer.ranked[:top]:
        bar = "█" * round(_BAR * probability)
        rows.add_row(f"[bold]{text}[/]", f"{probability:6.1%}", f"[cyan]{bar}[/]")
    console.print(rows)
    if place is not None:
        console.print(f"where it looked: {place}", markup=False)
