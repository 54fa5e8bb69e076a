"""``featurewise world``: data sets rendered by the built-in worlds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from featurewise.cli.streams import notes

app = typer.Typer(
    help="Render data sets of the built-in worlds.", no_args_is_help=True, rich_markup_mode=None
)


_SECONDS = {"numba": 0.12, "torch": 2.0}  # per image of the default size, on one core
_BYTES = 63_000
_ANY_SECONDS, _ANY_BYTES = 0.005, 13_000  # per image of any size: its scene and questions


class Cogent(StrEnum):
    """The two conditions of CLEVR-CoGenT."""

    A = "A"
    B = "B"


@app.callback()
def world() -> None:
    """Render data sets of the built-in worlds."""


@app.command()
def clevr(
    count: Annotated[int, typer.Option(min=1, help="Number of images.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the data set; one folder can hold several splits.")
    ],
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed; use a different one for each split.")
    ] = 0,
    width: Annotated[int, typer.Option(min=1, help="In pixels.")] = 480,
    height: Annotated[int, typer.Option(min=1, help="In pixels.")] = 320,
    samples_per_pixel: Annotated[
        int, typer.Option(min=1, help="A square number: 1, 4, 9, 16, ...")
    ] = 16,
    questions_per_image: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 10,
    cogent: Annotated[
        Cogent | None,
        typer.Option(help="Colors of objects as in condition A or B of CLEVR-CoGenT."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that render; 0 renders in the main process.",
            show_default="all processors",
        ),
    ] = None,
) -> None:
    """Render images and generate questions, in the file format of CLEVR v1.0.

    An image of the default size takes about 0.12 seconds on one core and 76 kB of disk, or 2
    seconds without numba (pip install 'featurewise[fast]'). No file of CLEVR itself is used. If the
    command is stopped, run it again to resume; run it with a larger --count to extend the data set.
    """
    from featurewise.worlds.clevr import write_dataset

    condition: Literal["A", "B"] | None = cogent.value if cogent else None
    processes = (os.cpu_count() or 1) if workers is None else workers
    with _progress(
        _expected(count, width, height, samples_per_pixel, max(processes, 1))
    ) as progress:
        manifest = write_dataset(
            out,
            count=count,
            seed=seed,
            split=split,
            questions_per_image=questions_per_image,
            width=width,
            height=height,
            samples=samples_per_pixel,
            cogent=condition,
            workers=processes,
            on_progress=progress,
        )
    typer.echo(f"{count} images with their questions are in {out} (see {manifest.name}).")


def _expected(count: int, width: int, height: int, samples: int, cores: int) -> str:
    """One sentence about the expected time and disk space of rendering."""
    from featurewise.worlds.clevr.render import default_renderer

    share = width * height / (480 * 320)  # relative to the default size, whose cost was measured
    seconds = count * (_ANY_SECONDS + _SECONDS[default_renderer()] * share * samples / 16) / cores
    time = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{max(seconds, 1):.0f} seconds"
    size = count * (_ANY_BYTES + _BYTES * share) / 1e6
    return (
        f"{count} images of {width} x {height}: about {time} on {cores} cores, {size:.1f} MB, less "
        "for images that exist already"
    )


@contextmanager
def _progress(sentence: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error below a sentence; both appear with the first progress."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=notes())
    task = bar.add_task("")

    def show(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.console.print(sentence)
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
