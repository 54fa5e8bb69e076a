"""Dropout of parameters: its groups, its probability, and the values of dropped parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Layout,
    LowRank,
    RowColumn,
    Scale,
    Shift,
    Site,
)
from featurewise.generators import GeneratorError, Linear, ParameterDropout

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout(
    (
        Site("a", 3, Affine()),
        Site("b", 2, Affine(raw=True)),
        Site("c", 4, Shift()),
        Site("d", 5, LowRank(2)),
        Site("e", 2, RowColumn(), extent=(3, 2)),
        Site("f", 2, Scale("sigmoid")),
    )
)
# Groups, written by hand: (site, parameter, feature) -> group.
TOGETHER = {
    "row": lambda site, name, c: 0,
    "site": lambda site, name, c: site,
    "feature": lambda site, name, c: (site, name if name in ("row", "column") else "", c),
}


def dropped(per: str, rescale: bool = True, p: float = 0.5) -> ParameterDropout:
    generator = ParameterDropout(Linear(4), p, per, rescale)
    generator.bind(LAYOUT)
    assert generator.head is not None
    torch.nn.init.normal_(generator.head.weight)
    return generator


def key(per: str) -> list[Any]:
    """The group of each of the N numbers."""
    groups = []
    for site in LAYOUT:
        for name, parameter in site.parameters.items():
            index = torch.arange(torch.Size(parameter.shape).numel()).reshape(parameter.shape)
            for number in range(index.numel()):
                place = (index == number).nonzero()[0].tolist()
                # the feature is the last axis of `right`, the first of all others
                groups.append(TOGETHER[per](site.name, name, place[-1 if name == "right" else 0]))
    return groups


def fallen(generator: ParameterDropout, z: Tensor) -> Tensor:
    """Which numbers are at their start."""
    start = LAYOUT.start().reshape(-1, *(1,) * max(0, z.ndim - 2))
    return generator(z) == start


@pytest.mark.parametrize("per", list(TOGETHER))
@pytest.mark.parametrize("shape", [(4,), (7, 4), (7, 4, 2, 3)])
def test_groups_of_dropout(per: str, shape: tuple[int, ...]) -> None:
    generator = dropped(per)
    down = fallen(generator, torch.randn(shape))
    if down.ndim > 2:  # all positions of a row together
        down = down.flatten(2)
        assert torch.equal(down, down[..., :1].expand_as(down))
        down = down[..., 0]
    for row in down.reshape(-1, LAYOUT.size):
        seen: dict[Any, bool] = {}
        for group, is_down in zip(key(per), row.tolist(), strict=True):
            assert seen.setdefault(group, is_down) is is_down
    if len(shape) > 1:
        assert down.any() and not down.all()
    assert generator.count == len(set(key(per)))


@pytest.mark.parametrize("per", list(TOGETHER))
def test_probability_and_independence(per: str) -> None:
    down = fallen(dropped(per, p=0.3), torch.randn(4000, 4)).double()
    torch.testing.assert_close(
        down.mean(0), torch.full((LAYOUT.size,), 0.3).double(), atol=0.04, rtol=0
    )
    groups = key(per)
    together = torch.corrcoef(down.T)
    for i, j in [(0, 1), (0, 3), (0, 6), (0, LAYOUT.size - 1)]:
        expected = 1.0 if groups[i] == groups[j] else 0.0
        assert abs(float(together[i, j]) - expected) < 0.06


@pytest.mark.parametrize("rescale", [True, False])
def test_kept_parameters(rescale: bool) -> None:
    generator = dropped("feature", rescale)
    z, start = torch.randn(50, 4), LAYOUT.start()
    generator.eval()
    whole = generator(z)
    assert torch.equal(whole, generator.generator(z))
    generator.train()
    flat = generator(z)
    down = flat == start
    kept = start + (whole - start) * (2.0 if rescale else 1.0)
    torch.testing.assert_close(flat, torch.where(down, start, kept))
    if rescale:
        mean = torch.stack([generator(z) for _ in range(3000)]).mean(0)
        assert float((mean - whole).detach().abs().mean()) < 0.05
    else:
        assert torch.equal(flat[~down], whole[~down])


def test_without_dropout_parameters_are_unchanged() -> None:
    generator = dropped("feature", p=0.0)
    z = torch.randn(3, 4)
    assert torch.equal(generator(z), generator.generator(z))


def test_dropped_parameters_have_no_gradient() -> None:
    generator = dropped("feature")
    z = torch.randn(1, 4)
    torch.manual_seed(3)
    down = fallen(generator, z)[0]
    torch.manual_seed(3)
    generator(z).sum().backward()
    assert generator.head is not None
    assert torch.equal(generator.head.bias.grad == 0, down)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((-0.1,), GeneratorError, r"\bp\b"),
        ((1.0,), GeneratorError, r"\bp\b"),
        ((float("nan"),), GeneratorError, r"\bp\b"),
        (("0.1",), KIND, r"\bp\b"),
        ((True,), KIND, r"\bp\b"),
        ((0.1, "channel"), GeneratorError, "per must"),
        ((0.1, "row", 1), KIND, "rescale"),
    ],
)
def test_wrong_inputs(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        ParameterDropout(Linear(2), *arguments)
