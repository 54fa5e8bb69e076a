"""Alphabets with hidden letters."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.glyphs import DIGITS, find_typefaces, glyphs
from featurewise.worlds.glyphs.errors import GlyphError
from featurewise.worlds.glyphs.styles import StyleSource, alphabets, styles

TYPEFACES = find_typefaces("bundled", DIGITS)[:6]
GLYPHS = glyphs(TYPEFACES, DIGITS, 12)
SOME = alphabets(GLYPHS)


def test_a_batch_has_whole_alphabets_of_different_typefaces() -> None:
    source = StyleSource(SOME, 4, seed=3)
    batch = source.batch(0)
    known = GLYPHS.images.flatten(2).float() / 255
    typefaces = [
        next(i for i in range(6) if torch.equal(known[i], letters)) for letters in batch.means
    ]
    assert len(set(typefaces)) == 4
    assert batch.shown.all()
    assert torch.equal(source.batch(0).samples, batch.samples)
    assert not torch.equal(source.batch(1).samples, batch.samples)
    assert not torch.equal(StyleSource(SOME, 4, seed=4).batch(0).samples, batch.samples)


def test_a_batch_may_have_all_typefaces() -> None:
    letters = StyleSource(SOME, 6).batch(0).samples
    torch.testing.assert_close(letters.sum(0), styles(SOME).samples.sum(0))


def test_every_third_letter_is_hidden() -> None:
    batch = styles(SOME)
    assert batch.shown[0].tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    assert batch.shown.shape == (6, 10)
    assert torch.equal(batch.samples[4, 7].view(12, 12), GLYPHS.images[4, 7] / 255)


def test_shuffled_permutes_the_shown_letters_only() -> None:
    plain, shuffled = styles(SOME), styles(SOME, shuffled=True)
    for letter in range(10):
        one, other = plain.samples[:, letter], shuffled.samples[:, letter]
        if letter % 3 == 2:
            assert torch.equal(one, other)
        else:
            assert not torch.equal(one, other)
            torch.testing.assert_close(one.sum(0), other.sum(0))  # the same images, permuted
    assert torch.equal(shuffled.samples, styles(SOME, shuffled=True).samples)


def test_each_letter_has_its_own_permutation() -> None:
    """Otherwise each row would still have one style."""
    plain, shuffled = styles(SOME).samples, styles(SOME, shuffled=True).samples
    permutations = [
        tuple(
            next(i for i in range(6) if torch.equal(plain[i, letter], typeface[letter]))
            for typeface in shuffled
        )
        for letter in (0, 1, 3, 4, 6, 7, 9)
    ]
    assert len(set(permutations)) > 3


@pytest.mark.parametrize("batch_size", [0, 7])
def test_impossible_batch_sizes_are_refused(batch_size: int) -> None:
    with pytest.raises(GlyphError, match="batch_size must be from 1 to 6 styles"):
        StyleSource(SOME, batch_size)


def test_fewer_than_three_letters_are_refused() -> None:
    with pytest.raises(GlyphError, match="every third content is hidden"):
        styles(SOME[:, :2])
    assert styles(SOME[:, :3]).shown[0].tolist() == [1, 1, 0]


def test_means_are_over_the_observations_of_a_content() -> None:
    samples = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    means = styles(samples).means
    for style in range(2):
        for content in range(3):
            expected = sum(samples[style, content, n] for n in range(4)) / 4
            torch.testing.assert_close(means[style, content], expected)


def test_shuffled_leaves_its_argument_alone() -> None:
    before = SOME.clone()
    styles(SOME, shuffled=True)
    assert torch.equal(SOME, before)
