"""``FiLM``: properties of the layer, its gradients, its initial state, wrong inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    Layout,
    LayoutError,
    LowRank,
    Operation,
    OperationError,
    RowColumn,
    Scale,
    ShapeError,
    Shift,
    Site,
    TaskRepresentation,
)
from featurewise.generators import (
    MLP,
    AdaIN,
    ConditionError,
    GeneratorError,
    Learned,
    Linear,
    Lookup,
    SqueezeExcite,
    parameter_groups,
)
from featurewise.layers import FiLM

KIND = (ArgumentTypeError, TypeCheckError)


def _trained(film: FiLM) -> FiLM:
    with torch.no_grad():
        for parameter in film.parameters():
            parameter.add_(torch.randn_like(parameter))
    return film


def _parameters(film: FiLM, z: Tensor) -> dict[str, Tensor]:
    """Raw parameters of each sample, as the generator predicts them."""
    assert film.generator is not None
    return film.layout.split(film.generator(z))["film"]


def reference(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """``(1 + Δγ) x + β``, element by element, in float64."""
    out = x.double().clone()
    flat = out.flatten(2) if x.ndim > 2 else out.unsqueeze(2)
    for b in range(flat.shape[0]):
        for c in range(flat.shape[1]):
            g, s = float(gamma[b, c].detach()), float(beta[b, c].detach())
            for i in range(flat.shape[2]):
                flat[b, c, i] = (1.0 + g) * float(flat[b, c, i]) + s
    return flat.reshape(x.shape)


@settings(max_examples=30)
@given(
    batch=st.integers(0, 3),
    width=st.integers(1, 4),
    features=st.integers(1, 4),
    shape=st.lists(st.integers(0, 3), max_size=3),
)
def test_equals_the_formula(batch: int, width: int, features: int, shape: list[int]) -> None:
    film = _trained(FiLM(width, features))
    x, z = torch.randn(batch, width, *shape), torch.randn(batch, features)
    raw = _parameters(film, z)
    expected = reference(x, raw["gamma"], raw["beta"])
    torch.testing.assert_close(film(x, z), expected.float())


def test_the_comparison_detects_a_wrong_reference() -> None:
    film = _trained(FiLM(3, 2))
    x, z = torch.randn(2, 3, 4), torch.randn(2, 2)
    raw = _parameters(film, z)
    out = film(x, z).double()
    assert not torch.allclose(out, reference(x, raw["gamma"] - 1.0, raw["beta"]))
    assert not torch.allclose(out, reference(x, raw["beta"], raw["gamma"]))
    assert not torch.allclose(out, reference(x, raw["gamma"].flip(0), raw["beta"].flip(0)))


class TestFactsOfTheArticle:
    def test_one_pair_per_channel_is_equivariant_to_translation(self) -> None:
        film = _trained(FiLM(3, 2))
        x, z = torch.randn(2, 3, 8, 6), torch.randn(2, 2)
        shifted = film(x.roll((3, -2), (2, 3)), z)
        assert torch.equal(shifted, film(x, z).roll((3, -2), (2, 3)))

    def test_is_a_diagonal_affine_map(self) -> None:
        film = _trained(FiLM(5, 2)).double()
        x, z = torch.randn(1, 5).double(), torch.randn(1, 2).double()
        raw = _parameters(film, z)
        jacobian = torch.func.jacrev(lambda v: film(v, z))(x)[0, :, 0]
        torch.testing.assert_close(jacobian, torch.diag(1 + raw["gamma"][0]))
        torch.testing.assert_close(film(torch.zeros_like(x), z), raw["beta"])

    def test_gradients_are_the_sums_over_positions(self) -> None:
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
        gamma, beta = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in "gb")
        site = Site("film", 3, Affine())
        y = site.modulate(x, {"gamma": gamma, "beta": beta})
        y.sin().sum().backward()
        dy = y.detach().cos()
        torch.testing.assert_close(gamma.grad, (x * dy).sum((2, 3)))
        torch.testing.assert_close(beta.grad, dy.sum((2, 3)))

    def test_with_a_linear_readout_the_network_is_bilinear(self) -> None:
        film = _trained(FiLM(4, 3, operation=Scale(raw=True))).double()
        assert isinstance(film.generator, Linear) and film.generator.head is not None
        nn.init.zeros_(film.generator.head.bias)
        readout = torch.randn(4).double()
        x, v = torch.randn(2, 1, 4).double()
        z, w = torch.randn(2, 1, 3).double()

        def f(x: Tensor, z: Tensor) -> Tensor:
            return film(x, z) @ readout

        torch.testing.assert_close(f(x + 2 * v, z), f(x, z) + 2 * f(v, z))
        torch.testing.assert_close(f(x, z + 3 * w), f(x, z) + 3 * f(x, w))

    def test_a_bias_only_adds_and_a_scale_only_multiplies(self) -> None:
        x, v, z = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2, 2)
        shift = _trained(FiLM(3, 2, operation=Shift()))
        torch.testing.assert_close(shift(x, z) - x, shift(v, z) - v)
        scale = _trained(FiLM(3, 2, operation=Scale()))
        assert torch.equal(scale(torch.zeros_like(x), z), torch.zeros_like(x))
        torch.testing.assert_close(scale(x + v, z), scale(x, z) + scale(v, z))

    def test_a_gate_lies_between_zero_and_one(self) -> None:
        gate = _trained(FiLM(3, 2, operation=Gate(ceiling=1.0)))
        z = torch.randn(50, 2)
        scale = gate(torch.ones(50, 3), z)
        assert scale.min() > 0 and scale.max() < 1
        torch.testing.assert_close(scale, torch.sigmoid(_parameters(gate, z)["gamma"]))

    def test_one_linear_map_predicts_all_parameters(self) -> None:
        assert sum(p.numel() for p in FiLM(64, 16).parameters()) == 2 * 64 * (16 + 1)


class TestBirth:
    @pytest.mark.parametrize(
        "operation",
        [Affine(), Shift(), Scale(), Gate(), Scale("exp"), Affine(raw=True)],
        ids=str,
    )
    def test_starts_as_the_identity(self, operation: Operation) -> None:
        x = torch.randn(2, 6, 3, 3)
        assert torch.equal(FiLM(6, 4, operation=operation)(x, torch.randn(2, 4)), x)

    def test_low_rank_starts_close_to_the_identity(self) -> None:
        x = torch.randn(2, 6, 3, 3)
        assert torch.equal(FiLM(6, 4, operation=LowRank(2))(x, torch.randn(2, 4)), x)

    @pytest.mark.parametrize(
        ("generator", "condition"),
        [
            (Lookup(3), torch.tensor([2, 0])),
            (MLP(4, (8,)), torch.randn(2, 4)),
            (Learned(), None),
        ],
    )
    def test_with_any_generator(self, generator: nn.Module, condition: Any) -> None:
        x = torch.randn(2, 6, 3)
        assert torch.equal(FiLM(6, generator=generator)(x, condition), x)


class TestDeclaredSite:
    def test_is_exactly_the_identity(self) -> None:
        x = torch.randn(2, 6, 3)
        film = FiLM(6)
        assert film(x) is x
        assert not film.state_dict() and film.generator is None

    def test_takes_any_features(self) -> None:
        odd = torch.randn(7)
        assert FiLM(6)(odd) is odd

    @pytest.mark.parametrize("condition", [torch.zeros(2, 4), 0, "red", {}, False])
    def test_a_condition_raises(self, condition: Any) -> None:
        with pytest.raises(ConditionError, match="declared site"):
            FiLM(6)(torch.zeros(2, 6), condition)


class TestRows:
    @pytest.mark.parametrize("operation", [Affine(), Shift(), Scale("exp"), Gate(), LowRank(2)])
    def test_rows_of_a_batch_are_independent(self, operation: Operation) -> None:
        film = _trained(FiLM(6, 4, operation=operation))
        x, z = torch.randn(5, 6, 3, 3), torch.randn(5, 4)
        together = film(x, z)
        for i in range(5):
            torch.testing.assert_close(together[i : i + 1], film(x[i : i + 1], z[i : i + 1]))

    def test_a_condition_without_batch_is_shared(self) -> None:
        film = _trained(FiLM(6, 4))
        x, z = torch.randn(5, 6, 3), torch.randn(4)
        torch.testing.assert_close(film(x, z), film(x, z.expand(5, -1)))

    def test_features_permute_with_their_parameters(self) -> None:
        film = _trained(FiLM(6, 4, generator=None))
        x, z, order = torch.randn(2, 6, 3), torch.randn(2, 4), torch.randperm(6)
        raw = _parameters(film, z)
        site = film.layout["film"]
        permuted = site.modulate(x[:, order], {k: v[:, order] for k, v in raw.items()})
        assert torch.equal(permuted, film(x, z)[:, order])


class TestAxes:
    @pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
    def test_any_feature_axis(self, axis: int) -> None:
        first = _trained(FiLM(6, 4))
        other = FiLM(6, 4, axis=axis)
        other.load_state_dict(first.state_dict())
        x, z = torch.randn(2, 6, 3, 5), torch.randn(2, 4)
        out = other(x.movedim(1, axis), z)
        torch.testing.assert_close(out.movedim(axis, 1), first(x, z))

    def test_one_condition_per_position(self) -> None:
        film = _trained(FiLM(6, 4))
        x, z = torch.randn(2, 6, 5), torch.randn(2, 4, 5)
        out = film(x, z)
        for t in range(5):
            torch.testing.assert_close(out[..., t], film(x[..., t], z[..., t]))


class TestGenerators:
    def test_a_module_that_returns_a_flat_tensor(self) -> None:
        plain = nn.Linear(4, 12)
        film, x, z = FiLM(6, generator=plain), torch.randn(2, 6, 3), torch.randn(2, 4)
        gamma, beta = plain(z).chunk(2, dim=1)
        torch.testing.assert_close(film(x, z), (1 + gamma[..., None]) * x + beta[..., None])

    def test_a_module_that_returns_a_task_representation(self) -> None:
        class Tasks(nn.Module):
            def forward(self, flat: Tensor) -> TaskRepresentation:
                return TaskRepresentation(FiLM(6).layout, flat)

        x = torch.randn(2, 6)
        out = FiLM(6, generator=Tasks())(x, torch.full((2, 12), 0.5))
        torch.testing.assert_close(out, 1.5 * x + 0.5)

    def test_statistics_of_a_style(self) -> None:
        x, style = torch.randn(2, 6, 8).double(), 3 + torch.randn(2, 6, 9).double()
        out = FiLM(6, generator=AdaIN(1e-12))(x, style)
        torch.testing.assert_close(out.mean(2), style.mean(2))

    def test_self_conditioning(self) -> None:
        film = FiLM(6, operation=Gate(), generator=SqueezeExcite(2))
        x = torch.randn(2, 6, 4)
        assert torch.equal(film(x), x)
        assert _trained(film)(x).shape == x.shape

    def test_heads_are_found_by_parameter_groups(self) -> None:
        groups = {g["name"]: len(g["params"]) for g in parameter_groups(FiLM(6, 4), 0.1)}
        assert groups == {"heads": 1, "plain": 1}


@pytest.mark.parametrize("operation", [Affine(), Shift(), Scale("softplus"), Gate()], ids=str)
def test_gradients_to_second_order(operation: Operation) -> None:
    film = _trained(FiLM(3, 2, operation=operation)).double()
    names, values = zip(*film.named_parameters(), strict=True)
    x, z = (torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 2))

    def run(x: Tensor, z: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(film, named, (x, z))

    assert gradcheck(run, (x, z, *values), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(run, (x, z, *values))


def test_state_round_trip_and_copies() -> None:
    film, twin = _trained(FiLM(6, 4)), FiLM(6, 4)
    twin.load_state_dict(film.state_dict(), strict=True)
    x, z = torch.randn(2, 6, 3), torch.randn(2, 4)
    assert torch.equal(film(x, z), twin(x, z))
    assert torch.equal(film(x, z), copy.deepcopy(film)(x, z))
    assert [*film.state_dict()] == ["generator.head.weight", "generator.head.bias"]
    with pytest.raises(RuntimeError, match="size mismatch"):
        FiLM(5, 4).load_state_dict(film.state_dict())


def test_half_precision_features_are_modulated_in_float32() -> None:
    film = FiLM(6, 4)
    assert isinstance(film.generator, Linear) and film.generator.head is not None
    with torch.no_grad():
        film.generator.head.bias.fill_(2**-10)  # lost where 1 + Δγ is rounded to bfloat16
    x = torch.full((2, 6), 256.0, dtype=torch.bfloat16)
    assert film(x, torch.zeros(2, 4)).dtype == torch.bfloat16
    exact = film(torch.full((2, 6), 256.0), torch.zeros(2, 4))
    assert torch.equal(film(x, torch.zeros(2, 4)), exact.bfloat16())


def test_repr() -> None:
    assert "6, Gate(), axis=-1" in repr(FiLM(6, operation=Gate(), axis=-1))


X, Z = torch.randn(2, 6, 3), torch.randn(2, 4)


@pytest.mark.parametrize(
    ("x", "z", "error", "words"),
    [
        (X, None, ConditionError, "None"),
        (torch.zeros(2, 5, 3), Z, ShapeError, "expected 6 features on axis 1"),
        (torch.zeros(2, 3, 6), Z, ShapeError, "expected 6 features"),
        (torch.zeros(6), Z, ShapeError, "axis"),
        (torch.tensor(1.0), Z, ShapeError, "axis"),
        (torch.zeros(3, 6, 3), Z, ShapeError, "gamma"),
        (torch.zeros(1, 6, 3), Z, ShapeError, "gamma"),
        (X, torch.zeros(2, 5), ShapeError, "condition"),
        (X, torch.zeros(2, 4, 7), ShapeError, "positions|gamma"),
        (X, torch.zeros(1, 4), ShapeError, "gamma"),
        (X, torch.tensor(1.0), ShapeError, "condition"),
        (X.long(), Z, ArgumentTypeError, "x must be floating point"),
        (X.bool(), Z, ArgumentTypeError, "x must be floating point"),
        (None, Z, ArgumentTypeError, "x must be a tensor"),
        ([[0.0] * 6], Z, ArgumentTypeError, "x must be a tensor"),
        (X, [[0.0] * 4] * 2, ArgumentTypeError, "condition must be a tensor"),
        (X, "red", ArgumentTypeError, "condition must be a tensor"),
        (X, Z.long(), ArgumentTypeError, "condition must be floating point"),
        (X, Z.double(), ArgumentTypeError, "condition is torch.float64"),
        (X, Z.to("meta"), ArgumentTypeError, "condition is on meta"),
        (X.to("meta"), Z, ArgumentTypeError, "gamma is on cpu"),
    ],
)
def test_wrong_calls(x: Any, z: Any, error: type[Exception], words: str) -> None:
    # The run-time shape checks of the tests may raise first, with another message.
    with pytest.raises((error, TypeCheckError)) as caught:
        FiLM(6, 4)(x, z)
    if not isinstance(caught.value, TypeCheckError):
        assert caught.match(words)


def _bound_elsewhere() -> Linear:
    linear = Linear(4)
    linear.bind(Layout((Site("conv", 6, Affine()),)))
    return linear


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: FiLM(0), ShapeError, "width"),
        (lambda: FiLM(-3, 4), ShapeError, "width"),
        (lambda: FiLM(6.0), KIND, "features"),
        (lambda: FiLM("6"), KIND, "features"),
        (lambda: FiLM(True), KIND, "features"),
        (lambda: FiLM(None, 4), KIND, "features"),
        (lambda: FiLM(6, 0), GeneratorError, "condition_features"),
        (lambda: FiLM(6, -1), GeneratorError, "condition_features"),
        (lambda: FiLM(6, 2.5), KIND, "condition_features"),
        (lambda: FiLM(6, True), KIND, "condition_features"),
        (lambda: FiLM(6, 4, generator=Linear(4)), GeneratorError, "not both"),
        (lambda: FiLM(6, operation=Affine), KIND, "operation"),
        (lambda: FiLM(6, operation=Affine), KIND, "operation"),
        (lambda: FiLM(6, operation=None), KIND, "operation"),
        (lambda: FiLM(6, operation=RowColumn()), ShapeError, "two position axes"),
        (lambda: FiLM(6, operation=LowRank(7)), OperationError, "rank 7"),
        (lambda: FiLM(6, axis="channels"), KIND, "axis"),
        (lambda: FiLM(6, axis=1.0), KIND, "axis"),
        (lambda: FiLM(6, generator="linear"), KIND, "generator"),
        (lambda: FiLM(6, generator=Linear), KIND, "generator"),
        (lambda: FiLM(6, generator=torch.tanh), KIND, "generator"),
        (lambda: FiLM(6, generator=_bound_elsewhere()), LayoutError, "conv"),
        (lambda: FiLM(6, operation=Gate(), generator=AdaIN()), OperationError, "AdaIN"),
    ],
)
def test_wrong_settings(make: Callable[[], Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("output", [torch.zeros(2, 11), torch.zeros(3, 12), None, "flat"])
def test_a_generator_that_returns_something_else(output: Any) -> None:
    class Odd(nn.Module):
        def forward(self, condition: Any) -> Any:
            return output

    film = FiLM(6, generator=Odd())
    with pytest.raises((ShapeError, ArgumentTypeError)):
        film(X, Z)
    with pytest.raises(ConditionError, match="None"):
        film(X)
