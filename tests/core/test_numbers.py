"""Numbers too large for a float, storage-only dtypes, and infinities with weight zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

import featurewise as fw
from featurewise.core import (
    Affine,
    ArgumentTypeError,
    FeaturewiseError,
    Gate,
    Layout,
    ShapeError,
    Site,
    TaskRepresentation,
    film,
)
from featurewise.core.numbers import stored
from featurewise.deploy import Mixture
from featurewise.deploy.bank import Bank
from featurewise.generators import (
    Bounded,
    GatedGenerator,
    Linear,
    Optional,
    parameter_groups,
    spectral,
)
from featurewise.layers import ConditionalLayerNorm
from featurewise.retrofit import adapt, condition, guide

LAYOUT = Layout((Site("a", 2, Affine()), Site("b", 3, Affine())))
N = LAYOUT.size
INF, NAN = math.inf, math.nan
ODD = (INF, -INF, NAN)


def task(value: float = 1.0, *lead: int) -> TaskRepresentation:
    return TaskRepresentation(LAYOUT, torch.full((*lead, N), value))


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(7, 8, 9), other.nan_to_num(7, 8, 9))


# --- weight zero excludes ------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", ["number", "scalar", "rows"])
def test_lerp_is_exact_at_both_ends(odd: float, kind: str) -> None:
    one, other = task(0.3, 2), task(odd, 2)
    other.flat[:, ::2] = 5.0
    ends = {"number": (0, 1), "scalar": (torch.tensor(0.0), torch.tensor(1.0))}
    first, last = ends.get(kind, (torch.zeros(2), torch.ones(2)))
    assert same(one.lerp(other, first).flat, one.flat)
    assert same(one.lerp(other, last).flat, other.flat)
    assert same(other.lerp(one, first).flat, other.flat)
    assert same(other.lerp(one, last).flat, one.flat)


def test_lerp_at_an_end_still_has_the_gradient_of_its_weight() -> None:
    weight = torch.zeros((), requires_grad=True)
    task(1.0).lerp(task(3.0), weight).flat.sum().backward()
    assert weight.grad == 2.0 * N


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("lead", [(), (2,)])
def test_mix_excludes_rows_of_weight_zero(odd: float, lead: tuple[int, ...]) -> None:
    rows = task(1.0, 3).flat.clone()
    rows[1], rows[2] = odd, 0.1
    many = TaskRepresentation(LAYOUT, rows)
    for row in range(3):
        weights = torch.zeros(*lead, 3)
        weights[..., row] = 1.0
        assert same(many.mix(weights).flat, rows[row].expand(*lead, N))
    half = torch.tensor([0.5, 0.0, 0.5])
    assert torch.allclose(many.mix(half).flat, torch.full((N,), 0.55))
    assert not many.mix(torch.ones(3)).flat.isfinite().any()


def test_mixtures_of_finite_and_other_rows_agree() -> None:
    rows, weights = torch.randn(4, N), torch.randn(3, 4)
    clean = TaskRepresentation(LAYOUT, rows).mix(weights).flat
    dirty = TaskRepresentation(LAYOUT, torch.cat([rows, torch.full((1, N), NAN)]))
    assert torch.allclose(dirty.mix(torch.cat([weights, torch.zeros(3, 1)], 1)).flat, clean)


@pytest.mark.parametrize("odd", ODD)
def test_bank_mixtures_exclude_rows_of_weight_zero(odd: float) -> None:
    rows = torch.ones(2, N)
    rows[1] = odd
    mixed = Bank(LAYOUT, rows)(Mixture(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]])))
    assert same(mixed, rows[:1])


@pytest.mark.parametrize("odd", ODD)
def test_guidance_is_exact_at_its_ends(odd: float) -> None:
    net = condition(torch.nn.Linear(3, 4), at="", generator=Linear(2))
    base = torch.randn(2, 3)
    big = task_of(net, odd)
    weight = torch.tensor([0.0, 1.0])
    guided = guide(net, base, task=big, weight=weight)
    assert same(guided[:1], net.backbone(base)[:1])
    assert same(guided[1:], net(base, task=big)[1:])


def task_of(net: Any, value: float) -> TaskRepresentation:
    return TaskRepresentation(net.layout, torch.full((net.layout.size,), value))


# --- edits are finite ----------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [*ODD, 10**400, -(10**5000)], ids=["+", "-", "n", "400", "5000"])
@pytest.mark.parametrize("how", ["set", "scale", "noise"])
def test_edits_need_finite_numbers(odd: float, how: str) -> None:
    with pytest.raises(ShapeError, match="must be finite"):
        getattr(task().edit(), how)(odd)


@pytest.mark.parametrize("odd", ODD)
def test_edits_need_finite_tensors(odd: float) -> None:
    for value in (torch.tensor(odd), torch.tensor([1.0] * (N - 1) + [odd])):
        with pytest.raises(ShapeError, match="must be finite"):
            task().edit().set(value)


# --- numbers too large for a float ---------------------------------------------------------------

HUGE: dict[str, Callable[[int], Any]] = {
    "product": lambda n: task() * n,
    "quotient": lambda n: task() / n,
    "lerp": lambda n: task().lerp(task(), n),
    "gate": lambda n: Gate(ceiling=n),
    "bounded": lambda n: Bounded(Linear(2), gamma=(0.5, n)),
    "damped": lambda n: GatedGenerator(Linear(2), start=n),
    "spectral": lambda n: spectral(Linear(2), n),
    "optional": lambda n: Optional(Linear(2), drop=n),
    "decay": lambda n: parameter_groups(Linear(2), weight_decay=n),
    "norm": lambda n: ConditionalLayerNorm(4, 2, eps=n),
    "guide": lambda n: guide(
        condition(torch.nn.Linear(3, 4), at="", generator=Linear(2)), torch.zeros(1, 3), weight=n
    ),
    "adapt": lambda n: adapt(lambda t: t.flat.sum(), task(), lr=n, steps=1),
}


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize("what", HUGE)
def test_numbers_too_large_for_a_float_raise(what: str, digits: int) -> None:
    with pytest.raises((FeaturewiseError, TypeCheckError)):
        HUGE[what](10**digits)


# --- storage-only dtypes -------------------------------------------------------------------------

STORED = [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.int8, torch.bool]


@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_storage_only_dtypes_raise(dtype: torch.dtype) -> None:
    odd = torch.ones(2, 4).to(dtype)
    net = condition(torch.nn.Identity(), at="", generator=Linear(2), example=torch.ones(2, 4))
    calls: list[Callable[[], Any]] = [
        lambda: film(odd, torch.ones(4), None),
        lambda: film(torch.ones(2, 4), torch.ones(4).to(dtype), None),
        lambda: TaskRepresentation(LAYOUT, torch.ones(N).to(dtype)),
        lambda: task(1.0, 2).mix(torch.ones(2).to(dtype)),
        lambda: task().edit().set(torch.ones(N).to(dtype)),
        lambda: net(odd, condition=torch.ones(2, 2)),
        lambda: net(torch.ones(2, 4), condition=torch.ones(2, 2).to(dtype)),
        lambda: Bank(LAYOUT, torch.ones(2, N).to(dtype)),
    ]
    for call in calls:
        with pytest.raises((ArgumentTypeError, TypeCheckError)):
            call()


# --- lazy views in files -------------------------------------------------------------------------


def lazy(tensor: Tensor) -> Tensor:
    """The same numbers as a lazily negated view."""
    found = torch.complex(tensor, -tensor).conj().imag
    assert found.is_neg() and torch.equal(found, tensor)
    return found


def test_lazy_views_are_resolved_in_files(tmp_path: Path) -> None:
    plain = torch.randn(3, N)
    TaskRepresentation(LAYOUT, lazy(plain)).save(tmp_path / "task")
    assert torch.equal(TaskRepresentation.load(tmp_path / "task").flat, plain)
    Bank(LAYOUT, lazy(plain)).save(tmp_path / "bank")
    loaded = Bank.load(tmp_path / "bank").rows
    assert loaded is not None and torch.equal(loaded, plain)
    pair = torch.complex(plain, plain)
    assert torch.equal(stored(pair.conj()), torch.complex(plain, -plain))
    assert not stored(pair.conj()).is_conj() and not stored(lazy(plain)).is_neg()


def test_error_messages_name_the_accepted_dtypes() -> None:
    with pytest.raises(ArgumentTypeError, match="floating point of 16, 32 or 64 bits"):
        fw.core.film(torch.ones(2, 4).to(torch.float8_e5m2), None, None)
