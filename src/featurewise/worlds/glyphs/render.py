"""Letters of many faces as one tensor, drawn once and kept, and the scripts that faces share."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import features
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from featurewise.common.cache import cache_folder
from featurewise.common.files import write_bytes
from featurewise.common.locks import file_lock
from featurewise.common.opening import read_bytes
from featurewise.worlds.files import as_json, disk_cache
from featurewise.worlds.glyphs.attributes import ATTRIBUTES, attributes
from featurewise.worlds.glyphs.drawing import draw
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import covered, font_files
from featurewise.worlds.glyphs.typefaces import (
    SURVEY_VERSION,
    Typeface,
    check_letters,
    digest,
    faulty,
    find_all,
    stamped,
)

#: Counts up when the same letters come out as other pictures or numbers.
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Glyphs:
    """Letters of typefaces.

    Attributes:
        images: (F, L, S, S), ink 255 on paper 0.
        faces: the F typefaces.
        letters: the L letters.
        attributes: ``weight``, ``slant`` (degrees), ``serif`` and ``width`` of each face, (F,)
            each, as :mod:`featurewise.worlds.glyphs.attributes` measures them.
    """

    images: UInt8[Tensor, "F L S S"]
    faces: tuple[Typeface, ...]
    letters: str
    attributes: Mapping[str, Float[Tensor, "F"]]

    @property
    def size(self) -> int:
        """Height and width of a picture, in pixels."""
        return self.images.shape[-1]


def glyphs(faces: Sequence[Typeface], letters: str, size: int) -> Glyphs:
    """The letters of all faces, drawn at the first use and kept in the cache.

    Each face has one scale and one baseline for all letters, see
    :func:`featurewise.worlds.glyphs.drawing.draw`. What is kept is checked by its SHA-256 when
    it is read, and drawn anew when it is damaged.

    Args:
        faces: typefaces that draw all the letters.
        letters: different characters.
        size: height and width of a picture, 8 or more.

    Raises:
        GlyphError: no face, a wrong size or wrong letters.
        TypefaceError: a face lacks a letter, or its file changed since it was found.
    """
    check_letters(letters)
    if not faces:
        raise GlyphError("letters of no typeface are no pictures; give at least one")
    identity = {
        "format": FORMAT_VERSION,
        "faces": [face.digest for face in faces],
        "letters": letters,
        "size": size,
        "freetype": features.version("freetype2"),
    }
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    folder = cache_folder() / "glyphs"
    place = folder / f"{key[:16]}.safetensors"
    tensors = _kept(place, identity)
    if tensors is None:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(place.with_suffix(".lock")):
            tensors = _kept(place, identity)
            if tensors is None:  # another process may have drawn them meanwhile
                tensors = _drawn(faces, letters, size)
                content = save(tensors)
                write_bytes(place, content)
                sha256 = hashlib.sha256(content).hexdigest()
                write_bytes(_manifest(place), as_json({**identity, "sha256": sha256}))
    measured = {name: tensors[name] for name in ATTRIBUTES}
    return Glyphs(tensors["images"], tuple(faces), letters, measured)


def _manifest(place: Path) -> Path:
    return place.with_suffix(".json")


def _kept(place: Path, identity: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """What the cache holds, or None if it is missing, damaged or of something else."""
    try:
        manifest = json.loads(read_bytes(_manifest(place)))
        content = read_bytes(place)
        sha256 = hashlib.sha256(content).hexdigest()
        return load(content) if manifest == {**identity, "sha256": sha256} else None
    except (OSError, ValueError, SafetensorError):
        return None


def _drawn(faces: Sequence[Typeface], letters: str, size: int) -> dict[str, Tensor]:
    pictures = []
    for face in faces:
        lacking = [
            letter for letter in letters if ord(letter) not in covered(face.path, face.index)
        ]
        if lacking:
            raise TypefaceError(
                f"{face.path}: {face.family} {face.style} lacks {''.join(lacking)!r}; "
                f"find_typefaces(where, letters) gives those that have all"
            )
        if digest(face.path, face.index) != face.digest:
            raise TypefaceError(f"{face.path} changed since it was found; find the typefaces again")
        pictures.append(draw(face.path, face.index, letters, size))
    measured = [attributes(face.path, face.index) for face in faces]
    columns = {
        name: torch.tensor([values[name] for values in measured], dtype=torch.float32)
        for name in ATTRIBUTES
    }
    return {"images": torch.from_numpy(np.stack(pictures)), **columns}


@dataclass(frozen=True)
class Script:
    """The letters of a script and the faces that draw them all.

    Attributes:
        name: as Unicode begins the names of its letters, such as ``GEORGIAN``.
        typefaces: the faces, at least one.
        letters: 15 or more, all different in each face.
    """

    name: str
    typefaces: tuple[Typeface, ...]
    letters: str


#: Fewest letters of a script.
FEWEST_LETTERS: Final = 15
#: A face with a larger share of faulty letters does not draw the script.
_FAULTS: Final = 0.1


def scripts(where: str | Path = "bundled") -> dict[str, Script]:
    """The scripts that the faces of a place draw: few-shot classes that no one has named before.

    A script has small letters, or letters of no case, that are neither composed of others nor
    named as variants ("with"). Of the sets of letters that some face draws, the one is taken for
    which letters times faces are most; those that some of these faces draws blank, as missing, or
    as another letter, are left out.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.

    Returns:
        Scripts by name, in alphabetical order.

    Raises:
        TypefaceError: the place is missing.
    """
    return dict(_scripts(stamped(font_files(where)), where))


@lru_cache(maxsize=4)
def _scripts(stamps: tuple[tuple[str, str], ...], where: str | Path) -> dict[str, Script]:
    def find() -> dict[str, Any]:
        faces = find_all(where)
        found = {name: _script(name, pts, faces) for name, pts in _points_of_scripts().items()}
        return {
            name: {"letters": each.letters, "faces": [face.to_json() for face in each.typefaces]}
            for name, each in found.items()
            if each is not None
        }

    versions = [SURVEY_VERSION, features.version("freetype2"), unicodedata.unidata_version]
    return {
        name: Script(name, tuple(map(Typeface.from_json, each["faces"])), each["letters"])
        for name, each in disk_cache("glyphs/scripts", [versions, stamps], find).items()
    }


def _script(name: str, points: frozenset[int], faces: Sequence[Typeface]) -> Script | None:
    drawn = {face: points & covered(face.path, face.index) for face in faces}
    sets = sorted({frozenset(some) for some in drawn.values()}, key=lambda some: sorted(some))
    sets = [some for some in sets if len(some) >= FEWEST_LETTERS]
    if not sets:
        return None
    wanted = max(sets, key=lambda some: len(some) * sum(some <= has for has in drawn.values()))
    letters = "".join(map(chr, sorted(wanted)))
    able, left_out = [], set[str]()
    for face in faces:
        if wanted <= drawn[face]:
            faults = _faults(face, letters)
            if len(faults) <= _FAULTS * len(letters):
                able.append(face)
                left_out |= faults
    letters = "".join(letter for letter in letters if letter not in left_out)
    enough = able and len(letters) >= FEWEST_LETTERS
    return Script(name, tuple(able), letters) if enough else None


def _faults(face: Typeface, letters: str) -> set[str]:
    """The letters that a face says it has and does not draw, or not apart from others."""
    try:
        pictures = draw(face.path, face.index, letters, 32)
    except GlyphError:
        return set(letters)
    return set(faulty(face.path, face.index, letters, pictures))


#: What ends the name of a script in the name of a letter.
_KINDS: Final = frozenset(
    {"CAPITAL", "CHARACTER", "CONSONANT", "FINAL", "HIEROGLYPH", "IDEOGRAM", "INDEPENDENT"}
    | {"LETTER", "LOGOGRAM", "MODIFIER", "SIGN", "SMALL", "SYLLABICS", "SYLLABLE", "VOWEL"}
)


@lru_cache(maxsize=1)
def _points_of_scripts() -> dict[str, frozenset[int]]:
    """Code points of the plain letters of each script, by the first words of their names."""
    points: dict[str, set[int]] = {}
    for point in range(0x41, 0x20000):
        letter = chr(point)
        if unicodedata.category(letter) not in ("Ll", "Lo") or unicodedata.decomposition(letter):
            continue
        words = unicodedata.name(letter, "").split()
        ends = [i for i, word in enumerate(words) if word in _KINDS]
        if ends and ends[0] > 0 and "WITH" not in words:
            points.setdefault(" ".join(words[: ends[0]]), set()).add(point)
    return {name: frozenset(points[name]) for name in sorted(points)}
