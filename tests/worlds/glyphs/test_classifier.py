"""The evaluation classifier: its training set, reproducibility, accuracy and cache."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from featurewise.worlds.glyphs import (
    DIGITS,
    Classifier,
    ClassifierConfig,
    GlyphError,
    Glyphs,
    GlyphSource,
    as_ink,
    evaluation_classifier,
    find_typefaces,
    glyphs,
    mode_coverage,
    split_typefaces,
)
from featurewise.worlds.glyphs import classifier as module
from featurewise.worlds.glyphs.attributes import ATTRIBUTES

SPLIT = split_typefaces(find_typefaces("bundled", DIGITS))
TINY = ClassifierConfig(steps=120, batch_size=32, width=8, learning_rate=1e-2)


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    return evaluation_classifier(SPLIT, DIGITS, 12, config=TINY)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Glyphs]:
    """The training set of every classifier that was trained."""
    seen: list[Glyphs] = []
    train = module.train_classifier

    def counted(known: Glyphs, *args: Any) -> Classifier:
        seen.append(known)
        return train(known, *args)

    monkeypatch.setattr(module, "train_classifier", counted)
    return seen


def states(network: Classifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_it_classifies_letters_of_typefaces_that_it_was_not_trained_on(tiny: Classifier) -> None:
    assert tiny.real_accuracy.item() > 0.8
    assert tiny.accuracy(glyphs(SPLIT.train, DIGITS, 12)) > 0.8


def test_accuracy_against_a_loop(tiny: Classifier) -> None:
    some = glyphs(SPLIT.test, "9705", 12)
    right = 0
    for typeface in some.images:
        for letter, image in zip("9705", typeface, strict=True):
            logits = tiny.letters(as_ink(image[None]))
            right += DIGITS[int(logits.argmax())] == letter
    assert tiny.accuracy(some) == right / (4 * len(some.typefaces))
    whole = glyphs(SPLIT.test, DIGITS, 12)
    assert tiny.real_accuracy.item() == pytest.approx(tiny.accuracy(whole))


def test_estimated_attributes_correlate_with_the_true_ones(tiny: Classifier) -> None:
    known = glyphs(SPLIT.classifier, DIGITS, 12)
    estimated = tiny.attributes(as_ink(known.images.flatten(0, 1)))
    seen = estimated.view(len(known.typefaces), 10, 4).mean(1)
    for column, name in ((0, "weight"), (1, "slant"), (3, "width")):
        true = known.attributes[name]
        assert torch.corrcoef(torch.stack([seen[:, column], true]))[0, 1] > 0.7, name
        assert (seen[:, column] - true).abs().mean() < true.std(), name


def test_it_is_trained_on_its_part_of_the_split_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs]
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    evaluation_classifier("bundled", DIGITS, 8, config=replace(TINY, steps=1))
    (known,) = trainings
    assert known.typefaces == SPLIT.classifier


def test_the_split_of_a_location_depends_on_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs]
) -> None:
    """All seeds split the three bundled families alike, so the splits are made by hand."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    others = replace(SPLIT, classifier=SPLIT.train)
    splits = {0: SPLIT, 1: others}
    monkeypatch.setattr(module, "split_typefaces", lambda typefaces, seed=0: splits[seed])
    evaluation_classifier("bundled", DIGITS, 8, seed=1, config=replace(TINY, steps=1))
    (known,) = trainings
    assert known.typefaces == others.classifier


def test_training_against_a_loop() -> None:
    """Seed, jittered batches, standardised attributes, learning rate schedule: three steps."""
    known, config = glyphs(SPLIT.classifier, DIGITS, 8), replace(TINY, steps=3, jitter=0.5)
    wanted = torch.zeros(len(known.typefaces), 4)
    torch.manual_seed(4)
    reference = Classifier(DIGITS, 8, config.width)
    for column, name in enumerate(ATTRIBUTES):
        values = known.attributes[name].tolist()
        known_ones = [value for value in values if not math.isnan(value)]
        mean = sum(known_ones) / len(known_ones)
        std = math.sqrt(sum((value - mean) ** 2 for value in known_ones) / len(known_ones))
        reference.mean[column], reference.std[column] = mean, std
        wanted[:, column] = torch.tensor([(value - mean) / std for value in values])
    adam = torch.optim.Adam(reference.parameters())
    for step in range(3):
        adam.param_groups[0]["lr"] = config.learning_rate * (1 + math.cos(math.pi * step / 3)) / 2
        batch = GlyphSource(known, config.batch_size, 4, 0.5).batch(step)
        logits, attributes = reference(batch.images)
        off = [
            (attributes[row, column] - wanted[typeface, column]) ** 2
            for row, typeface in enumerate(batch.typefaces.tolist())
            for column in range(4)
            if not wanted[typeface, column].isnan()
        ]
        loss = F.cross_entropy(logits, batch.letters) + 0.1 * sum(off) / (4 * config.batch_size)
        adam.zero_grad()
        loss.backward()
        adam.step()
    found = states(module.train_classifier(known, 4, config))
    for name, value in states(reference).items():
        if name != "real_accuracy":
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


def test_training_is_reproducible_and_keeps_the_global_random_state(tiny: Classifier) -> None:
    known = glyphs(SPLIT.classifier, DIGITS, 12)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = states(module.train_classifier(known, 0, TINY))
    assert torch.equal(torch.get_rng_state(), before)
    again["real_accuracy"] = tiny.real_accuracy
    assert equal(again, states(tiny))
    other = module.train_classifier(known, 1, replace(TINY, steps=1))
    assert not torch.equal(other.letter_head.weight, tiny.letter_head.weight)


@torch.no_grad()
def test_it_is_trained_under_no_grad() -> None:
    known = glyphs(SPLIT.classifier, DIGITS, 8)
    assert (
        module.train_classifier(known, 0, replace(TINY, steps=1))
        .letter_head.weight.isfinite()
        .all()
    )


def test_it_is_cached(tiny: Classifier, trainings: list[Glyphs]) -> None:
    again = evaluation_classifier(SPLIT, DIGITS, 12, config=TINY)
    assert not trainings
    assert equal(states(again), states(tiny))
    assert not again.training and not any(p.requires_grad for p in again.parameters())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def reseed(path: Path) -> None:
    path = path.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 9}))


@pytest.mark.parametrize("harm", [flip, reseed, Path.unlink])
def test_a_damaged_cache_entry_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs], harm: Any
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    short = replace(TINY, steps=2)
    first = states(evaluation_classifier(SPLIT, DIGITS, 8, config=short))
    (path,) = (tmp_path / "glyphs/classifiers").glob("*.safetensors")
    harm(path)
    assert equal(states(evaluation_classifier(SPLIT, DIGITS, 8, config=short)), first)
    assert len(trainings) == 2


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"letters": DIGITS[:9]}, {"size": 9}, {"config": TINY}]
)
def test_other_arguments_have_another_cache_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    arguments = {"letters": DIGITS, "size": 8, "config": replace(TINY, steps=1)}
    evaluation_classifier(SPLIT, **arguments)
    changed = {**arguments, **changes}
    if "config" in changes:
        changed["config"] = replace(TINY, steps=2)
    evaluation_classifier(SPLIT, **changed)
    assert len(list((tmp_path / "glyphs/classifiers").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("version", ["_VERSION", "FORMAT_VERSION"])
def test_a_cache_entry_of_another_version_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs], version: str
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    evaluation_classifier(SPLIT, DIGITS, 8, config=replace(TINY, steps=1))
    monkeypatch.setattr(module, version, getattr(module, version) + 1)
    evaluation_classifier(SPLIT, DIGITS, 8, config=replace(TINY, steps=1))
    assert len(trainings) == 2


def test_the_accuracy_on_real_images_is_that_of_the_test_part_of_its_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another cache entry, even with the same training set, if the test set differs."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    short = replace(TINY, steps=20)
    for split in (SPLIT, replace(SPLIT, test=SPLIT.train)):
        network = evaluation_classifier(split, DIGITS, 8, config=short)
        accuracy = network.accuracy(glyphs(split.test, DIGITS, 8))
        assert network.real_accuracy.item() == pytest.approx(accuracy)


def test_the_cache_is_read_and_written_under_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes at once, the second waits and loads what the first saved."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    train, events = module.train_classifier, []

    @contextmanager
    def lock(path: Path) -> Iterator[None]:
        events.append("in")
        yield
        events.append(f"out, {len(list(path.parent.glob('*.json')))} saved")

    def watched(*args: Any) -> Classifier:
        events.append("trains")
        return train(*args)

    monkeypatch.setattr(module, "file_lock", lock)
    monkeypatch.setattr(module, "train_classifier", watched)
    for _ in range(2):
        evaluation_classifier(SPLIT, DIGITS, 8, config=replace(TINY, steps=1))
    assert events == ["in", "trains", "out, 1 saved", "in", "out, 1 saved"]


def test_images_of_a_batch_do_not_influence_each_other(tiny: Classifier) -> None:
    images = as_ink(glyphs(SPLIT.train, DIGITS, 12).images[0])
    torch.testing.assert_close(tiny.letters(images)[4:5], tiny.letters(images[4:5]))


def test_gradients_reach_the_images(tiny: Classifier) -> None:
    images = as_ink(glyphs(SPLIT.train, DIGITS, 12).images[0]).requires_grad_()
    (gradient,) = torch.autograd.grad(tiny.letters(images).sum(), images)
    assert gradient.abs().sum() > 0


def test_wrong_images_are_refused(tiny: Classifier) -> None:
    with pytest.raises(GlyphError, match="knows '0123456789', not 'ab'"):
        tiny.accuracy(glyphs(SPLIT.train, "ba1", 12))
    with pytest.raises(GlyphError, match=r"takes images \(N, 1, 12, 12\), got \(2, 1, 16, 16\)"):
        tiny.letters(torch.zeros(2, 1, 16, 16))


def test_typefaces_without_attributes_train_the_letters_only() -> None:
    known = glyphs(SPLIT.classifier, DIGITS, 8)
    none = {name: torch.full_like(value, float("nan")) for name, value in known.attributes.items()}
    network = module.train_classifier(replace(known, attributes=none), 0, replace(TINY, steps=3))
    assert all(
        value.isfinite().all() for name, value in states(network).items() if name != "real_accuracy"
    )
    torch.manual_seed(0)
    begun = Classifier(DIGITS, 8, TINY.width)
    assert torch.equal(network.attribute_head.weight, begun.attribute_head.weight)
    assert not torch.equal(network.letter_head.weight, begun.letter_head.weight)


def test_mode_coverage() -> None:
    assert mode_coverage(torch.tensor([3, 3, 0, 1]), 10) == 0.3
    assert mode_coverage(torch.arange(4), 4) == 1.0
    assert mode_coverage(torch.tensor([], dtype=torch.long), 4) == 0.0
    with pytest.raises(GlyphError, match=r"from 0 to below 4 classes, got \[1, 4\]"):
        mode_coverage(torch.tensor([4, 1]), 4)
    with pytest.raises(GlyphError, match=r"from 0 to below 4 classes, got \[-1, 1\]"):
        mode_coverage(torch.tensor([-1, 1]), 4)
    with pytest.raises(GlyphError, match=r"from 0 to below 0 classes, got \[\]"):
        mode_coverage(torch.tensor([], dtype=torch.long), 0)
