"""The judge: what it learns from, that it repeats, that it is kept undamaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from featurewise.worlds.glyphs import (
    DIGITS,
    GlyphError,
    Glyphs,
    Judge,
    Training,
    as_ink,
    coverage,
    find_typefaces,
    glyphs,
    judge,
    judging,
    split_typefaces,
)

SPLIT = split_typefaces(find_typefaces("bundled", DIGITS))
TINY = Training(steps=120, batch_size=32, width=8, rate=1e-2)


@pytest.fixture(scope="module")
def tiny() -> Judge:
    return judge(SPLIT, DIGITS, 12, training=TINY)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Glyphs]:
    """What judges learned from."""
    seen: list[Glyphs] = []
    train = judging.trained

    def counted(known: Glyphs, *args: Any) -> Judge:
        seen.append(known)
        return train(known, *args)

    monkeypatch.setattr(judging, "trained", counted)
    return seen


def states(network: Judge) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_it_reads_letters_of_faces_it_never_saw(tiny: Judge) -> None:
    assert tiny.held_out.item() > 0.8
    assert tiny.accuracy(glyphs(SPLIT.train, DIGITS, 12)) > 0.8


def test_accuracy_is_counted(tiny: Judge) -> None:
    some = glyphs(SPLIT.held_out, "9705", 12)
    right = 0
    for face in some.images:
        for letter, image in zip("9705", face, strict=True):
            logits = tiny.letters(as_ink(image[None]))
            right += DIGITS[int(logits.argmax())] == letter
    assert tiny.accuracy(some) == right / (4 * len(some.faces))
    whole = glyphs(SPLIT.held_out, DIGITS, 12)
    assert tiny.held_out.item() == pytest.approx(tiny.accuracy(whole))


def test_it_sees_weight_and_slant(tiny: Judge) -> None:
    known = glyphs(SPLIT.judge, DIGITS, 12)
    seen = tiny.attributes(as_ink(known.images.flatten(0, 1))).view(len(known.faces), 10, 4).mean(1)
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
    assert known.faces == SPLIT.judge


def test_it_repeats_and_leaves_random_numbers_alone(tiny: Judge) -> None:
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


def test_it_is_kept(tiny: Judge, trainings: list[Glyphs]) -> None:
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


def test_a_picture_is_judged_alone(tiny: Judge) -> None:
    images = as_ink(glyphs(SPLIT.train, DIGITS, 12).images[0])
    torch.testing.assert_close(tiny.letters(images)[4:5], tiny.letters(images[4:5]))


def test_gradients_reach_the_pictures(tiny: Judge) -> None:
    images = as_ink(glyphs(SPLIT.train, DIGITS, 12).images[0]).requires_grad_()
    (gradient,) = torch.autograd.grad(tiny.letters(images).sum(), images)
    assert gradient.abs().sum() > 0


def test_wrong_wishes(tiny: Judge) -> None:
    with pytest.raises(GlyphError, match="tells '0123456789', not 'ab'"):
        tiny.accuracy(glyphs(SPLIT.train, "ba1", 12))
    with pytest.raises(GlyphError, match=r"reads pictures \(N, 1, 12, 12\), got \(2, 1, 16, 16\)"):
        tiny.letters(torch.zeros(2, 1, 16, 16))


def test_faces_without_attributes_teach_letters_only() -> None:
    known = glyphs(SPLIT.judge, DIGITS, 8)
    none = {name: torch.full_like(value, float("nan")) for name, value in known.attributes.items()}
    network = judging.trained(replace(known, attributes=none), 0, replace(TINY, steps=3))
    assert all(
        value.isfinite().all() for name, value in states(network).items() if name != "held_out"
    )


def test_coverage() -> None:
    assert coverage(torch.tensor([3, 3, 0, 1]), 10) == 0.3
    assert coverage(torch.arange(4), 4) == 1.0
    assert coverage(torch.tensor([], dtype=torch.long), 4) == 0.0
    with pytest.raises(GlyphError, match=r"from 0 to below 4, got \[1, 4\]"):
        coverage(torch.tensor([4, 1]), 4)
