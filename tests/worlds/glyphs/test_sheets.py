"""Sheets of images, and metrics of samples, against loops."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs.sheets import diversity, mode_coverage, sheet


def coded(letters: list[int]) -> Tensor:
    images = torch.rand(len(letters), 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = torch.tensor(letters) / 10
    return images


def test_a_sheet_shows_every_image_at_its_position_with_dark_ink() -> None:
    images = torch.rand(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    page = sheet(images, zoom=3)
    for row in range(2):
        for column in range(3):
            for y in range(4):
                for x in range(4):
                    at = (column * 14 + 2 + 3 * x + 1, row * 14 + 2 + 3 * y + 1)
                    ink = images[row, column, 0, y, x].item()
                    assert page.getpixel(at) == pytest.approx(255 * (1 - ink), abs=1)
    assert page.getpixel((0, 0)) == 255


def test_labels_are_left_of_their_rows() -> None:
    images = torch.zeros(2, 1, 1, 8, 8)
    plain, labelled = sheet(images), sheet(images, rows=("A", "long"))
    left = labelled.width - plain.width
    assert left > 0 and labelled.height == plain.height
    for top in (0, 18):
        assert labelled.crop((0, top, left, top + 18)).getextrema()[0] < 128
    assert labelled.crop((left, 0, labelled.width, labelled.height)).getextrema() == (255, 255)
    with pytest.raises(ValueError, match="2 labels or none, got 1"):
        sheet(images, rows=("A",))


def test_ink_out_of_range_is_clamped() -> None:
    page = sheet(torch.tensor([-3.0, 7.0]).view(1, 2, 1, 1, 1), zoom=1)
    assert (page.getpixel((2, 2)), page.getpixel((5, 2))) == (255, 0)


def test_a_letter_below_a_fifth_of_the_mean_frequency_does_not_count() -> None:
    # The mean frequency of 4 letters in 40 images is 10, a fifth of it 2.
    assert mode_coverage(torch.tensor([0] * 37 + [1] * 2 + [2]), 4) == 2 / 4
    assert mode_coverage(torch.tensor([0, 0, 0, 1, 1, 2, 0, 0, 0, 0] * 5), 4) == 3 / 4


def test_diversity_is_the_mean_distance_of_images_of_a_letter() -> None:
    letters = [0, 0, 0, 1, 1, 2]
    images = coded(letters)
    by_letter = []
    for letter in (0, 1):
        of = [image for image, mine in zip(images, letters, strict=True) if mine == letter]
        pairs = [((a - b) ** 2).mean().sqrt().item() for a, b in combinations(of, 2)]
        by_letter.append(sum(pairs) / len(pairs))
    assert diversity(images, torch.tensor(letters)) == pytest.approx(sum(by_letter) / 2)
    assert diversity(images[:1].repeat(4, 1, 1, 1), torch.zeros(4).long()) == 0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="two images"):
        diversity(coded([0, 1]), torch.tensor([0, 1]))
