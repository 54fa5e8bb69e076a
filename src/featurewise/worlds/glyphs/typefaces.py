"""Typefaces: found in a folder, checked letter by letter, and split by family.

A typeface is accepted only if it has every wanted letter, none of them is blank or the box that
stands for a missing glyph, and no two letters that must differ are rendered alike. Of typefaces
that render all letters alike, one is kept.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import features

from featurewise.common.files import file_sha256
from featurewise.worlds.files import disk_cache
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import (
    code_points,
    font,
    font_files,
    freetype_errors,
    stamp,
    typeface_count,
)
from featurewise.worlds.glyphs.rasterize import rasterize

DIGITS: Final = "0123456789"
UPPERCASE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWERCASE: Final = "abcdefghijklmnopqrstuvwxyz"
LETTERS: Final = UPPERCASE + LOWERCASE

#: Increase it whenever a survey of the same files finds or stores something else.
SURVEY_VERSION: Final = 2

#: Size of the images by which letters and typefaces are compared, in pixels.
_COMPARED_AT: Final = 32
_UNASSIGNED: Final = "\U0010ffff"

#: Files that have symbols, ornaments or parts of brackets at the code points of letters.
_NOT_TEXT: Final = re.compile(
    r"cmsy|cmex|LastResort|STIX(NonUni|Siz)|LinBiolinum_K|LinLibertine_I\b|Symbols|D050000L",
)

#: Families designed after one another, or after one model: relatives stay in one part of a split.
#: Font files do not say so; other families are grouped by the first word of their name.
_RELATED: Final = {
    "Helvetica, Times and Courier": (
        "Arimo Tinos Cousine Liberation Nimbus FreeSans FreeSerif FreeMono STIX TeX"
    ),
    "DejaVu": "DejaVu Hack Bitstream",
    "Lato": "Lato Carlito",
    "Noto": "Noto Open Droid",
    "Linux Libertine": "Linux",
    "Gentium": "Gentium GentiumAlt GentiumPlus",
    "Computer Modern": "CMU LM Latin cm",
}


@dataclass(frozen=True)
class Typeface:
    """A typeface of a font file.

    Attributes:
        path: the file.
        index: of the typeface in the file; 0 except in collections.
        family: as in the file, such as ``DejaVu Sans``.
        style: as in the file, such as ``Bold Oblique``.
        digest: SHA-256 of the file and the index, in hexadecimal.
    """

    path: Path
    index: int
    family: str
    style: str
    digest: str

    def to_json(self) -> list[Any]:
        """JSON values that ``Typeface.from_json`` reads."""
        return [str(self.path), self.index, self.family, self.style, self.digest]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Typeface:
        """The typeface that `to_json` returned these values for."""
        path, *others = values
        return cls(Path(path), *others)

    @property
    def superfamily(self) -> str:
        """The group of related families that it belongs to, such as ``DejaVu``."""
        first = re.sub(r"^cm[a-z]+\d+$", "cm", self.family.split()[0])
        first = re.sub(r"^STIX.*", "STIX", first)
        return next(
            (name for name, families in _RELATED.items() if first in families.split()), first
        )


@dataclass(frozen=True)
class Survey:
    """The typefaces found in a location.

    Attributes:
        typefaces: those with all letters, ordered by family, style and file.
        refused: ``file#index`` of the others, or ``file`` if it is broken -> the reason.
    """

    typefaces: tuple[Typeface, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Split:
    """Typefaces in three parts that share no family and no related families.

    Attributes:
        train: for training.
        test: for testing, generative systems and the evaluation classifier alike.
        classifier: for training the evaluation classifier, and for nothing else.
    """

    train: tuple[Typeface, ...]
    test: tuple[Typeface, ...]
    classifier: tuple[Typeface, ...]


def find_typefaces(where: str | Path = "bundled", letters: str = LETTERS) -> tuple[Typeface, ...]:
    """The typefaces of a location that have all ``letters``.

    Args:
        where: ``"bundled"`` for those that come with matplotlib, ``"debian"`` for those of the
            packages ``DEBIAN_PACKAGES``, else a folder of font files (.ttf, .otf, .ttc).
        letters: the characters that every typeface must have.

    Returns:
        The typefaces, ordered by family, style and file. :func:`survey` says why others were
        refused.

    Raises:
        TypefaceError: the location is missing, or has no such typeface.
        GlyphError: a repeated letter, or no letters.
    """
    found = survey(where, letters)
    if not found.typefaces:
        some = "; ".join(f"{name}: {why}" for name, why in list(found.refused.items())[:3])
        raise TypefaceError(
            f"{where}: none of {len(found.refused)} typefaces has all of {letters!r}; {some}"
        )
    return found.typefaces


def survey(where: str | Path = "bundled", letters: str = LETTERS) -> Survey:
    """As :func:`find_typefaces`, with the reasons why other typefaces were refused."""
    check_letters(letters)
    return _survey(stamped(font_files(where)), letters)


def check_letters(letters: Sequence[str]) -> None:
    """Raises GlyphError unless there are letters, each a single character, none repeated."""
    repeated = sorted({letter for letter in letters if list(letters).count(letter) > 1})
    if not letters or repeated or any(len(letter) != 1 for letter in letters):
        raise GlyphError(
            f"letters must be different single characters, at least one; got {letters!r}"
            + (f", with {repeated} more than once" if repeated else "")
        )


def stamped(files: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Path and SHA-256 of each file: the cache key of anything computed from the files.

    Raises:
        TypefaceError: a file does not exist.
    """
    return tuple((str(path), _file_digest(path, stamp(path))) for path in files)


@lru_cache(maxsize=16)
def _survey(stamps: tuple[tuple[str, str], ...], letters: str) -> Survey:
    def find() -> dict[str, Any]:
        found = _examine_all([Path(path) for path, *_ in stamps], letters)
        typefaces = [typeface.to_json() for typeface in found.typefaces]
        return {"typefaces": typefaces, "refused": found.refused}

    key = [SURVEY_VERSION, features.version("freetype2"), letters, stamps]
    cached = disk_cache("glyphs/surveys", key, find)
    return Survey(tuple(map(Typeface.from_json, cached["typefaces"])), cached["refused"])


def _examine_all(files: Sequence[Path], letters: str) -> Survey:
    seen: dict[bytes, Typeface] = {}
    refused: dict[str, str] = {}
    for path in files:
        for index in _indices(path, refused):
            name = f"{path}#{index}"
            try:
                typeface, images = _examine(path, index, letters)
            except GlyphError as error:
                refused[name] = str(error)
                continue
            image_hash = hashlib.sha256(images.tobytes()).digest()
            if (same := seen.setdefault(image_hash, typeface)) is not typeface:
                refused[name] = f"renders all letters as {same.path} does"
    order = sorted(
        seen.values(), key=lambda typeface: (typeface.family, typeface.style, typeface.path.name)
    )
    return Survey(tuple(order), refused)


def _indices(path: Path, refused: dict[str, str]) -> Iterator[int]:
    """Indices of the typefaces in a file; none, and an entry in ``refused``, if it is broken."""
    try:
        yield from range(typeface_count(path))
    except TypefaceError as error:
        refused[str(path)] = str(error)


def _examine(path: Path, index: int, letters: str) -> tuple[Typeface, NDArray[np.uint8]]:
    """The typeface and images (L, S, S) of its letters; raises TypefaceError if it is refused."""
    if _NOT_TEXT.search(path.name):
        raise TypefaceError("it has symbols or ornaments, not letters")
    lacking = [letter for letter in letters if ord(letter) not in code_points(path, index)]
    if lacking:
        raise TypefaceError(f"lacks {len(lacking)} letters: {''.join(lacking[:8])!r}")
    images = rasterize(path, index, letters, _COMPARED_AT)
    if faults := faulty(path, index, letters, images):
        raise TypefaceError("; ".join(faults.values()))
    return _typeface(path, index), images


def _typeface(path: Path, index: int) -> Typeface:
    with freetype_errors(path, index):
        family, style = ((name or "").strip() for name in font(path, index, 16.0).getname())
    family = family or path.stem.strip() or "nameless"
    return Typeface(path, index, family, style or "Regular", digest(path, index))


def digest(path: Path, index: int) -> str:
    """SHA-256 of a font file and the index of a typeface, in hexadecimal.

    Raises:
        TypefaceError: the file does not exist.
    """
    return hashlib.sha256(f"{_file_digest(path, stamp(path))}/{index}".encode()).hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(path: Path, _: tuple[int, ...]) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise TypefaceError(f"{path}: {error}") from error


def find_all(where: str | Path) -> tuple[Typeface, ...]:
    """All typefaces with letters of a location; broken files are left out.

    Raises:
        TypefaceError: the location is missing.
    """
    typefaces = []
    for path in font_files(where):
        for index in _indices(path, {}):
            with suppress(TypefaceError):
                if not _NOT_TEXT.search(path.name) and code_points(path, index):
                    typefaces.append(_typeface(path, index))
    return tuple(
        sorted(
            typefaces, key=lambda typeface: (typeface.family, typeface.style, typeface.path.name)
        )
    )


def faulty(path: Path, index: int, letters: str, images: NDArray[np.uint8]) -> dict[str, str]:
    """Letter -> fault: it is blank, the box of a missing glyph, or the image of another letter.

    Args:
        path: the font file.
        index: of the typeface in the file.
        letters: the L letters.
        images: (L, S, S), their images.
    """
    faults: dict[str, str] = {}
    box = _mask(path, index, _UNASSIGNED)
    alike: dict[bytes, list[str]] = {}
    for letter, image in zip(letters, images, strict=True):
        if not image.any():
            faults[letter] = f"{letter!r} is blank"
        elif box and _mask(path, index, letter) == box:
            faults[letter] = f"{letter!r} is rendered as a missing glyph"
        alike.setdefault(image.tobytes(), []).append(letter)
    for same in alike.values():
        for one, other in combinations(same, 2):
            if one not in faults and _must_differ(one, other):
                faults[other] = f"{other!r} is rendered as {one!r}"
    return faults


def _mask(path: Path, index: int, letter: str) -> bytes:
    with freetype_errors(path, index):
        return bytes(font(path, index, float(_COMPARED_AT)).getmask(letter))


def _must_differ(one: str, other: str) -> bool:
    """Whether two letters must look different.

    That holds for letters of one script and Unicode category, and for both cases of one letter; it
    does not hold for I and l, or for 0 and O.
    """
    if one.swapcase() == other:
        return True
    kinds = {unicodedata.category(letter) for letter in (one, other)}
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in (one, other)}
    return len(kinds) == 1 and (len(scripts) == 1 or kinds == {"Nd"})


#: Target shares of the typefaces in the parts of a split: train, test, classifier.
_SHARES: Final = (0.55, 0.2, 0.25)
#: Number of random assignments to choose from.
_TRIALS: Final = 64


def split_typefaces(typefaces: Sequence[Typeface], seed: int = 0) -> Split:
    """Splits typefaces in three parts; related families stay together.

    Of 64 random assignments of groups of families to parts, the one whose parts come closest to
    55 % (train), 20 % (test) and 25 % (classifier) of the typefaces is taken. It depends on the
    whole set of typefaces: with one typeface more, others may change their part.

    Args:
        typefaces: what to split.
        seed: of the random assignments.

    Raises:
        TypefaceError: fewer than three groups of families.
    """
    groups: dict[str, list[Typeface]] = {}
    for typeface in typefaces:
        groups.setdefault(typeface.superfamily, []).append(typeface)
    if len(groups) < len(_SHARES):
        raise TypefaceError(
            f"three parts need three unrelated families, got {len(groups)}: {sorted(groups)}"
        )
    rng = Random(f"typefaces {seed}")
    target = [share * len(typefaces) for share in _SHARES]
    names = sorted(groups)
    best, parts = float("inf"), [0] * len(names)
    for _ in range(_TRIALS):
        trial = _assign([len(groups[name]) for name in names], target, rng)
        sizes = [
            sum(len(groups[name]) for name, part in zip(names, trial, strict=True) if part == i)
            for i in range(len(_SHARES))
        ]
        distance = sum(abs(size - want) for size, want in zip(sizes, target, strict=True))
        if all(sizes) and distance < best:
            best, parts = distance, trial
    part_of = dict(zip(names, parts, strict=True))
    train, test, classifier = (
        tuple(typeface for typeface in typefaces if part_of[typeface.superfamily] == i)
        for i in range(3)
    )
    return Split(train, test, classifier)


def _assign(sizes: Sequence[int], target: Sequence[float], rng: Random) -> list[int]:
    """The part of each group: in a random order, each goes to the part that lacks most."""
    lacking = list(target)
    parts = [0] * len(sizes)
    for group in rng.sample(range(len(sizes)), len(sizes)):
        parts[group] = max(range(len(lacking)), key=lambda part: lacking[part])
        lacking[parts[group]] -= sizes[group]
    return parts
