"""Questions about grids: every answer against the grid, the distributions, the control."""

from __future__ import annotations

import pytest
import torch

from featurewise.worlds.small import SmallWorldError
from featurewise.worlds.small.places import KINDS, Places, PlaceSource, lifts


def source(seed: int = 0, batch_size: int = 64, side: int = 4, symbols: int = 5) -> PlaceSource:
    return PlaceSource(side=side, symbols=symbols, batch_size=batch_size, seed=seed)


def answer(batch: Places, row: int) -> int:
    """The answer to one question, from its grid."""
    grid, cue = batch.grids[row], batch.cue[row].tolist()
    symbols, side = grid.shape[0], grid.shape[1]
    question = cue.index(1.0)
    assert sum(cue) == 1
    if question < side * side:
        assert KINDS[batch.task[row]] == "place"
        assert batch.place[row] == question
        return grid[:, question // side, question % side].tolist().index(1.0)
    assert KINDS[batch.task[row]] == "feature"
    assert batch.place[row] == 0
    assert question - side * side < symbols
    return sum(grid[question - side * side, i, j] == 1 for i in range(side) for j in range(side))


def test_answers_follow_from_the_grids() -> None:
    batch = source().batch(3)
    assert torch.equal(batch.grids.sum(1), torch.ones(64, 4, 4))
    assert batch.answers.tolist() == [answer(batch, row) for row in range(64)]


def test_kinds_alternate() -> None:
    assert source().batch(0).task.tolist() == [0, 1] * 32


def test_batches_depend_on_seed_and_index_only() -> None:
    one, again = source().batch(5), source().batch(5)
    assert torch.equal(one.grids, again.grids)
    assert torch.equal(one.cue, again.cue)
    for other in (source().batch(6), source(seed=1).batch(5)):
        assert not torch.equal(one.grids, other.grids)
        assert not torch.equal(one.cue, other.cue)


def test_lifts() -> None:
    batch = source(batch_size=400).batch(0)
    attention = torch.zeros(400, 16)
    for row in range(400):
        question = batch.cue[row].argmax()
        grid = batch.grids[row].flatten(1)
        attention[row] = batch.cue[row, :16] if question < 16 else grid[question - 16]
    counts = batch.answers[batch.task == 1].double()
    attention = attention / attention.sum(1, keepdim=True).clamp_min(1)
    found = lifts(attention, batch)
    assert found["lift_place"] == pytest.approx(16)
    assert found["lift_feature"] == pytest.approx(16 / float(counts[counts > 0].mean()), rel=1e-5)
    uniform = lifts(torch.full((400, 16), 1 / 16), batch)
    assert uniform == pytest.approx({"lift_place": 1.0, "lift_feature": 1.0})


def test_answers_are_uniform_and_independent_of_other_places() -> None:
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


def test_counted_symbols_are_uniform_over_places() -> None:
    batch = source(batch_size=40_000).batch(1)
    where = batch.task == 1
    question = batch.cue[where].argmax(1) - 16
    grids = batch.grids[where].flatten(2)
    shown = grids[torch.arange(len(question)), question].mean(0)
    assert shown == pytest.approx(shown.mean().expand(16), abs=0.012)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 3}, "even"),
        ({"batch_size": 0}, "even"),
        ({"symbols": 1}, "symbols must be from 2 to 17"),
        ({"side": 1}, "symbols must be from 2 to 2 for a grid of 1 x 1, got 5"),
    ],
)
def test_impossible_sources_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(SmallWorldError, match=message):
        source(**change)
