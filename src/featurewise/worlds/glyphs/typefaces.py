"""Typefaces: found in a place, checked letter by letter, and parted by family.

A file is taken only when it draws every wanted letter, none of them blank or as the box that stands
for a missing one, and no two alike that must differ. Two files that draw all letters alike are one.
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
from featurewise.worlds.glyphs.drawing import draw
from featurewise.worlds.glyphs.errors import GlyphError, TypefaceError
from featurewise.worlds.glyphs.fontfiles import (
    covered,
    drawing,
    face_count,
    font,
    font_files,
    stamp,
)

DIGITS: Final = "0123456789"
UPPERCASE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWERCASE: Final = "abcdefghijklmnopqrstuvwxyz"
LETTERS: Final = UPPERCASE + LOWERCASE

#: Counts up when a survey of the same files finds something else.
SURVEY_VERSION: Final = 1

#: Edge of the drawings by which letters and faces are told apart, in pixels.
_COMPARED_AT: Final = 32
_UNASSIGNED: Final = "\U0010ffff"

#: Files whose letters are symbols in the place of letters, ornaments or pieces of brackets.
_NOT_TEXT: Final = re.compile(
    r"cmsy|cmex|LastResort|STIX(NonUni|Siz)|LinBiolinum_K|LinLibertine_I\b|Symbols|D050000L",
)

#: Families that are drawn after one another, or after one model: a judge must not know its
#: candidates' relatives. Files do not say so; families that are not here go by their first word.
_RELATIVES: Final = {
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
    """A face of a font file.

    Attributes:
        path: the file.
        index: the face in it; 0 but in collections.
        family: as the file calls it, such as ``DejaVu Sans``.
        style: as the file calls it, such as ``Bold Oblique``.
        digest: SHA-256 of the file and the index, in hexadecimal.
    """

    path: Path
    index: int
    family: str
    style: str
    digest: str

    def to_json(self) -> list[Any]:
        """As JSON values: ``Typeface.from_json`` reads them back."""
        return [str(self.path), self.index, self.family, self.style, self.digest]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> Typeface:
        """What `to_json` wrote."""
        path, *others = values
        return cls(Path(path), *others)

    @property
    def superfamily(self) -> str:
        """The group of related families it belongs to, such as ``DejaVu``."""
        first = re.sub(r"^cm[a-z]+\d+$", "cm", self.family.split()[0])
        first = re.sub(r"^STIX.*", "STIX", first)
        return next((name for name, kin in _RELATIVES.items() if first in kin.split()), first)


@dataclass(frozen=True)
class Survey:
    """What a place holds.

    Attributes:
        faces: those that draw all letters, ordered by family, style and file.
        refused: why the others were not taken, by file and face.
    """

    faces: tuple[Typeface, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Split:
    """Typefaces in three parts that share no family, nor relatives.

    Attributes:
        train: to learn from.
        held_out: to be tested on.
        judge: for the network alone that judges what others draw.
    """

    train: tuple[Typeface, ...]
    held_out: tuple[Typeface, ...]
    judge: tuple[Typeface, ...]


def find_typefaces(where: str | Path = "bundled", letters: str = LETTERS) -> tuple[Typeface, ...]:
    """The typefaces of a place that draw all ``letters``.

    Args:
        where: ``"bundled"`` for those that come with matplotlib, ``"debian"`` for those of the
            packages ``DEBIAN_PACKAGES``, else a folder of font files (.ttf, .otf, .ttc).
        letters: the characters every face must draw.

    Returns:
        The faces, ordered by family, style and file. :func:`survey` says why others are missing.

    Raises:
        TypefaceError: the place is missing, or holds no such face.
        GlyphError: a letter twice, or none.
    """
    found = survey(where, letters)
    if not found.faces:
        some = "; ".join(f"{name}: {why}" for name, why in list(found.refused.items())[:3])
        raise TypefaceError(
            f"{where}: of {len(found.refused)} faces none draws all of {letters!r}; {some}"
        )
    return found.faces


def survey(where: str | Path = "bundled", letters: str = LETTERS) -> Survey:
    """As :func:`find_typefaces`, with the reasons for which files were refused."""
    check_letters(letters)
    return _survey(stamped(font_files(where)), letters)


def check_letters(letters: Sequence[str]) -> None:
    """Raises GlyphError unless there are letters, each a single character, none twice."""
    twice = sorted({letter for letter in letters if list(letters).count(letter) > 1})
    if not letters or twice or any(len(letter) != 1 for letter in letters):
        raise GlyphError(
            f"letters are different single characters, at least one; got {letters!r}"
            + (f", with {twice} more than once" if twice else "")
        )


def stamped(files: Sequence[Path]) -> tuple[tuple[str, str], ...]:
    """Path and SHA-256 of files; what was found in them holds as long as these do.

    Raises:
        TypefaceError: a file is gone.
    """
    return tuple((str(path), _content(path, stamp(path))) for path in files)


@lru_cache(maxsize=16)
def _survey(stamps: tuple[tuple[str, str], ...], letters: str) -> Survey:
    def find() -> dict[str, Any]:
        found = _surveyed([Path(path) for path, *_ in stamps], letters)
        return {"faces": [face.to_json() for face in found.faces], "refused": found.refused}

    drawn_by = features.version("freetype2")
    kept = disk_cache("glyphs/surveys", [SURVEY_VERSION, drawn_by, letters, stamps], find)
    return Survey(tuple(map(Typeface.from_json, kept["faces"])), kept["refused"])


def _surveyed(files: Sequence[Path], letters: str) -> Survey:
    seen: dict[bytes, Typeface] = {}
    refused: dict[str, str] = {}
    for path in files:
        for index in _faces_of(path, refused):
            name = f"{path}#{index}"
            try:
                face, drawn = _examined(path, index, letters)
            except GlyphError as error:
                refused[name] = str(error)
                continue
            drawing = hashlib.sha256(drawn.tobytes()).digest()
            if (twin := seen.setdefault(drawing, face)) is not face:
                refused[name] = f"draws all letters as {twin.path}"
    order = sorted(seen.values(), key=lambda face: (face.family, face.style, face.path.name))
    return Survey(tuple(order), refused)


def _faces_of(path: Path, refused: dict[str, str]) -> Iterator[int]:
    try:
        yield from range(face_count(path))
    except TypefaceError as error:
        refused[str(path)] = str(error)


def _examined(path: Path, index: int, letters: str) -> tuple[Typeface, NDArray[np.uint8]]:
    """The face and its drawings; raises what is wrong with it."""
    if _NOT_TEXT.search(path.name):
        raise TypefaceError("symbols or ornaments, not a typeface for text")
    lacking = [letter for letter in letters if ord(letter) not in covered(path, index)]
    if lacking:
        raise TypefaceError(f"lacks {len(lacking)} letters: {''.join(lacking[:8])!r}")
    drawn = draw(path, index, letters, _COMPARED_AT)
    if faults := faulty(path, index, letters, drawn):
        raise TypefaceError("; ".join(faults.values()))
    return _typeface(path, index), drawn


def _typeface(path: Path, index: int) -> Typeface:
    with drawing(path, index):
        family, style = ((name or "").strip() for name in font(path, index, 16.0).getname())
    family = family or path.stem.strip() or "nameless"
    return Typeface(path, index, family, style or "Regular", digest(path, index))


def digest(path: Path, index: int) -> str:
    """SHA-256 of a font file and the index of a face, in hexadecimal.

    Raises:
        TypefaceError: the file is gone.
    """
    return hashlib.sha256(f"{_content(path, stamp(path))}/{index}".encode()).hexdigest()


@lru_cache(maxsize=4096)
def _content(path: Path, _: tuple[int, ...]) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise TypefaceError(f"{path}: {error}") from error


def find_all(where: str | Path) -> tuple[Typeface, ...]:
    """All faces for text of a place whatever letters they draw; broken files are left out.

    Raises:
        TypefaceError: the place is missing.
    """
    faces = []
    for path in font_files(where):
        for index in _faces_of(path, {}):
            with suppress(TypefaceError):
                if not _NOT_TEXT.search(path.name) and covered(path, index):
                    faces.append(_typeface(path, index))
    return tuple(sorted(faces, key=lambda face: (face.family, face.style, face.path.name)))


def faulty(path: Path, index: int, letters: str, drawn: NDArray[np.uint8]) -> dict[str, str]:
    """Letters that are drawn blank, as a missing one, or as another that must differ; and why."""
    faults: dict[str, str] = {}
    box = _mask(path, index, _UNASSIGNED)
    alike: dict[bytes, list[str]] = {}
    for letter, picture in zip(letters, drawn, strict=True):
        if not picture.any():
            faults[letter] = f"{letter!r} is blank"
        elif box and _mask(path, index, letter) == box:
            faults[letter] = f"{letter!r} is drawn as a missing letter"
        alike.setdefault(picture.tobytes(), []).append(letter)
    for same in alike.values():
        for one, other in combinations(same, 2):
            if one not in faults and _must_differ(one, other):
                faults[other] = f"{other!r} is drawn as {one!r}"
    return faults


def _mask(path: Path, index: int, letter: str) -> bytes:
    with drawing(path, index):
        return bytes(font(path, index, float(_COMPARED_AT)).getmask(letter))


def _must_differ(one: str, other: str) -> bool:
    """Those of one script and kind, and the two cases of one letter; not I and l, or 0 and O."""
    if one.swapcase() == other:
        return True
    kinds = {unicodedata.category(letter) for letter in (one, other)}
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in (one, other)}
    return len(kinds) == 1 and (len(scripts) == 1 or kinds == {"Nd"})


#: Share of the faces that each part of a split should have.
_SHARES: Final = (0.55, 0.2, 0.25)
_ORDERS: Final = 64


def split_typefaces(faces: Sequence[Typeface], seed: int = 0) -> Split:
    """Typefaces in three parts; families, and families related to each other, stay together.

    Of 64 ways to deal out the families, drawn by ``seed``, the one whose parts come closest to
    55 % (train), 20 % (held out) and 25 % (judge) of the faces. A different set of faces is dealt
    anew.

    Raises:
        TypefaceError: fewer than three groups of families.
    """
    groups: dict[str, list[Typeface]] = {}
    for face in faces:
        groups.setdefault(face.superfamily, []).append(face)
    if len(groups) < len(_SHARES):
        raise TypefaceError(
            f"three parts need three unrelated families, got {len(groups)}: {sorted(groups)}"
        )
    chance = Random(f"typefaces {seed}")
    wanted = [share * len(faces) for share in _SHARES]
    names = sorted(groups)
    best, parts = float("inf"), [0] * len(names)
    for _ in range(_ORDERS):
        dealt = _dealt([len(groups[name]) for name in names], wanted, chance)
        sizes = [
            sum(len(groups[name]) for name, part in zip(names, dealt, strict=True) if part == i)
            for i in range(len(_SHARES))
        ]
        distance = sum(abs(size - want) for size, want in zip(sizes, wanted, strict=True))
        if all(sizes) and distance < best:
            best, parts = distance, dealt
    part_of = dict(zip(names, parts, strict=True))
    train, held_out, judge = (
        tuple(face for face in faces if part_of[face.superfamily] == i) for i in range(3)
    )
    return Split(train, held_out, judge)


def _dealt(sizes: Sequence[int], wanted: Sequence[float], chance: Random) -> list[int]:
    """The part of each group: in a drawn order, each to the part that lacks most."""
    lacking = list(wanted)
    parts = [0] * len(sizes)
    for group in chance.sample(range(len(sizes)), len(sizes)):
        parts[group] = max(range(len(lacking)), key=lambda part: lacking[part])
        lacking[parts[group]] -= sizes[group]
    return parts
