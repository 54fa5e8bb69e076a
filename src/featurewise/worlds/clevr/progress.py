"""A progress bar on the error stream while the images of a data set are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from featurewise.worlds.clevr.pool import Progress


@contextmanager
def reading_images() -> Iterator[Progress]:
    """A progress bar, as ``on_progress`` of ``DiskSource``; shown from its first call on."""
    columns = TextColumn("reading images"), BarColumn(), MofNCompleteColumn()
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", visible=False)
        yield lambda made, total: bar.update(task, completed=made, total=total, visible=True)
