"""Learned multipliers: against a loop, and gradients of multipliers and head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from featurewise.core import Affine, ArgumentTypeError, Layout, LowRank, Shift, Site
from featurewise.generators import (
    MLP,
    GatedGenerator,
    Generator,
    GeneratorError,
    Learned,
    Linear,
    Lookup,
    ParameterDropout,
    parameter_groups,
)

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout(
    (
        Site("a", 3, Affine()),
        Site("b", 2, Affine(raw=True)),
        Site("c", 4, Shift()),
        Site("d", 3, LowRank(2)),
    )
)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (4, 5, 2, 3)])
def test_equals_the_loop(shape: tuple[int, ...]) -> None:
    inner = Linear(5)
    damped = GatedGenerator(inner)
    damped.bind(LAYOUT)
    damped.double()
    with torch.no_grad():
        for parameter in damped.parameters():
            parameter.normal_()
    assert damped.multipliers is not None
    z = torch.randn(shape, dtype=torch.float64)
    found, before = LAYOUT.split(damped(z)), LAYOUT.split(inner(z))
    numbers = iter(damped.multipliers.tolist())
    for site in LAYOUT:
        for name, parameter in site.parameters.items():
            expected = parameter.start + next(numbers) * (before[site.name][name] - parameter.start)
            torch.testing.assert_close(found[site.name][name], expected)
    assert next(numbers, None) is None
    assert damped.by_site()["d"]["right"] == float(damped.multipliers[6].detach())


def test_multipliers_by_site() -> None:
    damped = GatedGenerator(Linear(5), start=0.25)
    assert damped.by_site() == {}
    damped.bind(LAYOUT)
    assert damped.by_site() == {
        "a": {"gamma": 0.25, "beta": 0.25},
        "b": {"gamma": 0.25, "beta": 0.25},
        "c": {"beta": 0.25},
        "d": {"left": 0.25, "right": 0.25},
    }


@pytest.mark.parametrize("make", [lambda: Linear(400), lambda: Lookup(400), Learned])
@pytest.mark.parametrize("start", [0.0, 0.1])
def test_multipliers_or_heads_have_a_gradient_in_the_first_step(make: Any, start: float) -> None:
    """With zero multipliers the head has unit variance, with others it is at the identity."""
    damped = GatedGenerator(make(), start)
    damped.bind(LAYOUT)
    inner = damped.generator
    condition = {Linear: torch.randn(400, 400), Lookup: torch.arange(400), Learned: None}[
        type(inner)  # type: ignore[index]
    ]
    flat = damped(condition)
    assert torch.equal(flat, LAYOUT.start().expand_as(flat))
    (flat * torch.randn_like(flat)).sum().backward()
    assert damped.multipliers is not None
    weight = next(p for n, p in inner.named_parameters() if "bias" not in n)
    assert weight.grad is not None and damped.multipliers.grad is not None
    assert bool(damped.multipliers.grad.all()) is (start == 0.0)
    assert bool(weight.grad.any()) is (start != 0.0)
    if start == 0.0:
        assert isinstance(inner, nn.Module)
        away = inner(condition) - LAYOUT.start()
        assert (0.9 if make is not Learned else 0.5) < float(away.detach().std()) < 1.5
    else:
        assert torch.equal(inner(condition), flat)


def test_a_zero_weight_of_the_users_module_raises() -> None:
    mine = nn.Linear(5, LAYOUT.size)
    nn.init.zeros_(mine.weight)
    with pytest.raises(GeneratorError, match="neither has a gradient"):
        GatedGenerator(mine).bind(LAYOUT)
    GatedGenerator(mine, start=0.1).bind(LAYOUT)
    GatedGenerator(nn.Linear(5, LAYOUT.size)).bind(LAYOUT)


def test_a_trained_table_is_not_randomised() -> None:
    inner = Lookup(3)
    inner.bind(LAYOUT)
    assert inner.table is not None
    with torch.no_grad():
        inner.table[1] += 1.0
    before = inner.table.detach().clone()
    GatedGenerator(inner).bind(LAYOUT)
    assert torch.equal(inner.table, before)


def test_groups() -> None:
    damped = GatedGenerator(MLP(5, (6,)))
    damped.bind(LAYOUT)
    groups = {g["name"]: g for g in parameter_groups(damped, 0.1, 0.2)}
    assert groups["multipliers"]["params"] == [damped.multipliers]
    assert groups["multipliers"]["weight_decay"] == 0.01
    assert damped.head is not None
    assert groups["heads"]["params"] == [damped.head.weight]
    assert parameter_groups(damped, 0.1, 0.2, 0.3)[2]["weight_decay"] == 0.3
    assert "multipliers" not in {g["name"] for g in parameter_groups(damped.generator, 0.1)}
    with pytest.raises(GeneratorError, match="multiplier_weight_decay"):
        parameter_groups(damped, 0.1, 0.2, -1.0)


def test_dtype_and_device_follow_the_generator() -> None:
    damped = GatedGenerator(Generator(nn.Linear(2, 4, dtype=torch.float64), 4))
    damped.bind(LAYOUT)
    assert damped.multipliers is not None
    assert damped.multipliers.dtype == torch.float64
    assert damped(torch.randn(3, 2, dtype=torch.float64)).dtype == torch.float64
    assert set(damped.state_dict()) == {
        "multipliers",
        "generator.encoder.weight",
        "generator.encoder.bias",
        "generator.head.weight",
        "generator.head.bias",
    }


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((Linear(2), math.inf), GeneratorError, "start"),
        ((Linear(2), "0"), KIND, "start"),
        ((Linear(2), True), KIND, "start"),
        ((GatedGenerator(Linear(2)),), GeneratorError, "already"),
        ((ParameterDropout(GatedGenerator(Linear(2))),), GeneratorError, "already"),
    ],
)
def test_wrong_inputs(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        GatedGenerator(*arguments)


def test_binds_on_the_meta_device() -> None:
    with torch.device("meta"):
        damped = GatedGenerator(MLP(5, (4,)))
        damped.bind(LAYOUT)
    assert all(parameter.is_meta for parameter in damped.parameters())
    assert damped.places.shape == (LAYOUT.size,)
