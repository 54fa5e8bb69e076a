"""The judge: what it learns from, that it repeats, that it is kept undamaged."""

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
    find_typefaces,
    glyphs,
    judge,
    judging,
    mode_coverage,
    split_typefaces,
)
from featurewise.worlds.glyphs.attributes import ATTRIBUTES

SPLIT = split_typefaces(find_typefaces("bundled", DIGITS))
TINY = ClassifierConfig(steps=120, batch_size=32, width=8, rate=1e-2)


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    return judge(SPLIT, DIGITS, 12, training=TINY)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Glyphs]:
    """What judges learned from."""
    seen: list[Glyphs] = []
    train = judging.trained

    def counted(known: Glyphs, *args: Any) -> Classifier:
        seen.append(known)
        return train(known, *args)

    monkeypatch.setattr(judging, "trained", counted)
    return seen


def states(network: Classifier) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_it_reads_letters_of_typefaces_it_never_saw(tiny: Classifier) -> None:
    assert tiny.held_out.item() > 0.8
    assert tiny.accuracy(glyphs(SPLIT.train, DIGITS, 12)) > 0.8


def test_accuracy_is_counted(tiny: Classifier) -> None:
    some = glyphs(SPLIT.held_out, "9705", 12)
    right = 0
    for typeface in some.images:
        for letter, image in zip("9705", typeface, strict=True):
            logits = tiny.letters(as_ink(image[None]))
            right += DIGITS[int(logits.argmax())] == letter
    assert tiny.accuracy(some) == right / (4 * len(some.typefaces))
    whole = glyphs(SPLIT.held_out, DIGITS, 12)
    assert tiny.held_out.item() == pytest.approx(tiny.accuracy(whole))


def test_it_sees_weight_and_slant(tiny: Classifier) -> None:
    known = glyphs(SPLIT.judge, DIGITS, 12)
    seen = (
        tiny.attributes(as_ink(known.images.flatten(0, 1)))
        .view(len(known.typefaces), 10, 4)
        .mean(1)
    )
    for column, name in ((0, "weight"), (1, "slant"), (3, "width")):
        true = known.attributes[name]
        assert torch.corrcoef(torch.stack([seen[:, column], true]))[0, 1] > 0.7, name
        assert (seen[:, column] - true).abs().mean() < true.std(), name


def test_it_learns_from_its_own_typefaces_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs]
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    judge("bundled", DIGITS, 8, training=replace(TINY, steps=1))
    (known,) = trainings
    assert known.typefaces == SPLIT.judge


def test_the_split_of_a_place_follows_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs]
) -> None:
    """The bundled typefaces are of three families, which all seeds deal alike: so a split by hand."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    others = replace(SPLIT, judge=SPLIT.train)
    splits = {0: SPLIT, 1: others}
    monkeypatch.setattr(judging, "split_typefaces", lambda typefaces, seed=0: splits[seed])
    judge("bundled", DIGITS, 8, seed=1, training=replace(TINY, steps=1))
    (known,) = trainings
    assert known.typefaces == others.judge


def test_training_by_hand() -> None:
    """Seed, jittered batches, units of the attributes, falling rate: three steps written out."""
    known, plan = glyphs(SPLIT.judge, DIGITS, 8), replace(TINY, steps=3, jitter=0.5)
    wanted = torch.zeros(len(known.typefaces), 4)
    torch.manual_seed(4)
    twin = Classifier(DIGITS, 8, plan.width)
    for column, name in enumerate(ATTRIBUTES):
        values = known.attributes[name].tolist()
        known_ones = [value for value in values if not math.isnan(value)]
        mean = sum(known_ones) / len(known_ones)
        spread = math.sqrt(sum((value - mean) ** 2 for value in known_ones) / len(known_ones))
        twin.mean[column], twin.spread[column] = mean, spread
        wanted[:, column] = torch.tensor([(value - mean) / spread for value in values])
    adam = torch.optim.Adam(twin.parameters())
    for step in range(3):
        adam.param_groups[0]["lr"] = plan.rate * (1 + math.cos(math.pi * step / 3)) / 2
        batch = GlyphSource(known, plan.batch_size, 4, 0.5).batch(step)
        logits, attributes = twin(batch.images)
        off = [
            (attributes[row, column] - wanted[typeface, column]) ** 2
            for row, typeface in enumerate(batch.typefaces.tolist())
            for column in range(4)
            if not wanted[typeface, column].isnan()
        ]
        loss = F.cross_entropy(logits, batch.letters) + 0.1 * sum(off) / (4 * plan.batch_size)
        adam.zero_grad()
        loss.backward()
        adam.step()
    found = states(judging.trained(known, 4, plan))
    for name, value in states(twin).items():
        if name != "held_out":
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


def test_it_repeats_and_leaves_random_numbers_alone(tiny: Classifier) -> None:
    known = glyphs(SPLIT.judge, DIGITS, 12)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = states(judging.trained(known, 0, TINY))
    assert torch.equal(torch.get_rng_state(), before)
    again["held_out"] = tiny.held_out
    assert equal(again, states(tiny))
    other = judging.trained(known, 1, replace(TINY, steps=1))
    assert not torch.equal(other.letter_head.weight, tiny.letter_head.weight)


@torch.no_grad()
def test_it_is_trained_where_nobody_takes_gradients() -> None:
    known = glyphs(SPLIT.judge, DIGITS, 8)
    assert judging.trained(known, 0, replace(TINY, steps=1)).letter_head.weight.isfinite().all()


def test_it_is_kept(tiny: Classifier, trainings: list[Glyphs]) -> None:
    again = judge(SPLIT, DIGITS, 12, training=TINY)
    assert not trainings
    assert equal(states(again), states(tiny))
    assert not again.training and not any(p.requires_grad for p in again.parameters())


def flip(place: Path) -> None:
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)


def reseed(place: Path) -> None:
    path = place.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 9}))


@pytest.mark.parametrize("harm", [flip, reseed, Path.unlink])
def test_a_damaged_one_is_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs], harm: Any
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    short = replace(TINY, steps=2)
    first = states(judge(SPLIT, DIGITS, 8, training=short))
    (place,) = (tmp_path / "glyphs/judges").glob("*.safetensors")
    harm(place)
    assert equal(states(judge(SPLIT, DIGITS, 8, training=short)), first)
    assert len(trainings) == 2


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"letters": DIGITS[:9]}, {"size": 9}, {"training": TINY}]
)
def test_others_are_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    wish = {"letters": DIGITS, "size": 8, "training": replace(TINY, steps=1)}
    judge(SPLIT, **wish)
    changed = {**wish, **changes}
    if "training" in changes:
        changed["training"] = replace(TINY, steps=2)
    judge(SPLIT, **changed)
    assert len(list((tmp_path / "glyphs/judges").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("version", ["_VERSION", "FORMAT_VERSION"])
def test_one_of_another_version_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: list[Glyphs], version: str
) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    judge(SPLIT, DIGITS, 8, training=replace(TINY, steps=1))
    monkeypatch.setattr(judging, version, getattr(judging, version) + 1)
    judge(SPLIT, DIGITS, 8, training=replace(TINY, steps=1))
    assert len(trainings) == 2


def test_what_it_tells_of_held_out_typefaces_is_of_those_of_its_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that learned from the same typefaces, but was measured on others, is not taken for it."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    short = replace(TINY, steps=20)
    for split in (SPLIT, replace(SPLIT, held_out=SPLIT.train)):
        network = judge(split, DIGITS, 8, training=short)
        told = network.accuracy(glyphs(split.held_out, DIGITS, 8))
        assert network.held_out.item() == pytest.approx(told)


def test_it_is_looked_for_and_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes that ask at once, the second waits and finds what the first kept."""
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path))
    train, said = judging.trained, []

    @contextmanager
    def alone(lock: Path) -> Iterator[None]:
        said.append("in")
        yield
        said.append(f"out, {len(list(lock.parent.glob('*.json')))} kept")

    def watched(*args: Any) -> Classifier:
        said.append("trains")
        return train(*args)

    monkeypatch.setattr(judging, "file_lock", alone)
    monkeypatch.setattr(judging, "trained", watched)
    for _ in range(2):
        judge(SPLIT, DIGITS, 8, training=replace(TINY, steps=1))
    assert said == ["in", "trains", "out, 1 kept", "in", "out, 1 kept"]


def test_a_picture_is_judged_alone(tiny: Classifier) -> None:
    images = as_ink(glyphs(SPLIT.train, DIGITS, 12).images[0])
    torch.testing.assert_close(tiny.letters(images)[4:5], tiny.letters(images[4:5]))


def test_gradients_reach_the_pictures(tiny: Classifier) -> None:
    images = as_ink(glyphs(SPLIT.train, DIGITS, 12).images[0]).requires_grad_()
    (gradient,) = torch.autograd.grad(tiny.letters(images).sum(), images)
    assert gradient.abs().sum() > 0


def test_wrong_wishes(tiny: Classifier) -> None:
    with pytest.raises(GlyphError, match="tells '0123456789', not 'ab'"):
        tiny.accuracy(glyphs(SPLIT.train, "ba1", 12))
    with pytest.raises(GlyphError, match=r"reads pictures \(N, 1, 12, 12\), got \(2, 1, 16, 16\)"):
        tiny.letters(torch.zeros(2, 1, 16, 16))


def test_typefaces_without_attributes_teach_letters_only() -> None:
    known = glyphs(SPLIT.judge, DIGITS, 8)
    none = {name: torch.full_like(value, float("nan")) for name, value in known.attributes.items()}
    network = judging.trained(replace(known, attributes=none), 0, replace(TINY, steps=3))
    assert all(
        value.isfinite().all() for name, value in states(network).items() if name != "held_out"
    )
    torch.manual_seed(0)
    begun = Classifier(DIGITS, 8, TINY.width)
    assert torch.equal(network.attribute_head.weight, begun.attribute_head.weight)
    assert not torch.equal(network.letter_head.weight, begun.letter_head.weight)


def test_coverage() -> None:
    assert mode_coverage(torch.tensor([3, 3, 0, 1]), 10) == 0.3
    assert mode_coverage(torch.arange(4), 4) == 1.0
    assert mode_coverage(torch.tensor([], dtype=torch.long), 4) == 0.0
    with pytest.raises(GlyphError, match=r"from 0 to below 4, got \[1, 4\]"):
        mode_coverage(torch.tensor([4, 1]), 4)
    with pytest.raises(GlyphError, match=r"from 0 to below 4, got \[-1, 1\]"):
        mode_coverage(torch.tensor([-1, 1]), 4)
    with pytest.raises(GlyphError, match=r"from 0 to below 0, got \[\]"):
        mode_coverage(torch.tensor([], dtype=torch.long), 0)
