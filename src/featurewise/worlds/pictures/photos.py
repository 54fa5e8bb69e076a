"""The photographs of several packages, in two parts that share no motif."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import PIL
from jaxtyping import UInt8
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.common.images import decode_image, read_image
from featurewise.worlds.digests import content_digests
from featurewise.worlds.pictures.albums import ALBUMS, MOTIFS, Album
from featurewise.worlds.pictures.errors import MissingPicturesError, PictureError
from featurewise.worlds.pictures.images import as_tensor, reduced
from featurewise.worlds.pictures.packages import INSTALL, resource_path
from featurewise.worlds.pictures.resources import read_resources
from featurewise.worlds.tensors import tensor_cache

SHORT_SIDE: Final = 256
"""Pixels of the short side of a photograph."""

LEAST: Final = 80
"""Photographs that must be there; with fewer, an error says what to install."""

#: Increase it whenever the same files give other photographs.
FORMAT_VERSION: Final = 1

_TRAIN_SHARE: Final = 0.8
_MOTIF_OF: Final = {name: motif for names, motif in MOTIFS.items() for name in names.split()}


@dataclass(frozen=True)
class Photograph:
    """A photograph, for its content.

    Attributes:
        name: where it is from and what it shows, such as ``explore_monuments/taj_mahal``.
        image: RGB; the short side has 256 pixels.
    """

    name: str
    image: UInt8[Tensor, "3 H W"]


def photographs(part: Literal["train", "test"]) -> tuple[Photograph, ...]:
    """The photographs of a part, of all installed packages, in the order of their names.

    About 80 % of the motifs are to train on. The part of a motif is a hash of its name: it is the
    same on every machine, whichever packages are there. Photographs are decoded and made smaller
    at the first call, then cached.

    Args:
        part: ``train`` or ``test``; no motif (a building, a kind of animal) is in both.

    Raises:
        MissingPicturesError: fewer than 80 photographs are there; the message says what to install.
        PictureError: there is no such part, or a resource file of the package is malformed.
        ImageFileError: a photograph is damaged.
    """
    if part not in ("train", "test"):
        raise PictureError(f"part must be 'train' or 'test', got {part!r}")
    return tuple(each for each, its_part in _all(tuple(_files())) if its_part == part)


def part_of(motif: str) -> str:
    """The part that a motif belongs to: ``train`` or ``test``."""
    share = int.from_bytes(sha256(motif.encode()).digest()[:8], "big") / 2**64
    return "train" if share < _TRAIN_SHARE else "test"


@dataclass(frozen=True)
class _File:
    """A file that is there, its album, and the names of its photographs."""

    path: Path
    album: Album
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.album.package}/{self.album.place}: {' '.join(self.names)}"


def _files() -> Iterator[_File]:
    for album in ALBUMS:
        if album.in_resources:
            found = [_File(resource_path(album.place), album, album.names)]
        else:
            folder = _scikit_learn() if album.package == "scikit-learn" else Path("/")
            places = {name: folder / album.place.format(name) for name in album.names}
            found = [_File(path, album, (name,)) for name, path in places.items()]
        yield from (file for file in found if file.path.is_file())


def _scikit_learn() -> Path:
    """Folder of the package, which is not imported."""
    found = importlib.util.find_spec("sklearn")
    return Path(found.origin).parent if found and found.origin else Path("/nowhere")


@cache
def _all(files: tuple[_File, ...]) -> tuple[tuple[Photograph, str], ...]:
    """All photographs of the files, each with its part."""
    named = {_name(file.album, name): name for file in files for name in file.names}
    if len(named) < LEAST:
        raise MissingPicturesError(
            f"{len(named)} photographs are installed, {LEAST} are needed; on Debian: {INSTALL}"
        )
    digests = content_digests(
        [file.path for file in files], cache_folder() / "photographs" / "digests.json"
    )
    identity = {
        "format": FORMAT_VERSION,
        "pillow": PIL.__version__,
        "files": dict(zip(map(str, files), digests, strict=True)),
    }

    def read() -> dict[str, Tensor]:
        return {name: image for file in files for name, image in _read(file)}

    images = tensor_cache("photographs", identity, read)
    return tuple(
        (Photograph(shown, images[shown]), part_of(_MOTIF_OF.get(name, name)))
        for shown, name in sorted(named.items())
    )


def _name(album: Album, name: str) -> str:
    """``explore_monuments/eiffel_tower`` for ``eiffelTower``."""
    words = re.sub("(?<=[a-z])(of|des|de|du|the)(?=[A-Z])", r"_\1", name)
    words = re.sub("_background$|(?<=[a-z])(?=[A-Z])", "_", words)
    return f"{album.place if album.in_resources else album.package}/{words.lower().strip('_')}"


def _read(file: _File) -> Iterator[tuple[str, Tensor]]:
    """Name and reduced image of each photograph of a file."""
    if not file.album.in_resources:
        image = reduced(read_image(file.path), SHORT_SIDE)
        yield _name(file.album, file.names[0]), as_tensor(image)
        return
    entries = read_resources(file.path)
    inside = {PurePosixPath(path).stem: path for path in entries if path.endswith(".webp")}
    for name in file.names:
        if name not in inside:
            raise PictureError(f"{file.path} lacks the photograph {name}.webp")
        content, where = entries[inside[name]], f"{file.path}: {inside[name]}"
        image = reduced(decode_image(content, where, formats=("WEBP",)), SHORT_SIDE)
        yield _name(file.album, name), as_tensor(image)
