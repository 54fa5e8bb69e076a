"""The digits: against scikit-learn's arrays; splits, epochs, and the missing package."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
import torch
from sklearn.datasets import load_digits

from featurewise.worlds.small import (
    CLASSES,
    SPLITS,
    DigitSource,
    MissingPackageError,
    SmallWorldError,
    digits,
)
from featurewise.worlds.small.digits import _loaded

SIZES = {"train": 1255, "validation": 265, "test": 277}


def keys(images: torch.Tensor) -> list[bytes]:
    return [(image * 16).to(torch.uint8).numpy().tobytes() for image in images]


def test_the_splits_have_every_digit_once() -> None:
    data = load_digits()
    expected = Counter(
        (pixels.astype("uint8").tobytes(), int(label))
        for pixels, label in zip(data.images, data.target, strict=True)
    )
    found: Counter[tuple[bytes, int]] = Counter()
    for split in SPLITS:
        part = digits(split)
        assert len(part.labels) == SIZES[split]  # as published: a digit that moved would show
        assert part.images.shape == (SIZES[split], 1, 8, 8)
        found.update(zip(keys(part.images), part.labels.tolist(), strict=True))
    assert found == expected


def test_no_image_is_in_two_splits_and_every_class_is_in_each() -> None:
    train, validation, test = (set(keys(digits(split).images)) for split in SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test
    for split in SPLITS:
        counts = digits(split).labels.bincount(minlength=CLASSES)
        assert counts.min() >= 0.6 * counts.float().mean()


def test_an_epoch_has_every_digit_once_across_batch_borders() -> None:
    source = DigitSource(seed=3, batch_size=100, split="validation")
    images = torch.cat([source.batch(i).images for i in range(6)])
    first, second = keys(images[:265]), keys(images[265:530])
    everything = Counter(keys(digits("validation").images))
    assert Counter(first) == everything == Counter(second)
    assert first != second


def test_labels_belong_to_their_images_in_batches_larger_than_the_split() -> None:
    part = digits("test")
    label = dict(zip(keys(part.images), part.labels.tolist(), strict=True))
    batch = DigitSource(seed=0, batch_size=700, split="test").batch(2)
    assert len(batch.labels) == 700
    assert [label[key] for key in keys(batch.images)] == batch.labels.tolist()


def test_a_batch_depends_on_seed_and_index_only() -> None:
    one = DigitSource(seed=1, batch_size=8).batch(500)
    torch.manual_seed(9)
    again = DigitSource(seed=1, batch_size=8)
    again.batch(2)
    assert torch.equal(one.images, again.batch(500).images)
    assert not torch.equal(one.images, DigitSource(seed=2, batch_size=8).batch(500).images)
    assert not torch.equal(one.images, again.batch(501).images)


def test_impossible_sources_are_refused() -> None:
    with pytest.raises(SmallWorldError, match="one of train, validation, test, got 'dev'"):
        DigitSource(seed=0, batch_size=8, split="dev")
    with pytest.raises(SmallWorldError, match="batch_size must be 1 or more, got 0"):
        DigitSource(seed=0, batch_size=0)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'featurewise\[systems\]'"):
        digits("test")
    monkeypatch.undo()
    assert len(digits("test").labels) == SIZES["test"]
