"""A plan gives the same scales and shifts as each site on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from featurewise.core import (
    Affine,
    Diagonal,
    Gate,
    Layout,
    LowRank,
    Operation,
    RowColumn,
    Scale,
    Shift,
    Site,
)
from featurewise.core.plan import Plan

OPERATIONS: list[Operation] = [
    Affine(),
    Affine(raw=True),
    Affine("exp"),
    Scale(),
    Scale(raw=True),
    Scale("softplus"),
    Shift(),
    Gate(),
    Gate(ceiling=1.0),
]


@dataclass(frozen=True)
class TwiceAsMuch(Affine):
    """A user's subclass, which the plan must not treat as its parent class."""

    def scale_shift(self, values: dict[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        return 2.0 + values["gamma"], 3.0 * values["beta"]


@dataclass(frozen=True)
class ClippedAffine(Affine):
    """A user's subclass that does more than scale and shift."""

    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        return super().apply(x, values, axis, batch_axis).clamp(-0.1, 0.1)


def layout_of(operations: list[Operation]) -> Layout:
    sites = [Site(f"site{i}", 3 + i, o) for i, o in enumerate(operations)]
    return Layout(tuple(sites))


def one_by_one(layout: Layout, flat: Tensor) -> list[tuple[Tensor | None, Tensor | None]]:
    """The reference: in float64, site by site."""
    named = layout.split(flat.double())
    pairs = []
    for site in layout:
        assert isinstance(site.operation, Diagonal)
        pairs.append(site.operation.scale_shift(named[site.name]))
    return pairs


def assert_pairs(found: object, expected: list[tuple[Tensor | None, Tensor | None]]) -> None:
    assert isinstance(found, tuple)
    assert len(found) == len(expected)
    for pair, other in zip(found, expected, strict=True):
        for mine, theirs in zip(pair, other, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                torch.testing.assert_close(mine.double(), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (4,), (0,)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_all_sites_at_once(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layout = layout_of([*OPERATIONS, TwiceAsMuch(), *reversed(OPERATIONS)])
    flat = torch.randn(*shape, layout.size).to(dtype)
    plan = Plan(layout)
    for _ in range(2):  # the second time the offsets are cached
        found = plan.pairs(flat)
        assert_pairs(found, one_by_one(layout, flat))
        wide = torch.float32 if dtype == torch.bfloat16 else dtype
        assert {t.dtype for pair in found or () for t in pair or () if t is not None} == {wide}


def test_sites_without_scale_and_shift_do_not_affect_the_others() -> None:
    sites = (
        Site("a", 4, LowRank(2)),
        Site("b", 5, Affine()),
        Site("c", 4, RowColumn(), extent=(2, 3)),
        Site("d", 3, Shift()),
    )
    layout = Layout(sites)
    flat = torch.randn(2, layout.size)
    found = Plan(layout).pairs(flat)
    assert found is not None
    assert found[0] is None
    assert found[2] is None
    named = layout.split(flat)
    torch.testing.assert_close(found[1][0], 1 + named["b"]["gamma"])
    torch.testing.assert_close(found[1][1], named["b"]["beta"])
    assert found[3][0] is None
    torch.testing.assert_close(found[3][1], named["d"]["beta"])


def test_an_operation_that_overrides_apply_is_not_planned() -> None:
    layout = layout_of([ClippedAffine(), Affine()])
    found = Plan(layout).pairs(torch.randn(2, layout.size))
    assert found is not None
    assert found[0] is None
    assert found[1] is not None


def test_parameters_without_an_offset_are_bit_identical() -> None:
    layout = layout_of([Shift(), Affine(raw=True), Affine()])
    found = Plan(layout).pairs(torch.full((layout.size,), -0.0))
    assert found is not None
    kept = [found[0][1], *found[1], found[2][1]]
    assert all(bool(torch.signbit(t).all()) for t in kept)
    assert torch.equal(found[2][0], torch.ones(5))


def test_gradients() -> None:
    layout = layout_of(OPERATIONS)
    flat = torch.randn(2, layout.size, dtype=torch.float64, requires_grad=True)

    def total(pairs: object) -> Tensor:
        tensors = [t for pair in pairs for t in pair if t is not None]
        return sum((t.square() * (i + 1)).sum() for i, t in enumerate(tensors))

    (mine,) = torch.autograd.grad(total(Plan(layout).pairs(flat)), flat)
    (theirs,) = torch.autograd.grad(total(one_by_one(layout, flat)), flat)
    torch.testing.assert_close(mine, theirs)


def test_unsupported_inputs_are_not_planned() -> None:
    layout = layout_of([Affine()])
    plan = Plan(layout)
    assert plan.pairs(torch.zeros(2, layout.size, 5)) is None  # positions
    assert plan.pairs(nn.Parameter(torch.zeros(layout.size))) is not None
    with FakeTensorMode() as mode:
        assert plan.pairs(mode.from_tensor(torch.zeros(layout.size))) is None
    assert Plan(Layout(())).pairs(torch.zeros(0)) is None


def test_offsets_of_a_transform_are_not_cached() -> None:
    layout = layout_of([Affine(), Shift()])
    plan = Plan(layout)

    def total(flat: Tensor) -> Tensor:
        pairs = plan.pairs(flat)
        assert pairs is not None
        return sum(t.sum() for pair in pairs for t in pair if t is not None)

    gradients = torch.func.vmap(torch.func.grad(total))(torch.randn(3, layout.size))
    torch.testing.assert_close(gradients, torch.ones(3, layout.size))
    flat = torch.randn(layout.size, requires_grad=True)
    (gradient,) = torch.autograd.grad(total(flat), flat)
    torch.testing.assert_close(gradient, torch.ones(layout.size))
    with torch.inference_mode():
        total(flat)
    torch.autograd.grad(total(flat), flat)


@pytest.mark.traced
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_runs_of_a_trace_are_alike() -> None:
    """``torch.jit.trace`` compares two runs; offsets cached in the first would differ."""
    layout = Layout((Site("a", 3, Affine()), Site("b", 4, Gate()), Site("c", 2, Shift())))
    plan = Plan(layout)
    flat = torch.randn(2, layout.size)

    def pairs(flat: Tensor) -> list[Tensor]:
        return [t for pair in plan.pairs(flat) or () for t in pair or () if t is not None]

    traced = torch.jit.trace(pairs, (flat,))
    other = torch.randn(5, layout.size)
    for one, two in zip(traced(other), pairs(other), strict=True):
        assert torch.equal(one, two)
