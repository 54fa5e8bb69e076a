"""Grids asked about by place and by feature: every answer is read off again, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from featurewise.worlds.small import SmallWorldError
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts


def source(seed: int = 0, batch_size: int = 64, side: int = 4, symbols: int = 5) -> PlaceSource:
    return PlaceSource(side=side, symbols=symbols, batch_size=batch_size, seed=seed)


def answer(batch: Places, row: int) -> int:
    """The answer to one question, read off the grid."""
    grid, cue = batch.grids[row], batch.cue[row].tolist()
    symbols, side = grid.shape[0], grid.shape[1]
    asked = cue.index(1.0)
    assert sum(cue) == 1
    if asked < side * side:
        assert KINDS[batch.task[row]] == "place"
        assert batch.place[row] == asked
        return grid[:, asked // side, asked % side].tolist().index(1.0)
    assert KINDS[batch.task[row]] == "feature"
    assert batch.place[row] == 0
    assert asked - side * side < symbols
    return sum(grid[asked - side * side, i, j] == 1 for i in range(side) for j in range(side))


def test_answers_can_be_read_off() -> None:
    batch = source().batch(3)
    assert torch.equal(batch.grids.sum(1), torch.ones(64, 4, 4))
    assert batch.answers.tolist() == [answer(batch, row) for row in range(64)]


def test_kinds_come_in_turn() -> None:
    assert source().batch(0).task.tolist() == [0, 1] * 32


def test_batches_are_functions_of_seed_and_index() -> None:
    one, again = source().batch(5), source().batch(5)
    assert torch.equal(one.grids, again.grids)
    assert torch.equal(one.cue, again.cue)
    for other in (source().batch(6), source(seed=1).batch(5)):
        assert not torch.equal(one.grids, other.grids)
        assert not torch.equal(one.cue, other.cue)


def test_shuffled_cues_are_of_another_question_of_the_kind() -> None:
    plain, control = source().batch(0), replace(source(), shuffled=True).batch(0)
    assert torch.equal(plain.grids, control.grids)
    assert torch.equal(plain.answers, control.answers)
    assert torch.equal(plain.cue[:-2], control.cue[2:])
    assert ((control.cue[:, :16].sum(1) == 1) == (control.task == 0)).all()


def test_lifts() -> None:
    batch = source(batch_size=400).batch(0)
    looked = torch.zeros(400, 16)
    for row in range(400):
        asked = batch.cue[row].argmax()
        grid = batch.grids[row].flatten(1)
        looked[row] = batch.cue[row, :16] if asked < 16 else grid[asked - 16]
    counts = batch.answers[batch.task == 1].double()
    looked = looked / looked.sum(1, keepdim=True).clamp_min(1)
    found = lifts(looked, batch)
    assert found["lift_place"] == pytest.approx(16)
    assert found["lift_feature"] == pytest.approx(16 / float(counts[counts > 0].mean()), rel=1e-5)
    anywhere = lifts(torch.full((400, 16), 1 / 16), batch)
    assert anywhere == pytest.approx({"lift_place": 1.0, "lift_feature": 1.0})


def test_every_answer_is_equally_frequent_and_no_place_helps() -> None:
    batch = source(batch_size=40_000).batch(0)
    for task in (0, 1):
        share = torch.bincount(batch.answers[batch.task == task], minlength=5) / 20_000
        assert share == pytest.approx([0.2] * 5, abs=0.012)
    where = batch.task == 0
    shown = batch.grids[where].flatten(2).argmax(1)
    right, there = batch.answers[where], batch.place[where]
    for place in range(16):
        elsewhere = there != place
        agree = (shown[elsewhere, place] == right[elsewhere]).double().mean()
        assert agree == pytest.approx(0.2, abs=0.015)


def test_symbols_that_are_counted_lie_anywhere() -> None:
    batch = source(batch_size=40_000).batch(1)
    where = batch.task == 1
    asked = batch.cue[where].argmax(1) - 16
    grids = batch.grids[where].flatten(2)
    shown = grids[torch.arange(len(asked)), asked].mean(0)
    assert shown == pytest.approx(shown.mean().expand(16), abs=0.012)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "even"),
        ({"batch_size": 0}, "even"),
        ({"symbols": 1}, "symbols, not 1"),
        ({"side": 1}, "takes 2 to 2 symbols, not 5"),
    ],
)
def test_impossible_sources(change: dict[str, int], message: str) -> None:
    with pytest.raises(SmallWorldError, match=message):
        source(**change)
