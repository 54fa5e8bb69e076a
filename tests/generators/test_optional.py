"""Condition dropout and missing rows: the network is exactly unmodified for missing rows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.func import grad, vmap
from torch.utils import _pytree

from featurewise.core import Affine, ArgumentTypeError, Gate, Layout, LayoutError, ShapeError, Site
from featurewise.generators import (
    MLP,
    ConditionError,
    GeneratorError,
    Linear,
    Lookup,
    Masked,
    Optional,
    SqueezeExcite,
)
from featurewise.retrofit import condition

KIND = (ArgumentTypeError, TypeCheckError)
LAYOUT = Layout(
    (Site("a", 3, Affine()), Site("b", 2, Affine(raw=True)), Site("c", 4, Affine(activation="exp")))
)
N = LAYOUT.size


def away(generator: nn.Module, drop: float = 0.0) -> Optional:
    """A bound generator in float64, not at the identity."""
    optional = Optional(generator, drop).double()
    optional.bind(LAYOUT)
    with torch.no_grad():
        for p in optional.parameters():
            p.normal_()
    return optional.double()


def test_missing_rows_have_the_start_values() -> None:
    optional = away(Linear(5))
    z = torch.randn(4, 5, dtype=torch.float64)
    present = torch.tensor([True, False, True, False])
    flat = optional(Masked(z, present))
    start = LAYOUT.start().double()
    for row in range(4):
        expected = optional.generator(z)[row] if present[row] else start
        assert torch.equal(flat[row], expected)
    assert torch.equal(optional(z), optional.generator(z))
    assert torch.equal(optional(None), start)
    assert torch.equal(optional(), start)


def test_positions_shared_vectors_and_single_samples() -> None:
    optional = away(Linear(5))
    start = LAYOUT.start().double()
    present = torch.tensor([True, False])
    placed = torch.randn(2, 5, 7, dtype=torch.float64)
    flat = optional(Masked(placed, present))
    assert torch.equal(flat[0], optional.generator(placed)[0])
    assert torch.equal(flat[1], start[:, None].expand(-1, 7))
    shared = torch.randn(5, dtype=torch.float64)
    flat = optional(Masked(shared, present))
    assert torch.equal(flat, torch.stack([optional.generator(shared), start]))
    assert torch.equal(optional(Masked(shared, torch.tensor(False))), start)
    assert torch.equal(optional(Masked(shared, torch.tensor(True))), optional.generator(shared))


def test_without_a_condition_the_network_is_exactly_the_base_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()).eval()
    x, z = torch.randn(4, 3, 8, 8), torch.randn(4, 5)
    base = network(x)
    net = condition(network, at="1", operation=Affine(), generator=Optional(Linear(5)))
    nn.init.normal_(net.generator.generator.head.weight)
    nn.init.normal_(net.generator.generator.head.bias)
    net.eval()
    assert torch.equal(net(x), base)
    present = torch.tensor([False, True, False, True])
    y = net(x, condition=Masked(z, present))
    assert torch.equal(y[~present], base[~present])
    assert torch.equal(y[present], net(x, condition=z)[present])
    assert not torch.isclose(y[present], base[present]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_exact_in_other_dtypes(dtype: torch.dtype) -> None:
    optional = Optional(Linear(5)).to(dtype)
    optional.bind(LAYOUT)
    nn.init.normal_(optional.generator.head.weight)
    optional.to(dtype)
    flat = optional(Masked(torch.randn(2, 5, dtype=dtype), torch.tensor([False, True])))
    assert flat.dtype == dtype
    assert torch.equal(flat[0], LAYOUT.start().to(dtype))


def test_autocast_keeps_the_dtype_of_the_generator() -> None:
    optional = Optional(Linear(5))
    optional.bind(LAYOUT)
    z, present = torch.randn(2, 5), torch.tensor([False, True])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flat, alone = optional(Masked(z, present)), optional(z)
    assert flat.dtype == alone.dtype == torch.bfloat16
    assert torch.equal(flat[0], LAYOUT.start().bfloat16())


def test_dropout_in_training_is_per_row_with_the_given_probability() -> None:
    optional = away(Lookup(3), drop=0.3).train()
    ids = torch.randint(3, (20_000,))
    flat = optional(ids)
    start = LAYOUT.start().double()
    dropped = (flat == start).all(1)
    assert abs(dropped.double().mean() - 0.3) < 0.02
    assert torch.equal(flat[~dropped], optional.generator(ids)[~dropped])
    # Rows are dropped independently of each other.
    both = (dropped[:-1] & dropped[1:]).double().mean()
    assert abs(both - 0.09) < 0.02
    assert torch.equal(optional.eval()(ids), optional.generator(ids))


def test_dropout_keeps_missing_rows_missing() -> None:
    optional = away(Linear(5), drop=0.5).train()
    present = torch.rand(1000) < 0.5
    flat = optional(Masked(torch.randn(1000, 5, dtype=torch.float64), present))
    dropped = (flat == LAYOUT.start().double()).all(1)
    assert dropped[~present].all()
    assert 0.4 < dropped[present].double().mean() < 0.6


@pytest.mark.parametrize(("drop", "all_gone"), [(0.0, False), (1.0, True)])
def test_extreme_probabilities(drop: float, all_gone: bool) -> None:
    optional = away(Linear(5), drop=drop).train()
    z = torch.randn(50, 5, dtype=torch.float64)
    start = LAYOUT.start().double()
    assert torch.equal(optional(z), start.expand(50, -1) if all_gone else optional.generator(z))
    shared = optional(z[0])
    assert torch.equal(shared, start if all_gone else optional.generator(z[0]))


def test_missing_rows_have_no_gradient_even_if_nan() -> None:
    optional = away(MLP(5, [4]))
    z = torch.randn(3, 5, dtype=torch.float64)
    present = torch.tensor([True, False, True])
    optional(Masked(z, present)).square().sum().backward()
    found = [p.grad.clone() for p in optional.parameters()]
    optional.zero_grad()
    optional.generator(z[present]).square().sum().backward()
    for one, p in zip(found, optional.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad)
    optional.zero_grad()
    z[1] = float("nan")
    optional(Masked(z, present)).square().sum().backward()
    for one, p in zip(found, optional.parameters(), strict=True):
        assert torch.equal(one, p.grad)


def test_masked_is_a_pytree() -> None:
    masked = Masked({"a": torch.ones(2, 3)}, torch.tensor([True, False]))
    leaves, structure = _pytree.tree_flatten(masked)
    assert len(leaves) == 2
    again = _pytree.tree_unflatten(leaves, structure)
    assert isinstance(again, Masked)
    assert torch.equal(again.condition["a"], masked.condition["a"])
    text = _pytree.treespec_dumps(structure)
    assert _pytree.treespec_loads(text) == structure


def test_vmap_and_grad() -> None:
    optional = away(Linear(5))
    z = torch.randn(4, 5, dtype=torch.float64)
    present = torch.tensor([True, False, True, False])
    mapped = vmap(optional)(Masked(z, present))
    torch.testing.assert_close(mapped, optional(Masked(z, present)))
    found = grad(lambda z: optional(Masked(z, present)).square().sum())(z)
    assert (found[present] != 0).any()
    assert (found[~present] == 0).all()
    optional.drop = 0.5
    optional.train()
    many = torch.randn(2000, 5, dtype=torch.float64)
    flat = vmap(optional, randomness="different")(many)
    dropped = (flat == LAYOUT.start().double()).all(1).double().mean()
    assert 0.45 < dropped < 0.55
    same = vmap(optional, randomness="same")(many)
    assert (same == LAYOUT.start().double()).all(1).double().mean() in (0.0, 1.0)


def test_state_dict_is_that_of_the_generator_alone() -> None:
    optional = away(Linear(5))
    assert list(optional.state_dict()) == ["generator.head.weight", "generator.head.bias"]
    other = copy.deepcopy(optional)
    other.load_state_dict(optional.state_dict())
    z = torch.randn(2, 5, dtype=torch.float64)
    assert torch.equal(other(z), optional(z))


def test_start_is_restored_after_meta() -> None:
    with torch.device("meta"):
        optional = Optional(Linear(5))
        optional.bind(LAYOUT)
    optional.to_empty(device="cpu")
    for module in optional.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    assert torch.equal(optional(None), LAYOUT.start())
    assert torch.equal(optional(torch.randn(2, 5)), LAYOUT.start().expand(2, -1))


def test_any_module_may_be_optional() -> None:
    class Bare(nn.Module):
        def forward(self, condition: Tensor) -> Tensor:
            return condition.new_ones(len(condition), N)

    optional = Optional(Bare())
    optional.bind(LAYOUT)
    flat = optional(Masked(torch.zeros(2, 1), torch.tensor([False, True])))
    assert torch.equal(flat, torch.stack([LAYOUT.start(), torch.ones(N)]))


def test_wrong_inputs() -> None:
    with pytest.raises(KIND):
        Optional(Linear)  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentTypeError, match="SqueezeExcite, which makes its parameters site by site"
    ):
        Optional(SqueezeExcite())
    with pytest.raises(KIND):
        Optional(Linear(3), drop="0.1")  # type: ignore[arg-type]
    for drop in (-0.1, 1.1, float("nan")):
        with pytest.raises(GeneratorError, match=r"drop must lie in \[0, 1\]"):
            Optional(Linear(3), drop)
    with pytest.raises(LayoutError, match="no layout yet"):
        Optional(Linear(3))(torch.randn(2, 3))
    with pytest.raises(ConditionError, match="must not be None"):
        Masked(None, torch.tensor([True]))
    for present in ([True], torch.ones(2)):
        with pytest.raises(KIND):
            Masked(torch.ones(2, 3), present)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"present must be \(B,\)"):
        Masked(torch.ones(2, 3), torch.ones(2, 1, dtype=torch.bool))
    optional = away(Linear(5))
    with pytest.raises(ShapeError, match=r"present must be \(3,\), one boolean for each row"):
        optional(Masked(torch.ones(3, 5).double(), torch.tensor([True, False])))
    with pytest.raises(ShapeError):
        optional(Masked(torch.ones(3, 4).double(), torch.tensor([True] * 3)))
    with pytest.raises(ArgumentTypeError, match="present is on meta, the generator is on cpu"):
        optional(Masked(torch.ones(1, 5).double(), torch.tensor([True], device="meta")))


@pytest.mark.traced
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
class TestTraced:
    def net(self, operation: Any) -> Any:
        network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        net = condition(network, at="1", operation=operation, generator=Optional(Linear(5), 0.5))
        nn.init.normal_(net.generator.generator.head.weight)
        return net.eval()

    @pytest.mark.parametrize("operation", [Affine(), Gate()], ids=str)
    def test_compiles_whole_and_once(self, operation: Any) -> None:
        net = self.net(operation)
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        x, z = torch.randn(4, 3, 8, 8), torch.randn(4, 5)
        compiled(x, condition=Masked(z, torch.tensor([True, False, True, False])))
        with set_stance("fail_on_recompile"):
            for _ in range(3):
                masked = Masked(torch.randn(4, 5), torch.rand(4) < 0.5)
                y = compiled(x, condition=masked)
                with set_stance("force_eager"):
                    torch.testing.assert_close(y, net(x, condition=masked))

    def test_compiles_in_training(self) -> None:
        net = self.net(Affine())
        net.generator.train()
        compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
        x, z = torch.randn(64, 3, 4, 4), torch.randn(64, 5)
        base = net(x)
        dropped = (compiled(x, condition=z) == base).flatten(1).all(1).double().mean()
        assert 0.2 < dropped < 0.8

    def test_exports(self) -> None:
        net = self.net(Affine())
        x = torch.randn(4, 3, 8, 8)
        masked = Masked(torch.randn(4, 5), torch.tensor([True, False, True, False]))
        program = torch.export.export(net, (x,), {"condition": masked})
        other = Masked(torch.randn(4, 5), torch.tensor([False, False, True, True]))
        y = program.module()(x, condition=other)
        torch.testing.assert_close(y, net(x, condition=other))
        torch.testing.assert_close(y[:2], net(x)[:2])
