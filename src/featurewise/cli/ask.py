"""``featurewise ask``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from featurewise.cli import discovery, example
from featurewise.cli.console import Terminal
from featurewise.cli.errors import UsageError, UserError, is_expected
from featurewise.cli.evaluate import RUN_HELP
from featurewise.cli.png import own_png, write_png
from featurewise.cli.streams import notes

if TYPE_CHECKING:
    from torch import nn

    from featurewise.study.answerer import Answer, Answerer, InputImage

_BAR = 30  # columns of a probability of 1
_SOFTWARE = "featurewise ask"


def ask(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help=RUN_HELP, autocompletion=discovery.complete_run),
    ] = None,
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A PNG or JPEG image.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="QUESTION",
            help="In English, in quotes; without it, questions are read line by line.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="PNG file, or folder for IMAGE.attention.png: the image with a heat map of the "
            "positions that determine the answer. Only a file that this command wrote is "
            "overwritten.",
            show_default="none",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of answers to print.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_example: Annotated[
        bool,
        typer.Option(
            "--example",
            help="Run the shipped FiLM model on an image and a question that are part of the "
            "library; takes no arguments.",
        ),
    ] = False,
) -> None:
    """Ask a trained network a question about an image.

    RUN and IMAGE are required, except with --example. Without QUESTION a prompt opens, where one
    question after the other is answered; an empty line or Ctrl-D ends it.
    """
    from featurewise.study.model import load_network

    run, image, question = _arguments(run, image, question, as_example)
    found = discovery.find(run)
    answerer = discovery.answerer(found.system)
    network, config = load_network(found.folder, found.system)
    shown = answerer.image(config, image)
    target = None
    if out is not None:
        name = f"{image.name}.attention.png"
        target = own_png(out, image, "the image of the question", name, _SOFTWARE)

    def answer(question: str) -> str | None:
        """Answers a question; returns why the heat map could not be written, if it could not."""
        return _answer(answerer, network, shown, question, target, top, as_json)

    if question is None:
        for line in _lines():
            try:
                failure = answer(line)
            except Exception as error:
                if not is_expected(error):
                    raise
                failure = str(error)  # the next question may be a better one
            if failure:
                notes().print(f"[red]{escape(failure)}[/]")
        return
    if not question.strip():
        raise UserError('the question is empty; write one, such as "How many cubes are there?"')
    if as_example and not as_json:
        typer.echo(f"image: {image}\nquestion: {question}")
    if failure := answer(question):
        raise UserError(failure)


def _lines() -> Iterator[str]:
    """Questions that are typed at a prompt, or lines of a pipe."""
    typed = _is_typed()
    while True:
        try:
            line = input("question: " if typed else "").strip()
        except EOFError:
            return
        if line:
            yield line
        elif typed:
            return


def _is_typed() -> bool:
    return sys.stdin.isatty()


def _answer(
    answerer: Answerer[Any],
    network: nn.Module,
    shown: InputImage,
    question: str,
    target: Path | None,
    top: int,
    as_json: bool,
) -> str | None:
    """Prints an answer and writes its heat map; returns why the latter failed, if it did."""
    answer = answerer.answer(network, shown.pixels, question)
    remarks = [shown.note] if shown.note else []
    if target is not None and answer.places is None:
        remarks.append(f"{target} is not written: this network has no max-pooled feature map")
    failure = None
    if target is not None and answer.places is not None:
        failure = _save(shown, answer.places.numpy(), target)
    written = None if failure or answer.places is None else target
    if as_json:
        typer.echo(json.dumps(_as_dict(answer, top, remarks, written), indent=1))
    else:
        _print(Terminal(highlight=False, soft_wrap=True), answer, top, remarks, written)
    return f"{target}: {failure}" if failure else None


def _arguments(
    run: str | None, image: Path | None, question: str | None, as_example: bool
) -> tuple[str, Path, str | None]:
    """The three arguments, or those of the example; None where questions are to be read.

    Raises:
        UsageError: an argument is missing, or there are arguments beside ``--example``.
    """
    given = {"RUN": run, "IMAGE": image, "QUESTION": question}
    if as_example:
        if any(value is not None for value in given.values()):
            raise UsageError("--example takes no RUN, IMAGE or QUESTION")
        return discovery.QUESTIONS, example.IMAGE, example.QUESTION
    if run is None or image is None:
        missing = ", ".join(name for name in ("RUN", "IMAGE") if given[name] is None)
        raise UsageError(f"Missing {missing}; only --example needs no arguments")
    return run, image, question


def _save(shown: InputImage, places: Any, target: Path) -> str | None:
    """Writes the heat map; returns the reason if that fails, so that the answer is still printed.

    Args:
        shown: the image that the user gave.
        places: array (h, w), the share of each position in the answer.
        target: the PNG file.
    """
    from featurewise.explorer.overlay import heat

    return write_png(target, heat(shown.original, places, shown.rows), _SOFTWARE)


def _as_dict(answer: Answer, top: int, remarks: list[str], written: Path | None) -> dict[str, Any]:
    return {
        "question": answer.question,
        "answers": [{"answer": a, "probability": p} for a, p in answer.ranked[:top]],
        "unknown_words": list(answer.unknown),
        "near_words": {word: list(near) for word, near in answer.unknown.items() if near},
        "notes": remarks,
        "attention": None if written is None else str(written),
    }


def _print(
    console: Terminal, answer: Answer, top: int, remarks: list[str], written: Path | None
) -> None:
    stderr = notes()
    if answer.unknown:
        words = ", ".join(repr(word) for word in answer.unknown)
        stderr.print(f"[yellow]unknown words[/], encoded as <unk>: {escape(words)}")
        for word, near in answer.unknown.items():
            if near:
                hint = f"{word!r}: did you mean {' or '.join(map(repr, near))}?"
                stderr.print(f"  {escape(hint)}")
    for remark in remarks:
        stderr.print(f"[yellow]note[/]: {escape(remark)}")
    rows = Table.grid(padding=(0, 2))
    for text, probability in answer.ranked[:top]:
        bar = "█" * round(_BAR * probability)
        rows.add_row(f"[bold]{text}[/]", f"{probability:6.1%}", f"[cyan]{bar}[/]")
    console.print(rows)
    if written is not None:
        console.print(f"heat map: {written}", markup=False)
