"""``SqueezeExcite``: the layer of the paper, and the identity as its initial state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import Affine, ArgumentTypeError, Gate, Layout, LayoutError, ShapeError, Site
from featurewise.generators import ConditionError, GeneratorError, SqueezeExcite

KIND = (ArgumentTypeError, TypeCheckError)


def _bound(*sites: Site, reduction: int = 2, trained: bool = True) -> SqueezeExcite:
    generator = SqueezeExcite(reduction)
    generator.bind(Layout(sites))
    if trained:
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.normal_()
    return generator


def _layer(generator: SqueezeExcite, site: Site, x: Tensor) -> Tensor:
    values, memory = generator(site, x, None, 7)
    assert memory == 7
    return site.modulate(x, values)


def reference(generator: SqueezeExcite, x: Tensor) -> Tensor:
    """Eq. 2 to 4 of the paper, one sample at a time."""
    down, up = generator.squeeze[0], generator.excite[0]
    out = []
    for sample in x:
        rows = sample.reshape(len(sample), -1)
        squeezed = rows.sum(1) / rows.shape[1]
        hidden = torch.clamp(down.weight @ squeezed + down.bias, min=0)
        scale = 1 / (1 + torch.exp(-(up.weight @ hidden + up.bias)))
        out.append(sample * scale.reshape(-1, *(1 for _ in sample.shape[1:])))
    return torch.stack(out)


@settings(max_examples=25)
@given(
    batch=st.integers(1, 4),
    width=st.integers(1, 9),
    shape=st.lists(st.integers(1, 4), max_size=3),
    reduction=st.integers(1, 16),
)
def test_is_the_layer_of_the_paper(
    batch: int, width: int, shape: list[int], reduction: int
) -> None:
    site = Site("a", width, Gate(ceiling=1.0))
    generator = _bound(site, reduction=reduction)
    x = torch.randn(batch, width, *shape)
    torch.testing.assert_close(_layer(generator, site, x), reference(generator, x))


def test_the_comparison_detects_a_wrong_reference() -> None:
    site = Site("a", 6, Gate(ceiling=1.0))
    generator, x = _bound(site), torch.randn(3, 6, 5)
    out = _layer(generator, site, x)
    with torch.no_grad():
        generator.squeeze[0].weight.neg_()
    assert not torch.allclose(out, reference(generator, x))


def test_is_initially_the_identity() -> None:
    site = Site("a", 32, Gate())
    x = torch.randn(3, 32, 5, 5)
    assert torch.equal(_layer(_bound(site, reduction=16, trained=False), site, x), x)


def test_the_last_map_has_a_gradient_first_and_then_the_others() -> None:
    site = Site("a", 8, Gate())
    generator = _bound(site, trained=False)
    x = torch.randn(3, 8, 5)
    for _ in range(2):
        generator.zero_grad()
        _layer(generator, site, x).square().sum().backward()
        with torch.no_grad():
            for parameter in generator.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.01 * parameter.grad)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


def test_rows_are_independent() -> None:
    site = Site("a", 6, Gate())
    generator, x = _bound(site), torch.randn(4, 6, 5)
    together = _layer(generator, site, x)
    for i in range(4):
        torch.testing.assert_close(together[i], _layer(generator, site, x[i : i + 1])[0])


def test_conditions_on_the_sample_and_not_on_the_batch() -> None:
    site = Site("a", 6, Gate())
    generator, x = _bound(site), torch.randn(4, 6, 5)
    own, _ = generator(site, x, None, None)
    cut, _ = generator(site, x.mean(0, keepdim=True).expand(4, -1, -1), None, None)
    assert (own["gamma"] - cut["gamma"]).abs().max() > 0.1
    assert torch.equal(cut["gamma"][0], cut["gamma"][1])


def test_every_site_has_separate_maps() -> None:
    sites = (Site("a.b", 4, Gate()), Site("a_b", 4, Affine()))
    generator = _bound(*sites)
    x = torch.randn(2, 4, 3)
    (first, _), (second, _) = (generator(s, x, None, None) for s in sites)
    assert set(first) == {"gamma"} and set(second) == {"gamma", "beta"}
    assert not torch.allclose(first["gamma"], second["gamma"])


@pytest.mark.parametrize(("axis", "batch_axis"), [(-1, 0), (2, 1), (0, 2)])
def test_any_axes(axis: int, batch_axis: int) -> None:
    plain, moved = Site("a", 4, Gate()), Site("a", 4, Gate(), axis=axis, batch_axis=batch_axis)
    one, other = _bound(plain), _bound(moved)
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 3)
    y = _layer(other, moved, x.movedim((0, 1), (batch_axis, axis)))
    torch.testing.assert_close(y.movedim((batch_axis, axis), (0, 1)), _layer(one, plain, x))


def test_the_hidden_layer_is_at_least_one_wide() -> None:
    generator = _bound(Site("a", 8, Gate()), reduction=16)
    assert generator.squeeze[0].weight.shape == (1, 8)
    assert _bound(Site("a", 64, Gate()), reduction=16).squeeze[0].weight.shape == (4, 64)


def test_gradients_to_second_order() -> None:
    site = Site("a", 4, Gate())
    generator = _bound(site).double()
    names, values = zip(*generator.named_parameters(), strict=True)
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        out, _ = torch.func.functional_call(generator, named, (site, x, None, None))
        return site.modulate(x, out)

    assert gradcheck(run, (x, *values))
    assert gradgradcheck(run, (x, *values))


def test_state_round_trip() -> None:
    site = Site("a", 6, Gate())
    one, other = _bound(site), _bound(site)
    other.load_state_dict(one.state_dict(), strict=True)
    x = torch.randn(2, 6, 3)
    assert torch.equal(_layer(one, site, x), _layer(other, site, x))
    assert [*one.state_dict()] == [
        f"{part}.0.{name}" for part in ("squeeze", "excite") for name in ("weight", "bias")
    ]


SITE = Site("a", 6, Gate())
X = torch.randn(2, 6, 3)


@pytest.mark.parametrize(
    ("site", "x", "condition", "error", "words"),
    [
        (SITE, X, torch.zeros(2, 5), ConditionError, "takes no condition"),
        (SITE, X, 0, ConditionError, "takes no condition"),
        (SITE, X, "red", ConditionError, "takes no condition"),
        (SITE, X, {}, ConditionError, "takes no condition"),
        (SITE, torch.zeros(2, 5, 3), None, ShapeError, "6 features"),
        (SITE, torch.zeros(6), None, ShapeError, "axis"),
        (SITE, torch.tensor(1.0), None, ShapeError, "axis"),
        (SITE, X.long(), None, ArgumentTypeError, "int64"),
        (SITE, X.bool(), None, ArgumentTypeError, "bool"),
        (SITE, None, None, ArgumentTypeError, "x"),
        (SITE, [[1.0]], None, ArgumentTypeError, "x"),
        (Site("b", 6, Gate()), X, None, LayoutError, "no site 'b'"),
        (Site("a", 3, Gate()), X, None, LayoutError, "has changed since"),
        (Site("a", 6, Gate(ceiling=1.0)), X, None, LayoutError, "has changed since"),
        ("a", X, None, ArgumentTypeError, "site"),
        (None, X, None, ArgumentTypeError, "site"),
    ],
)
def test_wrong_inputs(site: Any, x: Any, condition: Any, error: Any, words: str) -> None:
    with pytest.raises((error, TypeCheckError)) as caught:
        _bound(SITE)(site, x, condition, None)
    if not isinstance(caught.value, TypeCheckError):
        assert caught.match(words)


@pytest.mark.parametrize(
    ("reduction", "error"),
    [
        (0, GeneratorError),
        (-16, GeneratorError),
        (1.5, KIND),
        ("16", KIND),
        (None, KIND),
        (True, KIND),
    ],
)
def test_wrong_reductions(reduction: Any, error: Any) -> None:
    with pytest.raises(error, match="reduction"):
        SqueezeExcite(reduction)


def test_unbound_generators_raise() -> None:
    with pytest.raises(LayoutError, match="bind"):
        SqueezeExcite()(SITE, X, None, None)
    with pytest.raises(LayoutError, match="make a new one"):
        _bound(SITE).bind(Layout((Site("b", 2, Gate()),)))
    assert isinstance(_bound(SITE).squeeze, nn.ModuleList)
