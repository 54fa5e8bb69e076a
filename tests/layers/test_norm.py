"""Conditional norms against the affine norms of torch, and the policies of batch norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from featurewise.core import Affine, ArgumentTypeError, Scale, ShapeError
from featurewise.generators import ConditionError, GeneratorError, Learned, Lookup
from featurewise.layers import (
    ConditionalBatchNorm,
    ConditionalGroupNorm,
    ConditionalInstanceNorm,
    ConditionalLayerNorm,
    ConditionalRMSNorm,
    FiLM,
)

KIND = (ArgumentTypeError, TypeCheckError)
C, F = 6, 4

NORMS: dict[str, tuple[Callable[..., nn.Module], Callable[[], nn.Module], int]] = {
    "batch": (ConditionalBatchNorm, lambda: nn.BatchNorm2d(C), 1),
    "instance": (ConditionalInstanceNorm, lambda: nn.InstanceNorm2d(C, affine=True), 1),
    "group": (lambda *a, **k: ConditionalGroupNorm(3, *a, **k), lambda: nn.GroupNorm(3, C), 1),
    "layer": (ConditionalLayerNorm, lambda: nn.LayerNorm(C), -1),
    "rms": (
        lambda *a, **k: ConditionalRMSNorm(*a, **{"operation": Scale(), **k}),
        lambda: nn.RMSNorm(C, eps=1e-6),
        -1,
    ),
}


@pytest.fixture(params=NORMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _features(kind: str, *positions: int, batch: int = 5) -> Tensor:
    x = 2 + 3 * torch.randn(batch, C, *(positions or (4, 3)))
    return x.movedim(1, NORMS[kind][2])


def _trained(module: nn.Module) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    return module


def _lined(x: Tensor) -> Tensor:
    """All positions on one axis: ``(B, C, P)``."""
    return x.flatten(2) if x.ndim > 2 else x.unsqueeze(2)


class TestEveryNorm:
    @pytest.mark.parametrize("training", [True, False])
    def test_with_constant_film_it_is_the_affine_norm_of_torch(
        self, kind: str, training: bool
    ) -> None:
        make, plain, _ = NORMS[kind]
        ours, theirs = make(C, generator=Learned()), plain()
        torch.nn.init.normal_(theirs.weight)
        gamma = theirs.weight - 1.0
        has_bias = getattr(theirs, "bias", None) is not None
        with torch.no_grad():
            if has_bias:
                nn.init.normal_(theirs.bias)
                gamma = torch.cat((gamma, theirs.bias))
            ours.film.generator.vector.copy_(gamma)
        x = _features(kind)
        for norm in (ours, theirs):
            norm(x)  # so that running averages differ from their start values
            norm.train(training)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)

    def test_starts_as_the_norm_alone(self, kind: str) -> None:
        make, _, axis = NORMS[kind]
        norm, x = make(C, F).eval(), _features(kind)
        assert torch.equal(norm(x, torch.randn(5, F)), norm.normalize(x))
        declared = make(C).eval()
        assert torch.equal(declared(x), norm.normalize(x))
        assert x.shape[axis] == C

    def test_is_the_norm_and_then_film(self, kind: str) -> None:
        make, _, axis = NORMS[kind]
        norm, x, z = _trained(make(C, F)).eval(), _features(kind), torch.randn(5, F)
        film = FiLM(C, F, operation=norm.film.layout["film"].operation, axis=axis)
        film.load_state_dict(norm.film.state_dict())
        torch.testing.assert_close(norm(x, z), film(norm.normalize(x), z))

    def test_rows_of_a_batch_are_independent(self, kind: str) -> None:
        norm = _trained(NORMS[kind][0](C, F))
        norm(_features(kind), torch.randn(5, F))
        norm.eval()
        x, z = _features(kind), torch.randn(5, F)
        together = norm(x, z)
        for i in range(5):
            torch.testing.assert_close(together[i : i + 1], norm(x[i : i + 1], z[i : i + 1]))

    @pytest.mark.parametrize("positions", [(7,), (4, 3), (2, 3, 2)])
    def test_one_class_for_every_rank(self, kind: str, positions: tuple[int, ...]) -> None:
        norm, x, z = _trained(NORMS[kind][0](C, F)), _features(kind, *positions), torch.randn(5, F)
        assert norm(x, z).shape == x.shape

    def test_gradients_to_second_order(self, kind: str) -> None:
        norm = _trained(NORMS[kind][0](C, 2)).double().eval()
        names, values = zip(*norm.named_parameters(), strict=True)
        x = _features(kind, 2, batch=2).double().detach().requires_grad_()
        z = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

        def run(x: Tensor, z: Tensor, *parameters: Tensor) -> Tensor:
            named = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(norm, named, (x, z))

        assert gradcheck(run, (x, z, *values), fast_mode=True)
        assert gradgradcheck(run, (x, z, *values), fast_mode=True)

    def test_state_round_trip(self, kind: str) -> None:
        make = NORMS[kind][0]
        norm, twin = _trained(make(C, F)), make(C, F)
        norm(_features(kind), torch.randn(5, F))
        twin.load_state_dict(norm.state_dict(), strict=True)
        x, z = _features(kind), torch.randn(5, F)
        assert torch.equal(norm.eval()(x, z), twin.eval()(x, z))

    def test_half_precision(self, kind: str) -> None:
        norm, x, z = _trained(NORMS[kind][0](C, F)), _features(kind), torch.randn(5, F)
        out = norm(x.bfloat16(), z)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), norm(x, z), rtol=0.05, atol=0.1)

    @pytest.mark.parametrize(
        ("x", "z", "error", "words"),
        [
            (lambda x: x, None, ConditionError, "None"),
            (lambda x: x[..., :0].flatten(), torch.zeros(5, F), ShapeError, "axis"),
            (lambda x: x.transpose(1, -1), torch.zeros(5, F), ShapeError, "expected 6 features"),
            (lambda x: torch.cat((x, x), 1).transpose(1, -1), torch.zeros(5, F), ShapeError, "6"),
            (lambda x: x.long(), torch.zeros(5, F), ArgumentTypeError, "x must be floating"),
            (lambda x: x.bool(), torch.zeros(5, F), ArgumentTypeError, "x must be floating"),
            (lambda x: x.tolist(), torch.zeros(5, F), ArgumentTypeError, "x must be a tensor"),
            (lambda x: None, torch.zeros(5, F), ArgumentTypeError, "x must be a tensor"),
            (lambda x: torch.tensor(1.0), torch.zeros(5, F), ShapeError, "axis"),
            (lambda x: x, torch.zeros(5, F + 1), ShapeError, "condition"),
            (lambda x: x, torch.zeros(4, F), ShapeError, "gamma"),
            (lambda x: x, torch.zeros(1, F), ShapeError, "gamma"),
            (lambda x: x, torch.zeros(5, F, dtype=torch.int64), ArgumentTypeError, "condition"),
            (lambda x: x, torch.zeros(5, F, dtype=torch.float64), ArgumentTypeError, "condition"),
            (lambda x: x, torch.zeros(5, F, device="meta"), ArgumentTypeError, "condition"),
            (lambda x: x, "red", ArgumentTypeError, "condition"),
            (lambda x: x, [[0.0] * F] * 5, ArgumentTypeError, "condition"),
        ],
    )
    def test_wrong_calls(self, kind: str, x: Any, z: Any, error: Any, words: str) -> None:
        with pytest.raises((error, TypeCheckError)) as caught:
            NORMS[kind][0](C, F)(x(_features(kind)), z)
        if not isinstance(caught.value, TypeCheckError):
            assert caught.match(words)

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"eps": 0.0}, GeneratorError, "eps"),
            ({"eps": -1.0}, GeneratorError, "eps"),
            ({"eps": float("nan")}, GeneratorError, "eps"),
            ({"eps": float("inf")}, GeneratorError, "eps"),
            ({"eps": "1e-5"}, KIND, "eps"),
            ({"eps": None}, KIND, "eps"),
            ({"condition_features": 0}, GeneratorError, "condition_features"),
            ({"condition_features": 1.5}, KIND, "condition_features"),
            ({"operation": 3}, KIND, "operation"),
            ({"generator": "linear"}, KIND, "generator"),
            ({"condition_features": 2, "generator": Learned()}, GeneratorError, "not both"),
        ],
    )
    def test_wrong_settings(self, kind: str, arguments: Any, error: Any, words: str) -> None:
        with pytest.raises(error, match=words):
            NORMS[kind][0](C, **arguments)

    @pytest.mark.parametrize("features", [0, -1, 2.0, "6", None, True])
    def test_wrong_widths(self, kind: str, features: Any) -> None:
        with pytest.raises((ShapeError, ArgumentTypeError, TypeCheckError), match="width|features"):
            NORMS[kind][0](features)

    def test_a_condition_without_a_generator_raises(self, kind: str) -> None:
        with pytest.raises(ConditionError, match="declared site"):
            NORMS[kind][0](C)(_features(kind), torch.zeros(5, F))


class TestBatchNorm:
    def test_running_averages_are_those_of_torch(self) -> None:
        ours, theirs = ConditionalBatchNorm(C, F, momentum=0.3), nn.BatchNorm2d(C, momentum=0.3)
        for _ in range(3):
            x = _features("batch")
            ours(x, torch.randn(5, F)), theirs(x)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)

    def test_frozen_averages_are_used_and_not_updated(self) -> None:
        norm = ConditionalBatchNorm(C, F, statistics="frozen")
        with torch.no_grad():
            norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2.0)
        before = {k: v.clone() for k, v in norm.state_dict().items()}
        x, z = _features("batch"), torch.randn(5, F)
        trained = norm.train()(x, z)
        mean, var = (t.reshape(1, C, 1, 1) for t in (norm.running_mean, norm.running_var))
        torch.testing.assert_close(trained, (x - mean) / (var + 1e-5).sqrt())
        assert torch.equal(trained, norm.eval()(x, z))
        assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())
        single = norm.train()(x[:1], z[:1])
        torch.testing.assert_close(single, trained[:1])

    @settings(max_examples=25)
    @given(
        groups=st.lists(st.integers(2, 4), min_size=1, max_size=3),
        positions=st.lists(st.integers(1, 3), max_size=2),
    )
    def test_conditions_are_normalised_independently(
        self, groups: list[int], positions: list[int]
    ) -> None:
        count = len(groups) + 1  # one condition never appears
        norm = ConditionalBatchNorm(C, statistics="per_condition", conditions=count)
        alone = [nn.BatchNorm1d(C, affine=False) for _ in range(count)]
        ids = torch.cat([torch.full((n,), k) for k, n in enumerate(groups)])
        ids = ids[torch.randperm(len(ids))]
        for _ in range(2):
            x = torch.randn(len(ids), C, *positions) * (1 + ids).reshape(
                -1, *(1 for _ in (C, *positions))
            )
            out = norm(x, None, ids)
            for k in range(len(groups)):
                expected = alone[k](_lined(x[ids == k]))
                torch.testing.assert_close(_lined(out[ids == k]), expected)
        for k in range(count):
            torch.testing.assert_close(norm.running_mean[k], alone[k].running_mean)
            torch.testing.assert_close(norm.running_var[k], alone[k].running_var)
        norm.eval()
        for k in range(len(groups)):
            expected = alone[k].eval()(_lined(x[ids == k]))
            torch.testing.assert_close(_lined(norm(x, None, ids)[ids == k]), expected)

    def test_statistics_of_a_condition_have_gradients(self) -> None:
        norm = ConditionalBatchNorm(2, statistics="per_condition", conditions=2).double()
        ids = torch.tensor([0, 1, 0, 1, 1])
        x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
        assert gradcheck(lambda x: norm(x, None, ids), (x,))
        assert gradgradcheck(lambda x: norm(x, None, ids), (x,), fast_mode=True)

    @pytest.mark.parametrize("statistics", ["batch", "frozen", "per_condition"])
    def test_in_evaluation_rows_are_independent(self, statistics: str) -> None:
        conditions = 3 if statistics == "per_condition" else None
        norm = _trained(
            ConditionalBatchNorm(C, F, statistics=statistics, conditions=conditions)
        ).eval()
        with torch.no_grad():
            norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2.0)
        x, z, ids = _features("batch"), torch.randn(5, F), torch.tensor([2, 0, 1, 1, 2])

        def run(rows: Any) -> Tensor:
            return norm(x[rows], z[rows], ids[rows] if conditions else None)

        together = run(slice(None))
        poisoned = x.clone()
        poisoned[1:] = torch.nan
        x = poisoned
        torch.testing.assert_close(run(slice(None))[0], together[0])
        torch.testing.assert_close(run(slice(0, 1))[0], together[0])

    def test_a_lookup_and_averages_by_the_same_ids(self) -> None:
        norm = ConditionalBatchNorm(
            C, generator=Lookup(3), statistics="per_condition", conditions=3
        )
        ids = torch.tensor([0, 2, 0, 2, 0])
        norm(_features("batch"), ids, ids)
        assert torch.equal(norm.running_mean[1], torch.zeros(C))
        assert norm.running_mean[[0, 2]].abs().min() > 0

    @pytest.mark.parametrize(
        ("ids", "error", "words"),
        [
            (None, ConditionError, "needs ids"),
            (torch.tensor([0, 1, 0, 1, 3]), ConditionError, r"ids must lie in 0\.\.2, got 0\.\.3"),
            (torch.tensor([0, -1, 0, 1, 1]), ConditionError, "ids"),
            (torch.tensor([0, 1]), ShapeError, r"ids must be \(5,\)"),
            (torch.tensor([[0, 1, 0, 1, 1]]), ShapeError, "ids"),
            (torch.tensor(0), ShapeError, "ids"),
            (torch.zeros(5), ArgumentTypeError, "ids"),
            (torch.zeros(5, dtype=torch.bool), ArgumentTypeError, "ids"),
            ([0, 1, 0, 1, 1], ArgumentTypeError, "ids"),
            (0, ArgumentTypeError, "ids"),
            ("cat", ArgumentTypeError, "ids"),
        ],
    )
    def test_wrong_ids(self, ids: Any, error: Any, words: str) -> None:
        norm = ConditionalBatchNorm(C, statistics="per_condition", conditions=3)
        with pytest.raises((error, TypeCheckError)) as caught:
            norm(_features("batch"), None, ids)
        if not isinstance(caught.value, TypeCheckError):
            assert caught.match(words)

    @pytest.mark.parametrize("statistics", ["batch", "frozen"])
    def test_superfluous_ids_raise(self, statistics: str) -> None:
        norm = ConditionalBatchNorm(C, statistics=statistics)
        with pytest.raises(ConditionError, match="takes no ids"):
            norm(_features("batch"), None, torch.zeros(5, dtype=torch.int64))

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"statistics": "running"}, GeneratorError, "batch, frozen, per_condition"),
            ({"statistics": None}, (GeneratorError, TypeCheckError), "statistics"),
            ({"statistics": "per_condition"}, GeneratorError, "conditions"),
            ({"conditions": 3}, GeneratorError, "conditions"),
            ({"statistics": "frozen", "conditions": 3}, GeneratorError, "conditions"),
            ({"statistics": "per_condition", "conditions": 0}, GeneratorError, "conditions"),
            ({"statistics": "per_condition", "conditions": 2.0}, KIND, "conditions"),
            ({"momentum": 0.0}, GeneratorError, "momentum"),
            ({"momentum": 1.5}, GeneratorError, "momentum"),
            ({"momentum": -0.1}, GeneratorError, "momentum"),
            ({"momentum": float("nan")}, GeneratorError, "momentum"),
            ({"momentum": None}, KIND, "momentum"),
            ({"momentum": "0.1"}, KIND, "momentum"),
        ],
    )
    def test_wrong_policies(self, arguments: Any, error: Any, words: str) -> None:
        with pytest.raises(error, match=words):
            ConditionalBatchNorm(C, **arguments)

    def test_a_single_value_has_no_statistics(self) -> None:
        with pytest.raises(ShapeError, match="the batch has 1 value"):
            ConditionalBatchNorm(C)(torch.zeros(1, C))
        norm = ConditionalBatchNorm(C, statistics="per_condition", conditions=2)
        with pytest.raises(ShapeError, match="a condition has 1 value"):
            norm(torch.zeros(3, C), None, torch.tensor([0, 0, 1]))


class TestOthers:
    def test_instance_norm_needs_positions(self) -> None:
        for x in (torch.zeros(2, C), torch.zeros(2, C, 1, 1)):
            with pytest.raises(ShapeError, match="two positions"):
                ConditionalInstanceNorm(C)(x)

    def test_a_group_needs_two_values(self) -> None:
        with pytest.raises(ShapeError, match="fewer than two values"):
            ConditionalGroupNorm(C, C)(torch.zeros(2, C))

    @pytest.mark.parametrize(
        ("groups", "error"),
        [
            (4, GeneratorError),
            (0, GeneratorError),
            (-1, GeneratorError),
            (7, GeneratorError),
            (2.0, KIND),
            ("2", KIND),
            (None, KIND),
            (True, KIND),
        ],
    )
    def test_wrong_groups(self, groups: Any, error: Any) -> None:
        with pytest.raises(error, match="groups"):
            ConditionalGroupNorm(groups, C)

    @pytest.mark.parametrize("make", [ConditionalLayerNorm, ConditionalRMSNorm])
    @pytest.mark.parametrize("axis", [1, 2, -2])
    def test_any_feature_axis(self, make: Any, axis: int) -> None:
        last, other = _trained(make(C, F)), make(C, F, axis=axis)
        other.load_state_dict(last.state_dict())
        x, z = torch.randn(5, 3, 4, C), torch.randn(5, F)
        out = other(x.movedim(-1, axis), z)
        torch.testing.assert_close(out.movedim(axis, -1), last(x, z))

    def test_rms_norm_is_its_formula(self) -> None:
        x = torch.randn(2, 3, C)
        expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(ConditionalRMSNorm(C)(x), expected)

    def test_tokens_with_one_condition_each(self) -> None:
        norm = _trained(ConditionalLayerNorm(C, F, operation=Affine()))
        x, z = torch.randn(2, 5, C), torch.randn(2, F, 5)
        out = norm(x, z)
        for t in range(5):
            torch.testing.assert_close(out[:, t], norm(x[:, t : t + 1], z[..., t])[:, 0])


class _Sevens(ConditionalInstanceNorm):
    """A norm of somebody else."""

    def normalize(self, x: Tensor) -> Tensor:
        return torch.full_like(super().normalize(x), 7.0)


class _Fives(FiLM):
    """A layer of somebody else."""

    def forward(self, x: Tensor, condition: Any = None) -> Tensor:
        return torch.full_like(super().forward(x, condition), 5.0)


class _Around(nn.Module):
    """Something in place of a layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, condition: Any = None) -> Tensor:
        made: Tensor = self.inner(x, condition)
        return made * 0 + 3


def test_a_call_that_is_more_than_norm_and_film_is_not_left_out() -> None:
    """Subclasses, replaced parts, another ``forward`` and hooks, local and global."""
    x, z = torch.randn(2, 8, 64, 64), torch.randn(2, 5)
    assert (_Sevens(8, 5)(x, z) == 7).all()
    norm = ConditionalGroupNorm(4, 8, 5)
    plain = norm(x, z)
    inner = norm.film
    norm.film = _Fives(8, 5)
    assert (norm(x, z) == 5).all()
    norm.film = _Around(inner)
    assert (norm(x, z) == 3).all()
    norm.film = inner
    inner.forward = lambda x, condition=None: torch.zeros_like(x)  # type: ignore[method-assign]
    assert not norm(x, z).any()
    del inner.forward
    for register in (
        inner.register_forward_hook,
        lambda hook: nn.modules.module.register_module_forward_hook(hook),
    ):
        handle = register(lambda module, given, made: made * 0 if module is inner else None)
        assert not norm(x, z).any()
        handle.remove()
    assert torch.equal(norm(x, z), plain)


def test_a_layer_that_was_pickled_before_scales_were_prepared() -> None:
    layer, x, z = FiLM(8, 5), torch.randn(2, 8, 4), torch.randn(2, 5)
    state = {name: value for name, value in vars(layer).items() if name != "_plan"}
    old = FiLM.__new__(FiLM)
    old.__setstate__(state)
    assert torch.equal(old(x, z), layer(x, z))


@pytest.mark.parametrize("side", [4, 128], ids=["formula", "kernel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_norm_keeps_no_features_that_need_no_gradients(
    kind: str, channels_last: bool, dtype: torch.dtype, side: int
) -> None:
    """They may be changed afterwards, as in a residual connection, or come from inference mode."""
    torch.manual_seed(0)
    norm, z = _trained(NORMS[kind][0](C, F)).eval(), torch.randn(2, F)
    x = _features(kind, side, side, batch=2).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)

    def gradients(in_place: bool) -> list[Tensor]:
        features = x.clone()
        y = norm(features, z)
        added = features.add_(y) if in_place else features + y
        return list(torch.autograd.grad(added.square().sum(), norm.parameters()))

    for found, wanted in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(found, wanted)
    with torch.inference_mode():
        features = x.clone()
    norm(features, z).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm_of_features_that_need_no_gradients_rounds_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, z = _trained(ConditionalBatchNorm(C, F)), torch.randn(2, F)
    x = _features("batch", 8, 8, batch=2).to(dtype)
    for _ in range(3):
        norm(x, z)
    with torch.no_grad():
        wanted = norm.eval()(x, z)
    torch.testing.assert_close(norm(x, z), wanted, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_a_subclass_may_change_the_parameters() -> None:
    class Doubled(FiLM):
        def parameters_for(self, x: Tensor, condition: Any) -> tuple[Tensor, Any]:
            flat, _ = super().parameters_for(x, condition)
            return 2 * flat, None

    torch.manual_seed(0)
    layer, x, z = Doubled(C, F), torch.randn(2, C), torch.randn(2, F)
    nn.init.normal_(layer.generator.head.weight)
    flat = layer.generator(z)
    gamma, beta = (2 * flat).chunk(2, 1)
    torch.testing.assert_close(layer(x, z), (1 + gamma) * x + beta)
