"""``AdaIN``: the statistics of the output are those of the style."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    OperationError,
    Scale,
    ShapeError,
    Shift,
    Site,
)
from featurewise.generators import AdaIN, ConditionError, GeneratorError

KIND = (ArgumentTypeError, TypeCheckError)
SITE = Site("relu4_1", 3, Affine())


def _bound(*sites: Site, eps: float = 1e-5) -> AdaIN:
    generator = AdaIN(eps)
    generator.bind(Layout(sites))
    return generator


def _stylised(x: Tensor, style: Any, site: Site = SITE, eps: float = 1e-5) -> Tensor:
    values, memory = _bound(site, eps=eps)(site, x, style, "memory")
    assert memory == "memory"
    return site.modulate(x, values)


def reference(x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Eq. 8, sample by sample and feature by feature, in plain Python numbers."""
    out = x.clone()
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            content = x[b, c].flatten().tolist()
            style = y[b % y.shape[0], c].flatten().tolist()
            mean, style_mean = (sum(v) / len(v) for v in (content, style))
            var, style_var = (
                sum((n - m) ** 2 for n in v) / len(v)
                for v, m in ((content, mean), (style, style_mean))
            )
            scale = ((style_var + eps) / (var + eps)) ** 0.5
            out[b, c] = scale * (x[b, c] - mean) + style_mean
    return out


@settings(max_examples=25)
@given(
    batch=st.integers(1, 3),
    shape=st.lists(st.integers(2, 4), min_size=1, max_size=3),
    style_shape=st.lists(st.integers(2, 5), min_size=1, max_size=3),
    one_style=st.booleans(),
    raw=st.booleans(),
)
def test_is_the_formula(
    batch: int, shape: list[int], style_shape: list[int], one_style: bool, raw: bool
) -> None:
    x = torch.randn(batch, 3, *shape, dtype=torch.float64)
    y = 2.0 + 3.0 * torch.randn(1 if one_style else batch, 3, *style_shape, dtype=torch.float64)
    site = Site("a", 3, Affine(raw=raw))
    torch.testing.assert_close(_stylised(x, y, site), reference(x, y, 1e-5))


def test_the_comparison_detects_a_wrong_reference() -> None:
    x, y = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    exact = _stylised(x, y)
    assert not torch.allclose(exact, reference(x, y, 1e-3))
    assert not torch.allclose(exact, reference(x, y.flip(0), 1e-5))


def test_output_statistics_are_those_of_the_style() -> None:
    x, y = torch.randn(4, 3, 9, 7).double(), 5 + 2 * torch.randn(4, 3, 6, 6).double()
    out = _stylised(x, y, eps=1e-14)
    torch.testing.assert_close(out.mean((2, 3)), y.mean((2, 3)))
    torch.testing.assert_close(out.var((2, 3), correction=0), y.var((2, 3), correction=0))


def test_the_features_as_style_give_the_identity() -> None:
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(_stylised(x, x), x)


def test_features_far_from_zero() -> None:
    x, y = torch.randn(2, 3, 16, 16) + 1e3, torch.randn(2, 3, 16, 16)
    exact = reference(x.double(), y.double(), 1e-5)
    assert (_stylised(x, y) - exact).abs().max() < 1e-3


def test_half_precision_features() -> None:
    x, y = torch.randn(2, 3, 8, 8).bfloat16(), torch.randn(2, 3, 8, 8).bfloat16()
    out = _stylised(x, y)
    assert out.dtype == torch.bfloat16
    exact = reference(x.double(), y.double(), 1e-5)
    assert (out - exact).abs().max() <= exact.abs().max() * 2**-8


@pytest.mark.parametrize(("axis", "batch_axis"), [(-1, 0), (-1, 1), (2, 1), (0, 3), (1, -1)])
def test_any_axes(axis: int, batch_axis: int) -> None:
    x, y = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 6, 5).double()
    expected = reference(x, y, 1e-5)
    site = Site("a", 3, Affine(), axis=axis, batch_axis=batch_axis)
    moved = [t.movedim((0, 1), (batch_axis, axis)) for t in (x, y, expected)]
    torch.testing.assert_close(_stylised(moved[0], moved[1], site), moved[2])


def test_features_without_samples() -> None:
    x, y = torch.randn(3, 8).double(), torch.randn(3, 8).double()
    site = Site("a", 3, Affine(), axis=0, batch_axis=None)
    torch.testing.assert_close(_stylised(x, y, site), reference(x[None], y[None], 1e-5)[0])


def test_a_style_for_each_of_several_sites() -> None:
    sites = (Site("a", 3, Affine()), Site("b", 2, Affine()))
    generator = _bound(*sites)
    styles = {"a": torch.randn(2, 3, 4), "b": torch.randn(2, 2, 4)}
    for site in sites:
        x = torch.randn(2, site.width, 5)
        values, _ = generator(site, x, styles, None)
        expected = reference(x.double(), styles[site.name].double(), 1e-5)
        torch.testing.assert_close(site.modulate(x, values), expected.float())


def test_has_no_parameters() -> None:
    assert not list(_bound(SITE).parameters()) and not _bound(SITE).state_dict()


def test_gradients_to_second_order() -> None:
    x, y = (torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradcheck(_stylised, (x, y))
    assert gradgradcheck(_stylised, (x, y))


X = torch.randn(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("x", "style", "error", "words"),
    [
        (X, None, ConditionError, "style"),
        (X, {}, ConditionError, "relu4_1"),
        (X, {"relu3_1": X}, ConditionError, "relu4_1.*relu3_1"),
        (X, "starry night", ArgumentTypeError, "style.*must be a tensor"),
        (X, 3, ArgumentTypeError, "style"),
        (X, [X], ArgumentTypeError, "style"),
        (X, {"relu4_1": None}, ArgumentTypeError, "style"),
        (X, X.long(), ArgumentTypeError, "style.*int64"),
        (X, X.to("meta"), ArgumentTypeError, "style is on meta"),
        (X, torch.randn(2, 4, 4, 4), ShapeError, "style.*3 features"),
        (X, torch.randn(2, 3), ShapeError, "two positions, style"),
        (X, torch.randn(2, 3, 1, 1), ShapeError, "two positions, style"),
        (X, torch.randn(2, 3, 0), ShapeError, "two positions, style"),
        (X, torch.randn(3, 3, 4, 4), ShapeError, "style has 3 samples, expected 2"),
        (X, torch.randn(3), ShapeError, "style"),
        (torch.randn(2, 4, 4, 4), X, ShapeError, "x.*3 features"),
        (torch.randn(2, 3), X, ShapeError, "two positions, x"),
        (X.long(), X, ArgumentTypeError, "x.*int64"),
        (None, X, ArgumentTypeError, "x"),
    ],
)
def test_wrong_inputs(x: Any, style: Any, error: type[Exception], words: str) -> None:
    with pytest.raises((error, TypeCheckError)) as caught:
        _bound(SITE)(SITE, x, style, None)
    if not isinstance(caught.value, TypeCheckError):
        assert caught.match(words) and caught.match("relu4_1|AdaIN")


def test_one_tensor_for_several_sites_raises() -> None:
    generator = _bound(SITE, Site("b", 2, Affine()))
    with pytest.raises(ConditionError, match=r"relu4_1, b"):
        generator(SITE, X, X, None)


@pytest.mark.parametrize("operation", [Shift(), Scale(), Gate(), Affine("exp"), Affine("tanh")])
def test_sites_that_are_not_affine_raise(operation: Any) -> None:
    with pytest.raises(OperationError, match=r"site 'a'.*Affine\(\)"):
        _bound(Site("a", 3, operation))


def test_sites_of_another_layout_raise() -> None:
    with pytest.raises(LayoutError, match="bind"):
        AdaIN()(SITE, X, X, None)
    with pytest.raises(LayoutError, match="relu5"):
        _bound(SITE)(Site("relu5", 3, Affine()), X, X, None)
    with pytest.raises(LayoutError, match="has changed since"):
        _bound(SITE)(Site("relu4_1", 4, Affine()), X, X, None)
    with pytest.raises(KIND, match="site"):
        _bound(SITE)("relu4_1", X, X, None)


@pytest.mark.parametrize(
    ("eps", "error"),
    [
        (0.0, GeneratorError),
        (-1e-05, GeneratorError),
        (float("nan"), GeneratorError),
        ("1e-5", KIND),
        (None, KIND),
        (True, KIND),
    ],
)
def test_wrong_eps(eps: Any, error: Any) -> None:
    with pytest.raises(error, match="eps"):
        AdaIN(eps)
