"""Letters with accents as pairs of base letter and accent, some of which are held out.

``é`` is ``LATIN SMALL LETTER E WITH ACUTE``: its Unicode name says of which base letter and which
accent it consists. Of a pair that is held out, the base letter is seen, at least without an accent,
and the accent in three pairs or more, so that a network can know it from the name alone.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from featurewise.common.rng import seeded_rng
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.labelled import LabelledImages, labelled_letters
from featurewise.worlds.glyphs.render import glyphs
from featurewise.worlds.glyphs.typefaces import Split, Typeface, find_typefaces, split_typefaces

ACCENTS: Final = (
    *("ACUTE", "BREVE", "CARON", "CEDILLA", "CIRCUMFLEX", "CIRCUMFLEX BELOW", "DIAERESIS"),
    *("DOT ABOVE", "DOT BELOW", "DOUBLE GRAVE", "GRAVE", "HOOK ABOVE", "INVERTED BREVE"),
    *("LINE BELOW", "MACRON", "OGONEK", "TILDE"),
)
"""Accents that Unicode has with five or more small Latin letters, and that many typefaces have."""

_SHARES: Final = {"unseen": 0.2, "validation": 0.15}
"""Parts of the pairs that are held out, of all pairs with an accent."""

_SEEN_PER_ACCENT: Final = 3
"""So many pairs of each accent are seen, at least."""


@dataclass(frozen=True)
class AccentedLetters:
    """Letters as classes: first those that are seen, then those of the two held-out parts.

    Attributes:
        letters: one character for each class.
        bases: the base letter of each.
        accents: the accent of each, in the words of Unicode; empty for none.
        seen: number of classes that are seen: the first ones.
        validation: number of classes after them, to choose settings on; all others are for the
            test.
    """

    letters: str
    bases: tuple[str, ...]
    accents: tuple[str, ...]
    seen: int
    validation: int

    def unseen(self, split: str) -> range:
        """The classes that are held out for "validation" or for the "test".

        Raises:
            GlyphError: another split.
        """
        if split not in ("validation", "test"):
            raise GlyphError(f"held-out letters are of 'validation' or 'test', not {split!r}")
        middle = self.seen + self.validation
        return range(self.seen, middle) if split == "validation" else range(middle, len(self))

    def __len__(self) -> int:
        return len(self.letters)


@lru_cache(maxsize=8)
def accented_letters(bases: str, accents: tuple[str, ...] = ACCENTS) -> AccentedLetters:
    """The small Latin letters of some bases, without accent and with each that Unicode has.

    A fifth of the pairs with an accent is held out for the test, 15 % for validation; which ones
    is random but always the same. Base letters without accent are seen, and at least three pairs
    of each accent.

    Args:
        bases: small letters from a to z.
        accents: as Unicode's names have them after "WITH".

    Raises:
        GlyphError: wrong base letters or accents, or so few that none can be held out.
    """
    if not bases or len(set(bases)) < len(bases) or not all("a" <= base <= "z" for base in bases):
        raise GlyphError(f"bases are different small letters from a to z, got {bases!r}")
    pairs = {
        (base, accent): letter
        for base in bases
        for accent in accents
        if (letter := _letter(base, accent))
    }
    per_accent = {accent: sum(each == accent for _, each in pairs) for accent in accents}
    if empty := [accent for accent, count in per_accent.items() if not count]:
        raise GlyphError(f"Unicode has {empty[0]!r} with none of the letters {bases!r}")
    order = torch.randperm(len(pairs), generator=seeded_rng(0, "held-out pairs"))
    held_out: dict[str, list[tuple[str, str]]] = {part: [] for part in _SHARES}
    for pair in [list(pairs)[index] for index in order.tolist()]:
        part = next((p for p in _SHARES if len(held_out[p]) < _SHARES[p] * len(pairs) - 0.5), None)
        if part and per_accent[pair[1]] > _SEEN_PER_ACCENT:
            held_out[part].append(pair)
            per_accent[pair[1]] -= 1
    if not all(held_out.values()):
        raise GlyphError(f"{len(pairs)} pairs of {bases!r} and {accents} are too few to hold out")
    away = {pair for part in held_out.values() for pair in part}
    seen = [*((base, "") for base in bases), *(pair for pair in pairs if pair not in away)]
    classes = [*seen, *sorted(held_out["validation"]), *sorted(held_out["unseen"])]
    return AccentedLetters(
        "".join(pairs.get(pair, pair[0]) for pair in classes),
        tuple(base for base, _ in classes),
        tuple(accent for _, accent in classes),
        len(seen),
        len(held_out["validation"]),
    )


def _letter(base: str, accent: str) -> str:
    """The letter that has both, or nothing; some pairs are sequences of characters."""
    try:
        found = unicodedata.lookup(f"LATIN SMALL LETTER {base.upper()} WITH {accent}")
    except KeyError:
        return ""
    return found if len(found) == 1 else ""


@dataclass(frozen=True)
class AccentedImages:
    """Images of accented letters, in parts that share no family of typefaces.

    Attributes:
        train: of the classes that are seen.
        validation: of the classes that are seen, and of those held out for validation.
        test: of the classes that are seen, and of those held out for the test.
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages


@lru_cache(maxsize=4)
def accented_images(where: str | Path, letters: AccentedLetters, size: int) -> AccentedImages:
    """Images of the letters in all typefaces that have them all.

    Of typefaces of two families only, those of the smaller one are both validation and test.

    Args:
        where: as in :func:`featurewise.worlds.glyphs.typefaces.find_typefaces`.
        letters: the classes.
        size: height and width of an image, 8 or more.

    Raises:
        TypefaceError: no typefaces, or all of one family.
        GlyphError: a wrong size.
    """
    split = _split(find_typefaces(where, letters.letters))
    middle = letters.seen + letters.validation

    def part(typefaces: tuple[Typeface, ...], *ranges: range) -> LabelledImages:
        found = labelled_letters(glyphs(typefaces, letters.letters, size))
        wanted = torch.tensor([label for each in ranges for label in each])
        rows = torch.isin(found.labels, wanted)
        return LabelledImages(found.images[rows], found.labels[rows], found.groups[rows])

    seen = range(letters.seen)
    return AccentedImages(
        part(split.train, seen),
        part(split.classifier, range(middle)),
        part(split.test, seen, letters.unseen("test")),
    )


def _split(typefaces: tuple[Typeface, ...]) -> Split:
    """In three parts; the one of the evaluation classifier, which is not needed, validates."""
    families = {typeface.superfamily for typeface in typefaces}
    if len(families) != 2:
        return split_typefaces(typefaces)
    one, other = (
        tuple(typeface for typeface in typefaces if typeface.superfamily == family)
        for family in sorted(families)
    )
    train, test = (one, other) if len(one) >= len(other) else (other, one)
    return Split(train, test, test)
