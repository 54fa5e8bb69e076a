"""Accented letters: what is held out, that its parts are seen, and whose typefaces are whose."""

from __future__ import annotations

import unicodedata

import pytest
import torch

from featurewise.worlds.glyphs.accents import (
    ACCENTS,
    AccentedLetters,
    accented_images,
    accented_letters,
)
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.typefaces import LOWERCASE

FEW = accented_letters("aeiou", ("GRAVE", "ACUTE", "CIRCUMFLEX", "DIAERESIS"))


@pytest.mark.parametrize("found", [FEW, accented_letters(LOWERCASE)])
def test_letters_are_what_their_names_say(found: AccentedLetters) -> None:
    assert len(set(found.letters)) == len(found) == len(found.bases) == len(found.accents)
    for letter, base, accent in zip(found.letters, found.bases, found.accents, strict=True):
        name = f"LATIN SMALL LETTER {base.upper()}" + (f" WITH {accent}" if accent else "")
        assert unicodedata.name(letter) == name


@pytest.mark.parametrize("found", [FEW, accented_letters(LOWERCASE)])
def test_each_part_of_a_held_out_pair_is_seen(found: AccentedLetters) -> None:
    seen = set(zip(found.bases[: found.seen], found.accents[: found.seen], strict=True))
    for split in ("validation", "test"):
        for label in found.unseen(split):
            pair = found.bases[label], found.accents[label]
            assert pair not in seen
            assert pair[0] in {base for base, _ in seen}
            assert sum(accent == pair[1] for _, accent in seen) >= 3
    parts = [*range(found.seen), *found.unseen("validation"), *found.unseen("test")]
    assert parts == list(range(len(found)))


def test_shares_that_are_held_out() -> None:
    found = accented_letters(LOWERCASE, ACCENTS)
    pairs = len(found) - len(LOWERCASE)
    assert len(found.unseen("test")) == pytest.approx(0.2 * pairs, abs=1)
    assert len(found.unseen("validation")) == pytest.approx(0.15 * pairs, abs=1)


@pytest.mark.parametrize(
    ("bases", "accents", "message"),
    [
        ("", ("ACUTE",), "small letters"),
        ("aa", ("ACUTE",), "small letters"),
        ("aE", ("ACUTE",), "small letters"),
        ("ae", ("ACUTE", "SPARKLES"), "SPARKLES"),
        ("ae", ("ACUTE",), "too few"),
    ],
)
def test_wrong_letters_are_refused(bases: str, accents: tuple[str, ...], message: str) -> None:
    with pytest.raises(GlyphError, match=message):
        accented_letters(bases, accents)


def test_parts_of_two_families() -> None:
    images = accented_images("bundled", FEW, 16)
    assert set(images.train.labels.tolist()) == set(range(FEW.seen))
    assert set(images.validation.labels.tolist()) == set(range(FEW.seen + FEW.validation))
    assert set(images.test.labels.tolist()) == {*range(FEW.seen), *FEW.unseen("test")}
    assert len(images.train) > len(images.test) > 0
    assert images.train.images.shape[1:] == (16, 16)
    train = {image.numpy().tobytes() for image in images.train.images}
    assert not any(image.numpy().tobytes() in train for image in images.test.images)
    assert torch.equal(images.train.labels.bincount().unique(), images.train.labels.bincount()[:1])


def test_a_split_without_held_out_letters_is_refused() -> None:
    with pytest.raises(GlyphError, match="'validation' or 'test', not 'validaton'"):
        accented_letters(LOWERCASE).unseen("validaton")
