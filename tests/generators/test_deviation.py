"""The deviation penalty against loops in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    RowColumn,
    Scale,
    ShapeError,
    Shift,
    Site,
    TaskRepresentation,
)
from featurewise.generators import GeneratorError, deviation

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout(
    (
        Site("affine", 3, Affine()),
        Site("raw", 2, Affine(raw=True)),
        Site("exp", 2, Scale("exp")),
        Site("gate", 2, Gate()),
        Site("shift", 4, Shift()),
        Site("rows", 2, RowColumn(), extent=(2, 3)),
        Site("rank", 3, LowRank(2)),
    )
)
POSITIONAL = Layout(LAYOUT.sites[:5])
EFFECTIVE = {
    "affine": {"gamma": lambda g: 1 + g},
    "raw": {"gamma": lambda g: g},
    "exp": {"gamma": math.exp},
    "gate": {"gamma": lambda g: 2 / (1 + math.exp(-g))},
    "rows": {"gamma": lambda g: 1 + g},
}


def plain(
    layout: Layout, flat: Tensor, weights: dict[str, float]
) -> tuple[dict[str, float], float]:
    """Element by element: sums of squares by site, and the mean of all."""
    sites: dict[str, list[float]] = {}
    for site, values in layout.split(flat).items():
        sites[site] = []
        for name, value in values.items():
            for raw in value.flatten().tolist():
                effective = EFFECTIVE.get(site, {}).get(name, lambda v: v)(raw)
                away = effective - (1.0 if name == "gamma" else 0.0)
                sites[site].append(weights.get(name, 1.0) * away**2)
    each = [square for squares in sites.values() for square in squares]
    return {site: sum(s) / len(s) for site, s in sites.items()}, sum(each) / len(each)


@pytest.mark.parametrize("shape", [(), (4,), (4, 5)], ids=["shared", "rows", "positions"])
@pytest.mark.parametrize("weights", [None, {"gamma": 0.5, "beta": 2.0}])
def test_equals_the_loop(shape: tuple[int, ...], weights: dict[str, float] | None) -> None:
    layout = POSITIONAL if len(shape) > 1 else LAYOUT
    size = (*shape[:1], layout.size, *shape[1:])
    flat = torch.randn(size, dtype=torch.float64)
    by_site, overall = plain(layout, flat, weights or {})
    assert float(deviation(flat, layout, weights=weights)) == pytest.approx(overall, rel=1e-12)
    found = deviation(TaskRepresentation(layout, flat), per_site=True, weights=weights)
    assert isinstance(found, dict)
    assert {n: float(v) for n, v in found.items()} == pytest.approx(by_site, rel=1e-12)


def test_zero_only_at_the_identity() -> None:
    task = TaskRepresentation.identity(LAYOUT, batch=2)
    assert deviation(task) == 0
    for place in range(LAYOUT.size):
        flat = LAYOUT.start()
        flat[place] += 0.1
        assert deviation(flat, LAYOUT) > 0


def test_gradients() -> None:
    flat = torch.randn(2, LAYOUT.size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: deviation(f, LAYOUT), flat)
    assert torch.autograd.gradgradcheck(lambda f: deviation(f, LAYOUT), flat)


def test_an_operation_without_identity_is_measured_from_one() -> None:
    layout = Layout((Site("a", 2, Scale("sigmoid")),))
    away = 1 - torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(deviation(layout.start(), layout), away.square())


def test_half_precision_is_measured_in_float32() -> None:
    flat = torch.full((LAYOUT.size,), 2.0**-9, dtype=torch.bfloat16)
    layout = Layout((Site("a", LAYOUT.size, Scale()),))
    assert deviation(flat, layout).dtype == torch.float32
    assert float(deviation(flat, layout)) == 2.0**-18  # 1 + 2^-9 is one in bfloat16
    shift = Layout((Site("a", LAYOUT.size, Shift()),))
    assert deviation(flat, shift).dtype == torch.float32


def test_under_vmap() -> None:
    flat = torch.randn(3, LAYOUT.size)
    found = torch.func.vmap(lambda f: deviation(f, LAYOUT))(flat)
    torch.testing.assert_close(found, torch.stack([deviation(f, LAYOUT) for f in flat]))


FLAT = torch.zeros(LAYOUT.size)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"task": FLAT}, LayoutError, "needs a layout"),
        ({"task": FLAT[1:], "layout": LAYOUT}, ShapeError, "flat"),
        ({"task": torch.zeros(2, LAYOUT.size, 3), "layout": LAYOUT}, ShapeError, "positions"),
        ({"task": None, "layout": LAYOUT}, KIND, "task"),
        ({"task": FLAT, "layout": "a"}, KIND, "layout"),
        (
            {
                "task": TaskRepresentation(LAYOUT, FLAT),
                "layout": Layout((Site("b", 3, Affine()),)),
            },
            LayoutError,
            "belongs to",
        ),
        ({"task": torch.zeros(0, LAYOUT.size), "layout": LAYOUT}, LayoutError, "no parameters"),
        ({"task": FLAT, "layout": LAYOUT, "weights": [1.0]}, KIND, "weights"),
        ({"task": FLAT, "layout": LAYOUT, "weights": {"gamma": "1"}}, KIND, "weights"),
        ({"task": FLAT, "layout": LAYOUT, "weights": {"gamma": True}}, KIND, "weights"),
        ({"task": FLAT, "layout": LAYOUT, "weights": {"gamma": -1.0}}, GeneratorError, "negative"),
        ({"task": FLAT, "layout": LAYOUT, "weights": {"beta": math.nan}}, GeneratorError, "finite"),
        ({"task": FLAT, "layout": LAYOUT, "weights": {"gama": 1.0}}, GeneratorError, "gama"),
    ],
)
def test_wrong_inputs(arguments: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        deviation(**arguments)
