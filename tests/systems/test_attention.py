"""What is particular to attention against FiLM: sizes, places apart, looking, the control."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from featurewise.systems.mechanisms.attention import (
    SYSTEM,
    Looking,
    Network,
    data,
    evaluate,
    stepper,
)
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts

TINY: Looking = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


def network(arm: str) -> Network:
    """In eval mode, its generator away from the identity."""
    torch.manual_seed(0)
    made = Network(TINY, arm).eval()
    if made.told:
        nn.init.normal_(made.trunk.generator.head.weight)
    return made


def batch(arm: str = "film") -> Places:
    return data(TINY, SYSTEM.arm(arm), 0).batch(0)


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("arm", ["attention", "both"])
def test_arms_compared_have_as_many_parameters(preset: str, arm: str) -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in Network(SYSTEM.preset(preset), name).parameters())
            for name in ("film", arm)
        ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@torch.no_grad()
@pytest.mark.parametrize("arm", ["film", "both", "attention", "input"])
def test_no_place_sees_another(arm: str) -> None:
    made, before = network(arm), batch()
    grids = before.grids.clone()
    grids[:, :, 1, 2] = grids[:, :, 1, 2].roll(1, 1)
    changed = made.map(replace(before, grids=grids)) != made.map(before)
    assert changed[:, :, 1, 2].any()
    changed[:, :, 1, 2] = False
    assert not changed.any()


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_who_is_told_what(arm: str) -> None:
    made, plain = network(arm), batch()
    other_cue = made(replace(plain, cue=plain.cue.roll(2, 0)))
    other_grid = made(replace(plain, grids=plain.grids.roll(2, 0)))
    assert torch.equal(other_cue, made(plain)) == (arm == "input")
    assert torch.equal(other_grid, made(plain)) == (arm == "condition")


@torch.no_grad()
def test_each_row_gets_the_answers_of_its_kind() -> None:
    made, asked = network("film"), batch()
    one, other = (made(replace(asked, task=torch.full_like(asked.task, i))) for i in (0, 1))
    expected = torch.where(asked.task[:, None] == 0, one, other)
    assert torch.equal(made(asked), expected)
    assert not torch.equal(one, other)
    assert KINDS == ("place", "feature")


@torch.no_grad()
def test_attention_answers_from_where_it_looks() -> None:
    made, asked = network("attention"), batch()
    weights = made.look(asked)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    features = made.map(asked).flatten(2)
    for row in range(4):
        seen = sum(
            weights[row, place] * made.attend.value(features[row, :, place])
            for place in range(TINY.side**2)
        )
        logits = made.answer(seen[None]).unflatten(1, (2, -1))[0, asked.task[row]]
        torch.testing.assert_close(logits, made(asked)[row])


@torch.no_grad()
def test_film_answers_from_the_largest_and_the_mean_of_all_places() -> None:
    made, asked = network("film"), batch()
    features = made.map(asked).flatten(2)
    for row in range(4):
        largest = [max(values) for values in features[row].tolist()]
        mean = [sum(values) / len(values) for values in features[row].tolist()]
        logits = made.answer(torch.tensor([largest + mean])).unflatten(1, (2, -1))
        torch.testing.assert_close(logits[0, asked.task[row]], made(asked)[row])


@torch.no_grad()
def test_film_looks_where_its_features_are_largest() -> None:
    made, asked = network("film"), batch()
    looked, features = made.look(asked), made.map(asked).flatten(2)
    for row in range(4):
        counts = [0] * TINY.side**2
        for values in features[row].tolist():
            if max(values) > min(values):
                counts[values.index(max(values))] += 1
        torch.testing.assert_close(looked[row], torch.tensor(counts) / sum(counts))


@torch.no_grad()
@pytest.mark.parametrize("name", ["film", "attention", "condition", "shuffled"])
def test_what_is_measured_is_counted_question_by_question(name: str) -> None:
    """On questions that no run is trained on; the control's have the cue of another."""
    made, arm = network(name), SYSTEM.arm(name)
    measured = evaluate(stepper(made, TINY, arm), TINY, arm)
    source = PlaceSource(
        side=3, symbols=4, batch_size=64, seed=1_000_000, shuffled=name == "shuffled"
    )
    asked = source.batch(0)
    right = dict.fromkeys(KINDS, 0)
    for logits, kind, answer in zip(made(asked), asked.task, asked.answers, strict=True):
        right[KINDS[kind]] += int(logits.argmax() == answer)
    assert {kind: each.correct for kind, each in measured.by_type.items()} == right
    assert measured.accuracy is not None
    assert (measured.accuracy.correct, measured.accuracy.total) == (sum(right.values()), 64)
    expected = lifts(made.look(asked), asked) if name != "condition" else {}
    found = dict(measured.values)
    exponent = found.pop("exponent", None)
    assert found == expected
    if name == "film":
        assert exponent == pytest.approx(1.0, abs=0.1)
    elif name == "attention":
        assert exponent is not None and exponent > 1.5
    else:
        assert exponent is None


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_the_rate_rises_for_a_twentieth_and_falls_to_nothing(preset: str) -> None:
    s = SYSTEM.preset(preset)
    schedule = stepper(network("film"), s, SYSTEM.arm("film")).learner.schedule
    rise = s.steps // 20
    assert schedule(0) == pytest.approx(1 / (rise + 1))
    assert [schedule(rise), schedule(s.steps)] == pytest.approx([1, 0])


def test_the_control_gets_cues_of_the_same_kind() -> None:
    plain, control = batch(), batch("shuffled")
    assert torch.equal(plain.grids, control.grids)
    assert torch.equal(plain.answers, control.answers)
    assert torch.equal(plain.cue[:-2], control.cue[2:])
