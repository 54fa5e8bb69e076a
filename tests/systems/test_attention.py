"""Attention against FiLM: sizes, positions that are apart, attention, and the control."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from featurewise.systems.mechanisms.attention import SYSTEM, Config
from featurewise.systems.mechanisms.attention.experiment import data, evaluate
from featurewise.systems.mechanisms.attention.method import Network, stepper
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts

TINY: Config = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


def network(arm: str) -> Network:
    """In eval mode, its generator away from the identity."""
    torch.manual_seed(0)
    made = Network(SYSTEM.config("tiny", arm)).eval()
    if made.conditioned:
        nn.init.normal_(made.trunk.generator.head.weight)
    return made


def batch(arm: str = "film") -> Places:
    found: Places = data(SYSTEM.config("tiny", arm), 0).batch(0)
    return found


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("arm", ["attention", "both"])
def test_arms_compared_have_as_many_parameters(preset: str, arm: str) -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in Network(SYSTEM.config(preset, name)).parameters())
            for name in ("film", arm)
        ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@torch.no_grad()
@pytest.mark.parametrize("arm", ["film", "both", "attention", "input"])
def test_no_position_sees_another(arm: str) -> None:
    made, before = network(arm), batch()
    grids = before.grids.clone()
    grids[:, :, 1, 2] = grids[:, :, 1, 2].roll(1, 1)
    changed = made.map(replace(before, grids=grids)) != made.map(before)
    assert changed[:, :, 1, 2].any()
    changed[:, :, 1, 2] = False
    assert not changed.any()


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_which_arm_reads_cue_and_grid(arm: str) -> None:
    made, plain = network(arm), batch()
    other_cue = made(replace(plain, cue=plain.cue.roll(2, 0)))
    other_grid = made(replace(plain, grids=plain.grids.roll(2, 0)))
    assert torch.equal(other_cue, made(plain)) == (arm == "input")
    assert torch.equal(other_grid, made(plain)) == (arm == "condition")


@torch.no_grad()
def test_each_question_has_the_logits_of_its_kind() -> None:
    made, questions = network("film"), batch()
    one, other = (made(replace(questions, task=torch.full_like(questions.task, i))) for i in (0, 1))
    expected = torch.where(questions.task[:, None] == 0, one, other)
    assert torch.equal(made(questions), expected)
    assert not torch.equal(one, other)
    assert KINDS == ("place", "feature")


@torch.no_grad()
def test_attention_answers_from_the_positions_it_attends_to() -> None:
    made, questions = network("attention"), batch()
    weights = made.attention(questions)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    features = made.map(questions).flatten(2)
    for row in range(4):
        attended = sum(
            weights[row, place] * made.attend.value(features[row, :, place])
            for place in range(TINY.side**2)
        )
        logits = made.answer(attended[None]).unflatten(1, (2, -1))[0, questions.task[row]]
        torch.testing.assert_close(logits, made(questions)[row])


@torch.no_grad()
def test_film_answers_from_the_maximum_and_the_mean_of_all_positions() -> None:
    made, questions = network("film"), batch()
    features = made.map(questions).flatten(2)
    for row in range(4):
        largest = [max(values) for values in features[row].tolist()]
        mean = [sum(values) / len(values) for values in features[row].tolist()]
        logits = made.answer(torch.tensor([largest + mean])).unflatten(1, (2, -1))
        torch.testing.assert_close(logits[0, questions.task[row]], made(questions)[row])


@torch.no_grad()
def test_film_attends_to_where_its_features_are_largest() -> None:
    made, questions = network("film"), batch()
    attention, features = made.attention(questions), made.map(questions).flatten(2)
    for row in range(4):
        counts = [0] * TINY.side**2
        for values in features[row].tolist():
            if max(values) > min(values):
                counts[values.index(max(values))] += 1
        torch.testing.assert_close(attention[row], torch.tensor(counts) / sum(counts))


@torch.no_grad()
@pytest.mark.parametrize("arm", ["film", "attention", "condition", "shuffled"])
def test_what_is_measured_is_counted_question_by_question(arm: str) -> None:
    """On questions that no run is trained on; the control's have the cue of another."""
    made, config = network(arm), SYSTEM.config("tiny", arm)
    measured = evaluate(stepper(made, config), config)
    questions = PlaceSource(side=3, symbols=4, batch_size=64, seed=1_000_000).batch(0)
    if arm == "shuffled":
        questions = replace(questions, cue=questions.cue.roll(2, 0))
    right = dict.fromkeys(KINDS, 0)
    for logits, kind, answer in zip(
        made(questions), questions.task, questions.answers, strict=True
    ):
        right[KINDS[kind]] += int(logits.argmax() == answer)
    assert {kind: each.correct for kind, each in measured.by_type.items()} == right
    assert measured.accuracy is not None
    assert (measured.accuracy.correct, measured.accuracy.total) == (sum(right.values()), 64)
    found = dict(measured.values)
    exponent = found.pop("exponent of cost", None)
    if arm == "condition":
        assert not found
    else:
        lift = lifts(made.attention(questions), questions)
        assert found == {
            "attention to the place": lift["lift_place"],
            "attention to the symbol": lift["lift_feature"],
        }
    if arm == "film":
        assert exponent == pytest.approx(1.0, abs=0.1)
    elif arm == "attention":
        assert exponent is not None and exponent > 1.5
    else:
        assert exponent is None


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_the_learning_rate_rises_for_a_twentieth_and_falls_to_nothing(preset: str) -> None:
    config = SYSTEM.preset(preset)
    schedule = stepper(network("film"), config).learner.schedule
    rise = config.steps // 20
    assert schedule(0) == pytest.approx(1 / (rise + 1))
    assert [schedule(rise), schedule(config.steps)] == pytest.approx([1, 0])


def test_the_control_has_cues_of_the_same_kind() -> None:
    plain, control = batch(), batch("shuffled")
    assert torch.equal(plain.grids, control.grids)
    assert torch.equal(plain.answers, control.answers)
    assert torch.equal(plain.cue[:-2], control.cue[2:])
