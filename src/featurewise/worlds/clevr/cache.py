"""Pools in the cache folder: several runs and arms train on the same images."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from featurewise.common.cache import cache_folder
from featurewise.common.processes import exit_if_unguarded
from featurewise.worlds.clevr.data import build_pool
from featurewise.worlds.clevr.generate import Recipe
from featurewise.worlds.clevr.pool import FORMAT_VERSION
from featurewise.worlds.clevr.vocabulary import VOCABULARY


def cached_pool(recipe: Recipe, images: int, *, workers: int | None = None) -> Path:
    """The pool of a recipe from the cache; if it is not there, it is made, with a progress bar.

    Args:
        recipe: settings of the images and questions.
        images: number of images.
        workers: most processes to render in; default: one per processor. A small pool, of one
            block, is rendered in this process.

    Returns:
        The pool's folder, for ``PoolSource``.

    Raises:
        WorldError: as ``build_pool``.
    """
    settings = recipe.settings()
    if settings["renderer"] == "torch":
        del settings["renderer"]  # as in version 0.1, so that its pools are found
    identity = {**settings, "images": images, "format": FORMAT_VERSION, "words": VOCABULARY}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = cache_folder() / "clevr" / digest[:16]
    if (folder / "pool.json").exists():
        return folder
    exit_if_unguarded()  # before the progress bar is shown
    folder.parent.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"rendering images {recipe.width}x{recipe.height}", total=images)
        return build_pool(
            folder,
            recipe,
            images=images,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            on_progress=lambda made, total: bar.update(task, completed=made),
        )
