"""Sheets of images, and metrics of samples, against loops."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs import Glyphs, Typeface, as_ink
from featurewise.worlds.glyphs.sheets import compare_with_real, diversity, sample_metrics, sheet


class Corner:
    """A classifier for tests: the first pixel, times ten, is the letter."""

    def __init__(self, count: int) -> None:
        self.count = count

    def letters(self, images: Tensor) -> Tensor:
        letter = (10 * images[:, 0, 0, 0]).round().long()
        return 20.0 * torch.nn.functional.one_hot(letter, self.count)


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


def test_metrics_against_counting() -> None:
    predictions = [0, 0, 0, 1, 1, 2, 0, 0, 0, 0] * 5
    labels = torch.tensor([0, 1, 0, 1, 0, 2, 3, 0, 1, 0] * 5)
    metrics = sample_metrics(coded(predictions), labels, Corner(4))
    counts = Counter(predictions)
    entropy = -sum(n / 50 * math.log(n / 50) for n in counts.values()) / math.log(4)
    right = sum(a == b for a, b in zip(predictions, labels.tolist(), strict=True))
    assert metrics["accuracy"] == right / 50 and metrics["correct"] == right
    assert metrics["total"] == 50
    assert metrics["mode_coverage"] == 3 / 4
    assert metrics["entropy"] == pytest.approx(entropy)
    assert metrics["confidence"] == pytest.approx(1.0, abs=1e-6)


def test_a_letter_below_a_fifth_of_the_mean_frequency_does_not_count() -> None:
    # The mean frequency of 4 letters in 40 images is 10, a fifth of it 2.
    metrics = sample_metrics(coded([0] * 37 + [1] * 2 + [2]), torch.zeros(40).long(), Corner(4))
    assert metrics["mode_coverage"] == 2 / 4


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
    with pytest.raises(ValueError, match="no samples"):
        sample_metrics(torch.zeros(0, 1, 4, 4), torch.zeros(0).long(), Corner(2))
    with pytest.raises(ValueError, match="two images"):
        diversity(coded([0, 1]), torch.tensor([0, 1]))


def test_real_images_compared_with_themselves() -> None:
    letters = torch.arange(4).repeat(3)
    ink = (255 * coded(letters.tolist())).round().to(torch.uint8).view(3, 4, 4, 4)
    typeface = Typeface(Path("none"), 0, "family", "style", "digest")
    real = Glyphs(ink, (typeface, typeface, typeface), "ABCD", {})
    found = compare_with_real(as_ink(ink.flatten(0, 1)), letters, Corner(4), real)
    assert (found["correct"], found["total"]) == (12, 12)
    assert found["mode_coverage"] == found["real_accuracy"] == 1.0
    assert found["diversity"] == pytest.approx(1.0)
    # All of one letter, whatever the condition: 1/4 is correct, and one letter of four counts.
    same = as_ink(ink[:, :1].flatten(0, 1)).repeat(4, 1, 1, 1)
    one = compare_with_real(same, letters, Corner(4), real)
    assert (one["correct"], one["mode_coverage"], one["entropy"]) == (3, 0.25, 0.0)
