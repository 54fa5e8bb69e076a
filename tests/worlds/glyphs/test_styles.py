"""Alphabets of which letters are hidden."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import DIGITS, find_typefaces, glyphs
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.styles import StyleSource, styles

SOME = glyphs(find_typefaces("bundled", DIGITS)[:6], DIGITS, 12)


def test_a_batch_is_of_different_typefaces_whole() -> None:
    source = StyleSource(SOME, 4, seed=3)
    batch = source.batch(0)
    known = SOME.images.flatten(2).float() / 255
    typefaces = [
        next(i for i in range(6) if torch.equal(known[i], typeface)) for typeface in batch.letters
    ]
    assert len(set(typefaces)) == 4
    assert batch.shown.all()
    assert torch.equal(source.batch(0).letters, batch.letters)
    assert not torch.equal(source.batch(1).letters, batch.letters)
    assert not torch.equal(StyleSource(SOME, 4, seed=4).batch(0).letters, batch.letters)


def test_all_typefaces_may_be_dealt() -> None:
    dealt = StyleSource(SOME, 6).batch(0).letters
    torch.testing.assert_close(dealt.sum(0), styles(SOME).letters.sum(0))


def test_every_third_letter_is_hidden() -> None:
    batch = styles(SOME)
    assert batch.shown[0].tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    assert batch.shown.shape == (6, 10)
    assert torch.equal(batch.letters[4, 7].view(12, 12), SOME.images[4, 7] / 255)


def test_mixed_letters_are_of_typefaces_of_their_own() -> None:
    plain, mixed = styles(SOME), styles(SOME, mixed=True)
    for letter in range(10):
        one, other = plain.letters[:, letter], mixed.letters[:, letter]
        if letter % 3 == 2:
            assert torch.equal(one, other)
        else:
            assert not torch.equal(one, other)
            torch.testing.assert_close(one.sum(0), other.sum(0))  # the same pictures, dealt anew
    assert torch.equal(mixed.letters, styles(SOME, mixed=True).letters)


def test_letters_are_mixed_each_by_lots_of_its_own() -> None:
    """Else whole typefaces would change places, each still of one style."""
    plain, mixed = styles(SOME).letters, styles(SOME, mixed=True).letters
    dealt = [
        tuple(
            next(i for i in range(6) if torch.equal(plain[i, letter], typeface[letter]))
            for typeface in mixed
        )
        for letter in (0, 1, 3, 4, 6, 7, 9)
    ]
    assert len(set(dealt)) > 3


@pytest.mark.parametrize("typefaces", [0, 7])
def test_more_typefaces_than_there_are(typefaces: int) -> None:
    with pytest.raises(GlyphError, match="there are 6 typefaces to deal"):
        StyleSource(SOME, typefaces)


def test_too_few_letters() -> None:
    with pytest.raises(GlyphError, match="every third letter is hidden"):
        styles(glyphs(SOME.typefaces, "01", 12))
    assert styles(glyphs(SOME.typefaces, "012", 12)).shown[0].tolist() == [1, 1, 0]
