"""Bounds: the identity is exact, its slope is one, and bounds are not exceeded."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LowRank,
    RowColumn,
    Scale,
    Shift,
    Site,
)
from featurewise.generators import Bounded, GeneratorError

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout(
    (
        Site("a", 3, Affine()),
        Site("b", 2, Affine(raw=True)),
        Site("c", 4, Shift()),
        Site("d", 3, LowRank(1)),
        Site("e", 2, RowColumn(), extent=(3, 2)),
    )
)


class Given(nn.Module):
    """The condition is the flat tensor."""

    def forward(self, flat: Tensor) -> Tensor:
        return flat


def bounded(layout: Layout = LAYOUT, **ranges: tuple[float, float]) -> Bounded:
    generator = Bounded(Given(), **ranges)
    generator.bind(layout)
    return generator


@pytest.mark.parametrize("positions", [(), (2, 3)])
def test_equals_the_loop(positions: tuple[int, ...]) -> None:
    ranges = {"gamma": (0.2, 3.0), "beta": (-0.5, 2.0)}
    flat = 3 * torch.randn(4, LAYOUT.size, *positions, dtype=torch.float64)
    found = bounded(**ranges)(flat)
    n = 0
    for site in LAYOUT:
        for name, parameter in site.parameters.items():
            for _ in range(math.prod(parameter.shape)):
                for raw, got in zip(
                    flat[:, n].flatten().tolist(), found[:, n].flatten().tolist(), strict=True
                ):
                    expected = raw
                    if name in ranges:
                        identity = 1.0 if name == "gamma" else 0.0
                        away = raw - parameter.start
                        low, high = ranges[name]
                        reach = high - identity if away > 0 else identity - low
                        expected = parameter.start + reach * math.tanh(away / reach)
                    assert got == pytest.approx(expected, rel=1e-6, abs=1e-7)
                n += 1


def test_bounds_are_reached_and_not_exceeded() -> None:
    generator = bounded(gamma=(0.25, 1.5), beta=(-0.5, 0.25))
    for value, gamma, beta in ((1e4, 1.5, 0.25), (-1e4, 0.25, -0.5)):
        values = LAYOUT.split(generator(torch.full((LAYOUT.size,), value)))
        for site in ("a", "b", "e"):
            effective = LAYOUT[site].operation.effective(values[site])
            assert (effective["gamma"] == gamma).all()
            assert (effective["beta"] == beta).all()
        assert (values["c"]["beta"] == beta).all()
        assert (values["d"]["left"] == value).all()
        assert (values["e"]["row"] == value).all()


def test_identity_slope_and_curvature() -> None:
    generator = bounded(gamma=(0.9, 7.0), beta=(-0.01, 3.0))
    start = LAYOUT.start().double().requires_grad_()
    assert torch.equal(generator(start), start)
    (slope,) = torch.autograd.grad(generator(start).sum(), start, create_graph=True)
    assert torch.equal(slope, torch.ones_like(slope))
    (bend,) = torch.autograd.grad(slope.sum(), start)
    assert torch.equal(bend, torch.zeros_like(bend))


def test_gradients_are_finite_far_from_the_identity() -> None:
    for size in (1e30, -1e30):
        flat = torch.full((LAYOUT.size,), size, requires_grad=True)
        bounded(gamma=(0.5, 2.0)).forward(flat).sum().backward()
        assert flat.grad is not None and flat.grad.isfinite().all()


def test_bounds_of_one_parameter() -> None:
    flat = 5 * torch.randn(LAYOUT.size)
    before, after = LAYOUT.split(flat), LAYOUT.split(bounded(beta=(-1.0, 1.0))(flat))
    for site in ("a", "b"):
        assert torch.equal(after[site]["gamma"], before[site]["gamma"])
        assert not torch.equal(after[site]["beta"], before[site]["beta"])


@pytest.mark.parametrize("operation", [Gate(), Scale("exp"), Affine("softplus"), Scale("tanh")])
def test_scales_that_are_not_offsets_raise(operation: Any) -> None:
    layout = Layout((Site("x", 2, operation),))
    with pytest.raises(GeneratorError, match="site 'x': gamma .* not an offset"):
        Bounded(Given(), gamma=(0.5, 2.0)).bind(layout)


def test_layouts_without_the_parameter_raise() -> None:
    generator = Bounded(Given(), gamma=(0.5, 2.0), beta=(-1.0, 1.0))
    with pytest.raises(GeneratorError, match="gamma"):
        generator.bind(Layout((Site("x", 2, Shift()),)))
    assert generator.layout is None


@pytest.mark.parametrize(
    ("ranges", "error", "words"),
    [
        ({}, GeneratorError, "needs bounds"),
        ({"gamma": (1.0, 2.0)}, GeneratorError, "gamma"),
        ({"gamma": (0.5, 1.0)}, GeneratorError, "gamma"),
        ({"gamma": (2.0, 0.5)}, GeneratorError, "gamma"),
        ({"gamma": (0.0, math.inf)}, GeneratorError, "finite"),
        ({"beta": (0.0, 1.0)}, GeneratorError, "beta"),
        ({"beta": (math.nan, 1.0)}, GeneratorError, "beta"),
        ({"beta": 1.0}, KIND, "beta"),
        ({"beta": (1.0,)}, KIND, "beta"),
        ({"beta": (-1.0, "1")}, KIND, "beta"),
        ({"beta": (-1.0, True)}, KIND, "beta"),
    ],
)
def test_wrong_inputs(ranges: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        Bounded(Given(), **ranges)
