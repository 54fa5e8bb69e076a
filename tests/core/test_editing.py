"""Editing and mixing: against loops over single numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.func import grad, vmap

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    RowColumn,
    ShapeError,
    Site,
    TaskRepresentation,
)
from featurewise.core.patterns import matching

KIND = (ArgumentTypeError, TypeCheckError)

LAYOUT = Layout(
    (
        Site("a.norm", 3, Affine()),
        Site("a.gate", 4, Gate()),
        Site("b.norm", 5, Affine()),
        Site("b.wide", 4, LowRank(2)),
        # As many rows as features: only the operation can distinguish them.
        Site("b.image", 4, RowColumn(), extent=(4, 6)),
    )
)
N = LAYOUT.size
SHAPES = [(N,), (3, N), (2, N, 7)]
Task = TaskRepresentation


def random(*shape: int) -> Task:
    return Task(LAYOUT, torch.randn(shape or (N,), dtype=torch.float64))


def meant(at: Any, parameter: str | None, features: Any) -> list[bool]:
    """Which numbers of the flat vector are selected, one by one, from the definitions."""
    sites = matching(at, LAYOUT.names)
    # The feature to which an index of a parameter belongs; None if it belongs to none.
    owner: dict[str, Callable[[tuple[int, ...]], int | None]] = {
        "gamma": lambda i: i[0],
        "beta": lambda i: i[0],
        "left": lambda i: i[0],
        "right": lambda i: i[1],
        "row": lambda i: None,
        "column": lambda i: None,
    }
    marks = []
    for site in LAYOUT:
        for name, declared in site.parameters.items():
            for index in itertools.product(*map(range, declared.shape)):
                feature = owner[name](index)
                wanted = features is None or (
                    feature is not None and feature in _listed(features, site.width)
                )
                marks.append(site.name in sites and parameter in (None, name) and wanted)
    return marks


def _listed(features: Any, width: int) -> list[int]:
    if isinstance(features, slice):
        return list(range(width))[features]
    if isinstance(features, Tensor):
        features = features.tolist()
    if isinstance(features, int):
        features = [features]
    return [f % width for f in features]


CHOICES: list[dict[str, Any]] = [
    {},
    {"at": "a.*"},
    {"at": ["b.norm", "a.gate"]},
    {"parameter": "gamma"},
    {"parameter": "row"},
    {"at": "**.norm", "parameter": "beta"},
    {"features": 1},
    {"features": [0, 2]},
    {"features": [-1]},
    {"features": slice(1, None, 2)},
    {"features": torch.tensor([2, 0])},
    {"at": "b.wide", "features": [3]},
    {"at": "b.image", "features": [3]},
    {"at": "*.norm", "parameter": "gamma", "features": [2, 2, -1]},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_change_against_loops(choice: dict[str, Any], shape: tuple[int, ...]) -> None:
    task, other = random(*shape), random(*shape)
    before = task.flat.clone()
    marks = meant(choice.get("at"), choice.get("parameter"), choice.get("features"))
    edit = task.edit(**choice)
    assert len(edit) == sum(marks)
    rows = 1.0 if len(shape) == 1 else torch.rand(shape[0], dtype=torch.float64)
    column = rows if len(shape) == 1 else rows.reshape(-1, *(1,) * (len(shape) - 1))
    axis = min(1, len(shape) - 1)
    for changed, expected in (
        (edit.zero(), torch.zeros(shape, dtype=torch.float64)),
        (edit.set(2.5), torch.full(shape, 2.5, dtype=torch.float64)),
        (edit.freeze(other), other.flat),
        (edit.scale(0.3), task.flat * 0.3),
        (edit.scale(rows), task.flat * column),
    ):
        for place, mark in enumerate(marks):
            wanted = expected if mark else before
            assert torch.equal(changed.flat.select(axis, place), wanted.select(axis, place)), (
                f"number {place}"
            )
    assert torch.equal(task.flat, before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_set_numbers_in_the_order_of_the_flat_vector(shape: tuple[int, ...]) -> None:
    task = random(*shape)
    edit = task.edit(at="**.norm", parameter="gamma", features=[2, 0])
    value = torch.randn(4, dtype=torch.float64)
    done = edit.set(value)
    for site, part in (("a.norm", value[:2]), ("b.norm", value[2:])):
        gamma = done[site]["gamma"]
        if len(shape) == 1:
            assert torch.equal(gamma[[0, 2]], part)
            assert torch.equal(gamma[1:2], task[site]["gamma"][1:2])
        else:
            for row in range(shape[0]):
                for feature, number in ((0, part[0]), (2, part[1])):
                    assert (gamma[row, feature] == number).all()
    per_row = torch.randn(3, 4, dtype=torch.float64)
    if len(shape) == 1:  # one task becomes a batch
        batch = edit.set(per_row)
        assert batch.shape == (3, N)
        for row in range(3):
            assert torch.equal(batch[row].flat, edit.set(per_row[row]).flat)
    elif len(shape) == 2:
        batch = edit.set(per_row)
        for row in range(3):
            alone = task[row].edit(at="**.norm", parameter="gamma", features=[0, 2])
            assert torch.equal(batch[row].flat, alone.set(per_row[row]).flat)


def test_freezing_to_one_task_repeats_it_and_makes_a_batch_of_one() -> None:
    one, many = random(), random(3, N)
    frozen = many.edit(at="a.*").freeze(one)
    assert torch.equal(frozen["a.norm"]["beta"], one["a.norm"]["beta"].expand(3, -1))
    batch = one.edit(at="a.*").freeze(many)
    assert torch.equal(batch["a.gate"]["gamma"], many["a.gate"]["gamma"])
    assert torch.equal(batch["b.norm"]["gamma"], one["b.norm"]["gamma"].expand(3, -1))
    placed = random(2, N, 7)
    mean = placed.mean()
    assert mean.shape == (N,)
    frozen = placed.edit(parameter="gamma").freeze(mean)
    assert (frozen["b.norm"]["gamma"] == mean["b.norm"]["gamma"][:, None]).all()


def test_noise_has_the_given_std_where_selected_and_repeats_with_its_seed() -> None:
    layout = Layout((Site("a", 5000, Affine()),))
    task = Task(layout, torch.zeros(2, 10_000, dtype=torch.float64))
    noisy = task.edit(parameter="gamma").noise(0.5, torch.Generator().manual_seed(0))
    again = task.edit(parameter="gamma").noise(0.5, torch.Generator().manual_seed(0))
    assert torch.equal(noisy.flat, again.flat)
    assert abs(noisy["a"]["gamma"].std() - 0.5) < 0.02
    assert abs(noisy["a"]["gamma"].mean()) < 0.02
    assert (noisy["a"]["beta"] == 0).all()
    assert not torch.equal(noisy[0].flat, noisy[1].flat)
    # The noise of a number does not depend on which others are selected.
    few = task.edit(parameter="gamma", features=[7]).noise(0.5, torch.Generator().manual_seed(0))
    assert torch.equal(few["a"]["gamma"][:, 7], noisy["a"]["gamma"][:, 7])
    assert torch.equal(task.edit().noise(0.0).flat, task.flat)
    assert not torch.equal(task.edit().noise(1.0).flat, task.flat)


def test_edits_are_differentiable() -> None:
    flat, value, other = (torch.randn(n, dtype=torch.float64) for n in (N, 3, N))
    place = {"at": "a.norm", "parameter": "beta"}

    def put(flat: Tensor, value: Tensor) -> Tensor:
        return Task(LAYOUT, flat).edit(**place).set(value).flat

    def freeze(flat: Tensor, other: Tensor) -> Tensor:
        return Task(LAYOUT, flat).edit(**place).freeze(Task(LAYOUT, other)).flat

    def scale(flat: Tensor, weight: Tensor) -> Tensor:
        return Task(LAYOUT, flat).edit(**place).scale(weight).flat

    for function, given in ((put, value), (freeze, other), (scale, value[0])):
        inputs = [flat.clone().requires_grad_(), given.clone().requires_grad_()]
        assert torch.autograd.gradcheck(function, inputs)
    found = grad(lambda f: Task(LAYOUT, f).edit(**place).zero().flat.sum())(flat)
    assert found.sum() == N - 3


def test_vmap_over_tasks_and_values() -> None:
    batch = random(4, N)
    values = torch.randn(4, 3, dtype=torch.float64)
    place = {"at": "a.norm", "parameter": "beta"}
    mapped = vmap(lambda task, value: task.edit(**place).set(value))(batch, values)
    assert torch.equal(mapped.flat, batch.edit(**place).set(values).flat)
    noisy = vmap(lambda task: task.edit(**place).noise(1.0), randomness="different")(batch)
    assert (noisy["a.norm"]["beta"] != batch["a.norm"]["beta"]).all()
    assert torch.equal(noisy["a.norm"]["gamma"], batch["a.norm"]["gamma"])


def test_half_precision_stays() -> None:
    task = Task(LAYOUT, torch.randn(2, N).bfloat16())
    edit = task.edit(at="a.*")
    count = len(edit)
    for done in (
        edit.zero(),
        edit.set(0.3),
        edit.set(torch.rand(count)),
        edit.noise(0.1),
        edit.scale(2),
    ):
        assert done.flat.dtype == torch.bfloat16
    assert edit.freeze(Task(LAYOUT, torch.randn(N))).flat.dtype == torch.bfloat16


def test_repr_counts() -> None:
    assert repr(random().edit(at="a.norm")) == f"Edit(6 of {N} numbers)"


WRONG: list[tuple[dict[str, Any], type[Exception] | tuple[type[Exception], ...], str]] = [
    ({"at": "c.*"}, LayoutError, "no site matches 'c"),
    ({"at": []}, LayoutError, "at least one pattern"),
    ({"at": 3}, KIND, "patterns of names"),
    ({"parameter": "delta"}, LayoutError, "'delta'; there are beta, column, gamma"),
    ({"at": "a.gate", "parameter": "beta"}, LayoutError, "no site of a.gate has a parameter"),
    ({"parameter": 3}, KIND, "parameter must be a name"),
    ({"features": 9}, ShapeError, "'a.norm': there is no feature 9, it has 3"),
    ({"features": [-4]}, ShapeError, "no feature -4"),
    ({"features": []}, ShapeError, "no number is selected"),
    ({"features": slice(9, None)}, ShapeError, "no number is selected"),
    ({"features": 1.0}, KIND, "features must be"),
    ({"features": "12"}, KIND, "features must be"),
    ({"features": torch.tensor([1.0])}, KIND, "features must be"),
    ({"features": [1.5]}, KIND, "features must be integers"),
    ({"features": torch.tensor([True, False])}, ShapeError, "3 booleans, got 2"),
    (
        {"at": "b.image", "parameter": "row", "features": 0},
        LayoutError,
        "row is not a parameter of single features",
    ),
]


@pytest.mark.parametrize(("choice", "error", "message"), WRONG, ids=lambda v: str(v)[:40])
def test_invalid_selections_raise(choice: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error) as caught:
        random().edit(**choice)
    if not isinstance(caught.value, TypeCheckError):
        assert message in str(caught.value)


def test_booleans_select_features() -> None:
    task = random()
    done = task.edit(at="a.norm", features=[True, False, True]).zero()
    assert torch.equal(done["a.norm"]["gamma"] == 0, torch.tensor([True, False, True]))


def test_invalid_changes_raise() -> None:
    edit = random(3, N).edit(at="a.norm")
    for value in (torch.ones(5), torch.ones(2, 6), torch.ones(1, 3, 6)):
        with pytest.raises(ShapeError, match=r"value must be a number, \(6,\) or \(B, 6\)"):
            edit.set(value)
    with pytest.raises(KIND):
        edit.set("1")  # type: ignore[arg-type]
    with pytest.raises(KIND):
        edit.set(torch.ones(6, dtype=torch.int64))
    with pytest.raises(KIND):
        edit.freeze(torch.ones(N))  # type: ignore[type-var]
    with pytest.raises(LayoutError):
        edit.freeze(Task(Layout((Site("x", N // 2, Affine()),)), torch.ones(N // 2 * 2)))
    with pytest.raises(ShapeError):
        edit.freeze(random(2, N))
    with pytest.raises(ShapeError, match="not negative"):
        edit.noise(-1.0)
    with pytest.raises(KIND):
        edit.noise("1")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="one per row"):
        edit.scale(torch.ones(2))


# --- mixtures ------------------------------------------------------------------------------------


def test_mix_against_loops() -> None:
    bank = random(5, N)
    weights = torch.randn(3, 5, dtype=torch.float64)
    mixed = bank.mix(weights)
    assert mixed.shape == (3, N)
    for row in range(3):
        by_hand = sum(float(weights[row, k]) * bank[k].flat for k in range(5))
        torch.testing.assert_close(mixed[row].flat, by_hand, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(bank.mix(weights[row]).flat, by_hand, rtol=1e-13, atol=1e-13)
    placed = random(5, N, 2)
    torch.testing.assert_close(
        placed.mix(weights).flat[:, :, 1], Task(LAYOUT, placed.flat[:, :, 1]).mix(weights).flat
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_one_hot_weights_are_exact(dtype: torch.dtype) -> None:
    bank = random(5, N).to(dtype)
    picked = torch.tensor([3, 0, 3, 4])
    weights = torch.nn.functional.one_hot(picked, 5).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = bank.mix(weights)
    assert mixed.flat.dtype == dtype
    assert torch.equal(mixed.flat, bank.flat[picked])


def test_mix_passes_gradients_to_both() -> None:
    flat = torch.randn(3, N, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, w: Task(LAYOUT, f).mix(w).flat, (flat, weights))


def test_mean_is_the_even_mixture() -> None:
    bank = random(4, N)
    even = bank.mix(torch.full((4,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(bank.mean().flat, even.flat)
    torch.testing.assert_close(random(4, N, 3).mean().shape, torch.Size([N]))
    one = random()
    assert one.mean() is one


def test_invalid_mixtures_raise() -> None:
    bank = random(5, N)
    for weights in (torch.ones(4), torch.ones(2, 4), torch.ones(1, 1, 5), torch.tensor(1.0)):
        with pytest.raises(ShapeError, match=r"weights must be \(5,\) or \(B, 5\)"):
            bank.mix(weights)
    with pytest.raises(KIND):
        bank.mix(torch.ones(5, dtype=torch.int64))
    with pytest.raises(KIND):
        bank.mix([1.0] * 5)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="no rows"):
        random().mix(torch.ones(5))
    with pytest.raises(ShapeError, match="keep the batch axis"):
        random(5, N, 2).mix(torch.ones(5))
