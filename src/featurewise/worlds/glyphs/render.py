"""Letters of many typefaces as one tensor, rendered once and cached; letters by Unicode script."""

from __future__ import annotations

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
from torch import Tensor

from featurewise.worlds.files import disk_cache
from featurewise.worlds.glyphs.attributes import ATTRIBUTES, attributes
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import code_points, font_files
from featurewise.worlds.glyphs.rasterize import rasterize
from featurewise.worlds.glyphs.typefaces import (
    SURVEY_VERSION,
    Typeface,
    check_letters,
    digest,
    faulty,
    find_all,
    stamped,
)
from featurewise.worlds.tensors import tensor_cache

#: Increase it whenever the same letters give other images or attributes.
FORMAT_VERSION: Final = 1


@dataclass(frozen=True)
class Glyphs:
    """Letters of typefaces.

    Attributes:
        images: (F, L, S, S), ink 255, background 0.
        typefaces: the F typefaces.
        letters: the L letters.
        attributes: ``weight``, ``slant`` (degrees), ``serif`` and ``width`` of each typeface, (F,)
            each, as :mod:`featurewise.worlds.glyphs.attributes` defines them.
    """

    images: UInt8[Tensor, "F L S S"]
    typefaces: tuple[Typeface, ...]
    letters: str
    attributes: Mapping[str, Float[Tensor, "F"]]

    @property
    def size(self) -> int:
        """Height and width of an image, in pixels."""
        return self.images.shape[-1]


def glyphs(typefaces: Sequence[Typeface], letters: str, size: int) -> Glyphs:
    """The letters of all typefaces, rendered at the first call, then cached.

    Each typeface has one scale and one baseline for all letters, see
    :func:`featurewise.worlds.glyphs.rasterize.rasterize`. Cached images are checked by their
    SHA-256; damaged ones are rendered again.

    Args:
        typefaces: typefaces that have all the letters.
        letters: different characters.
        size: height and width of an image, in pixels, 8 or more.

    Raises:
        GlyphError: no typeface, a wrong size or wrong letters.
        TypefaceError: a typeface lacks a letter, or its file changed since it was found.
    """
    check_letters(letters)
    if not typefaces:
        raise GlyphError("there are no typefaces to render; pass at least one")
    identity = {
        "format": FORMAT_VERSION,
        "typefaces": [typeface.digest for typeface in typefaces],
        "letters": letters,
        "size": size,
        "freetype": features.version("freetype2"),
    }
    tensors = tensor_cache("glyphs", identity, lambda: _render(typefaces, letters, size))
    measured = {name: tensors[name] for name in ATTRIBUTES}
    return Glyphs(tensors["images"], tuple(typefaces), letters, measured)


def _render(typefaces: Sequence[Typeface], letters: str, size: int) -> dict[str, Tensor]:
    """Images (F, L, S, S) of the letters, and each attribute (F,) of the typefaces."""
    images = []
    for typeface in typefaces:
        lacking = [
            letter
            for letter in letters
            if ord(letter) not in code_points(typeface.path, typeface.index)
        ]
        if lacking:
            raise TypefaceError(
                f"{typeface.path}: {typeface.family} {typeface.style} lacks {''.join(lacking)!r}; "
                f"find_typefaces(where, letters) returns those that have all letters"
            )
        if digest(typeface.path, typeface.index) != typeface.digest:
            raise TypefaceError(
                f"{typeface.path} changed since it was found; find the typefaces again"
            )
        images.append(rasterize(typeface.path, typeface.index, letters, size))
    measured = [attributes(typeface.path, typeface.index) for typeface in typefaces]
    columns = {
        name: torch.tensor([values[name] for values in measured], dtype=torch.float32)
        for name in ATTRIBUTES
    }
    return {"images": torch.from_numpy(np.stack(images)), **columns}


@dataclass(frozen=True)
class Script:
    """The letters of a Unicode script and the typefaces that have them all.

    Attributes:
        name: the first words of the Unicode names of its letters, such as ``GEORGIAN``.
        typefaces: at least one.
        letters: 15 or more, rendered differently from each other in each typeface.
    """

    name: str
    typefaces: tuple[Typeface, ...]
    letters: str


#: Scripts with fewer letters are left out.
MIN_LETTERS: Final = 15
#: A typeface with a larger share of faulty letters does not count as having the script.
_MAX_FAULTY: Final = 0.1


def scripts(where: str | Path = "bundled") -> dict[str, Script]:
    """The Unicode scripts that the typefaces of a location have: classes for few-shot learning.

    The letters of a script are its lowercase letters, or its letters without case, that are neither
    composed of others nor named as variants ("with"). Of the sets of letters that typefaces have,
    the one with the largest number of letters times typefaces is taken. Letters that are blank, a
    missing glyph or the image of another letter in one of these typefaces are left out.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.

    Returns:
        Scripts by name, in alphabetical order.

    Raises:
        TypefaceError: the location is missing.
    """
    return dict(_scripts(stamped(font_files(where)), where))


@lru_cache(maxsize=4)
def _scripts(stamps: tuple[tuple[str, str], ...], where: str | Path) -> dict[str, Script]:
    def find() -> dict[str, Any]:
        typefaces = find_all(where)
        found = {name: _script(name, pts, typefaces) for name, pts in _points_of_scripts().items()}
        return {
            name: {
                "letters": each.letters,
                "typefaces": [typeface.to_json() for typeface in each.typefaces],
            }
            for name, each in found.items()
            if each is not None
        }

    versions = [SURVEY_VERSION, features.version("freetype2"), unicodedata.unidata_version]
    return {
        name: Script(name, tuple(map(Typeface.from_json, each["typefaces"])), each["letters"])
        for name, each in disk_cache("glyphs/scripts", [versions, stamps], find).items()
    }


def _script(name: str, points: frozenset[int], typefaces: Sequence[Typeface]) -> Script | None:
    own = {typeface: points & code_points(typeface.path, typeface.index) for typeface in typefaces}
    sets = sorted({frozenset(some) for some in own.values()}, key=lambda some: sorted(some))
    sets = [some for some in sets if len(some) >= MIN_LETTERS]
    if not sets:
        return None
    wanted = max(sets, key=lambda some: len(some) * sum(some <= has for has in own.values()))
    letters = "".join(map(chr, sorted(wanted)))
    accepted, left_out = [], set[str]()
    for typeface in typefaces:
        if wanted <= own[typeface]:
            faults = _faults(typeface, letters)
            if len(faults) <= _MAX_FAULTY * len(letters):
                accepted.append(typeface)
                left_out |= faults
    letters = "".join(letter for letter in letters if letter not in left_out)
    enough = accepted and len(letters) >= MIN_LETTERS
    return Script(name, tuple(accepted), letters) if enough else None


def _faults(typeface: Typeface, letters: str) -> set[str]:
    """The faulty letters of a typeface; all of them if they cannot be rendered."""
    try:
        images = rasterize(typeface.path, typeface.index, letters, 32)
    except GlyphError:
        return set(letters)
    return set(faulty(typeface.path, typeface.index, letters, images))


#: The name of a script ends before the first of these words in the name of a letter.
_KINDS: Final = frozenset(
    {"CAPITAL", "CHARACTER", "CONSONANT", "FINAL", "HIEROGLYPH", "IDEOGRAM", "INDEPENDENT"}
    | {"LETTER", "LOGOGRAM", "MODIFIER", "SIGN", "SMALL", "SYLLABICS", "SYLLABLE", "VOWEL"}
)


@lru_cache(maxsize=1)
def _points_of_scripts() -> dict[str, frozenset[int]]:
    """Script, the first words of the names of its letters -> code points of these letters."""
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
