"""``ExplorerBundle``: what the explorer shows of one network, in one sealed file."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from featurewise.common.errors import wrap_errors
from featurewise.common.files import write_bytes
from featurewise.common.json import loads
from featurewise.common.opening import read_bytes
from featurewise.common.seal import PLACEHOLDER, check_tensors, seal_tensors
from featurewise.explorer.document import packed, page
from featurewise.explorer.schema import FORMAT, Content, PageBundle

_METADATA: Final = f"featurewise.ExplorerBundle.{FORMAT}"
_OTHER: Final = "not an explorer bundle"
_NOTEBOOK_HEIGHT: Final = 760  # pixels


class ExplorerError(ValueError):
    """A bundle cannot be made, read or written, or a package for it is not installed."""


@dataclass(frozen=True, eq=False)
class ExplorerBundle:
    """Task representations of many conditions, with labels, projections and statistics.

    `featurewise.explore` makes one. It is written as a sealed safetensors file (`save`), or as one
    HTML page that works offline (`export`); at the end of a notebook cell the page is shown.

    Attributes:
        content: all but arrays.
        arrays: float32, by the names that ``content`` gives them.
    """

    content: Content
    arrays: Mapping[str, Tensor]

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one safetensors file: the arrays; content and SHA-256 as its metadata.

        Args:
            path: the file.
            overwrite: whether an existing file is replaced.

        Raises:
            ExplorerError: there is such a file already, and ``overwrite`` is false.
            OSError: the file cannot be written.
        """
        path = writable(path, overwrite)
        content = {"content": asdict(self.content), "sha256": PLACEHOLDER}
        said = json.dumps(content, allow_nan=False)
        raw = to_bytes(dict(self.arrays), metadata={_METADATA: said})
        write_bytes(path, seal_tensors(raw))
        return path

    @classmethod
    def load(cls, path: str | Path) -> ExplorerBundle:
        """Read a file that ``save`` wrote.

        Raises:
            ExplorerError: the file is no bundle, is damaged or of another version, or pydantic is
                not installed.
            OSError: there is no such file.
        """
        raw = read_bytes(path)
        with wrap_errors(path, ExplorerError, ExplorerError, what=_OTHER):
            return cls(*_read(raw))

    def export(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page as one HTML file, which opens in any browser and loads nothing else.

        Args:
            path: the file.
            overwrite: whether an existing file is replaced.

        Raises:
            ExplorerError: there is such a file already, and ``overwrite`` is false.
            OSError: the file cannot be written.
        """
        return save_page([self], path, overwrite=overwrite)

    def packed(self) -> PageBundle:
        """The bundle as the page reads it."""
        return PageBundle(
            content=self.content,
            arrays={name: packed(values) for name, values in self.arrays.items()},
        )

    def _repr_html_(self) -> str:
        """The page in a notebook: an ``iframe`` that holds all of it."""
        text, title = html.escape(page([self.packed()])), html.escape(self.content.title)
        style = f"width:100%;height:{_NOTEBOOK_HEIGHT}px;border:0"
        return f'<iframe srcdoc="{text}" title="{title}" style="{style}"></iframe>'

    def __repr__(self) -> str:
        count = self.content.conditions
        return (
            f"ExplorerBundle({self.content.title!r}, {count.shown:,} of {count.total:,} "
            f"conditions, {len(self.content.sites)} sites)"
        )


def save_page(
    bundles: Sequence[ExplorerBundle], path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write one HTML file that shows several networks; see `ExplorerBundle.export`.

    Args:
        bundles: of the networks.
        path: the file.
        overwrite: whether an existing file is replaced.

    Raises:
        ExplorerError: there is such a file already, and ``overwrite`` is false.
        OSError: the file cannot be written.
    """
    path = writable(path, overwrite)
    write_bytes(path, page([each.packed() for each in bundles]).encode())
    return path


def writable(path: str | Path, overwrite: bool) -> Path:
    """The path, if it may be written to.

    Raises:
        ExplorerError: there is such a file already, and ``overwrite`` is false; or its folder is
            missing.
    """
    path = Path(path)
    if not overwrite and path.exists():
        raise ExplorerError(f"{path} exists and is not replaced unasked; give another name")
    if not path.parent.is_dir():
        raise ExplorerError(f"{path.parent}: no such folder")
    return path


def _read(raw: bytes) -> tuple[Content, dict[str, Tensor]]:
    try:
        from pydantic import TypeAdapter
    except ImportError as error:
        raise ExplorerError(
            "bundles are read with pydantic: pip install 'featurewise[explorer]'"
        ) from error
    tensors = from_bytes(raw)
    header = loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")], max_bytes=len(raw))
    metadata: dict[str, Any] = header.get("__metadata__", {})
    if metadata.keys() != {_METADATA}:
        (name, *_) = [*metadata, "none"]
        raise ExplorerError(f"its metadata is {name!r}, that of a bundle is {_METADATA!r}")
    said = loads(metadata[_METADATA], max_bytes=len(raw))
    check_tensors(raw, said["sha256"])
    content = TypeAdapter(Content).validate_python(said["content"])
    for values in tensors.values():
        if values.dtype != torch.float32:
            raise ExplorerError(f"its arrays are {values.dtype}, not torch.float32")
    return content, tensors
