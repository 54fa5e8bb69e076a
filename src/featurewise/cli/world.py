"""``featurewise world``: data sets drawn by the built-in worlds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(
    help="Draw data sets of the built-in worlds.", no_args_is_help=True, rich_markup_mode=None
)


class Cogent(StrEnum):
    """The two conditions of CLEVR-CoGenT."""

    A = "A"
    B = "B"


@app.callback()
def world() -> None:
    """Draw data sets of the built-in worlds."""


@app.command()
def clevr(
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set; splits may share it.")],
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    seed: Annotated[
        int, typer.Option(min=0, help="Decides the content; give each split another.")
    ] = 0,
    width: Annotated[int, typer.Option(min=1, help="In pixels.")] = 480,
    height: Annotated[int, typer.Option(min=1, help="In pixels.")] = 320,
    samples: Annotated[int, typer.Option(min=1, help="Paths per pixel: 1, 4, 9, 16, ...")] = 16,
    questions: Annotated[int, typer.Option(min=1, help="Questions about each picture.")] = 10,
    cogent: Annotated[
        Cogent | None, typer.Option(help="Colours as in this condition of CLEVR-CoGenT.")
    ] = None,
) -> None:
    """Draw pictures and ask questions, in the file format of CLEVR v1.0.

    Nothing in the folder comes from CLEVR itself. Stopped at any moment, the same line goes on.
    """
    from featurewise.worlds.clevr import write_dataset

    condition: Literal["A", "B"] | None = cogent.value if cogent else None
    columns = (
        TextColumn("drawing pictures"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=count)
        manifest = write_dataset(
            out,
            count=count,
            seed=seed,
            split=split,
            questions_per_image=questions,
            width=width,
            height=height,
            samples=samples,
            cogent=condition,
            progress=lambda made, total: bar.update(task, completed=made),
        )
        bar.update(task, completed=count)
    typer.echo(f"{count} pictures with their questions are in {out} (see {manifest.name}).")
