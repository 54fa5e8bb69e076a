"""For the built pages: figures of published results are taken from ``results/``, where they stand.

Cards name them by their path in the repository, so that they also show where it is browsed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).parents[1] / "results"
_FROM_CARDS, _ON_SITE = "](../../results/", "](../results/"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """A hook of MkDocs: adds the figures to the files of the site, under ``results/``."""
    for path in sorted(RESULTS.rglob("*.png")):
        uri = f"results/{path.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A hook of MkDocs: the addresses of the figures as they are on the site."""
    return markdown.replace(_FROM_CARDS, _ON_SITE)
