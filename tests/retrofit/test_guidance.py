"""Guidance: the formula, its exact ends, rows, other base conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.func import grad, vmap

from featurewise.core import Affine, ArgumentTypeError, ShapeError
from featurewise.generators import Linear, Optional
from featurewise.retrofit import CallError, Conditioned, condition, guide

Move = Callable[[Conditioned], Conditioned]
KIND = (ArgumentTypeError, TypeCheckError)


@pytest.fixture
def net(convnet: nn.Module, moved: Move) -> Conditioned:
    return moved(condition(convnet, at="blocks.*.bn", generator=Linear(4))).eval()


def inputs(rows: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 3, 6, 6), torch.randn(rows, 4)


@pytest.mark.parametrize("weight", [-1.5, 0.3, 2.0, 7.5])
def test_the_formula(net: Conditioned, weight: float) -> None:
    x, z = inputs()
    base, conditional = net.backbone(x).double(), net(x, condition=z).double()
    expected = base + weight * (conditional - base)
    torch.testing.assert_close(guide(net, x, condition=z, weight=weight).double(), expected)
    each = guide(net, x, condition=z, weight=torch.full((3,), weight))
    torch.testing.assert_close(each.double(), expected)
    torch.testing.assert_close(
        guide(net, x, task=net.represent(z), weight=torch.tensor(weight)).double(), expected
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_both_ends_are_exact(net: Conditioned, dtype: torch.dtype) -> None:
    net.to(dtype)
    x, z = (part.to(dtype) for part in inputs())
    base, conditional = net.backbone(x), net(x, condition=z)
    assert not torch.equal(base, conditional)
    for zero, one in ((0, 1), (0.0, 1.0), (torch.tensor(0.0), torch.tensor(1.0))):
        assert torch.equal(guide(net, x, condition=z, weight=zero), base)
        assert torch.equal(guide(net, x, condition=z, weight=one), conditional)
    rows = guide(net, x, condition=z, weight=torch.tensor([0.0, 1.0, 2.0]))
    assert rows.dtype == dtype
    assert torch.equal(rows[0], base[0])
    assert torch.equal(rows[1], conditional[1])
    torch.testing.assert_close(rows[2], (2 * conditional.float() - base.float())[2].to(dtype))


@pytest.mark.parametrize("each", [False, True])
def test_half_precision_is_blended_in_float32(net: Conditioned, each: bool) -> None:
    """7.3 in bfloat16 would be 7.3125, and the difference of two outputs would be rounded."""
    net.to(torch.bfloat16)
    x, z = (part.to(torch.bfloat16) for part in inputs())
    base, conditional = net.backbone(x).double(), net(x, condition=z).double()
    expected = (base + 7.3 * (conditional - base)).to(torch.bfloat16)
    weight = torch.full((3,), 7.3) if each else 7.3
    found = guide(net, x, condition=z, weight=weight)
    assert found.dtype == torch.bfloat16
    # One rounding: at most one step of bfloat16 where float32 lands beside a tie.
    assert float((found != expected).float().mean()) <= 0.1
    torch.testing.assert_close(found, expected, rtol=2**-8, atol=0.0)


def test_one_run_for_weights_zero_and_one(net: Conditioned) -> None:
    x, z = inputs()
    runs = []
    net.backbone.register_forward_pre_hook(lambda module, args: runs.append(1))
    for weight, expected in ((0, 1), (1.0, 1), (2.0, 2), (torch.tensor(1.0), 2)):
        runs.clear()
        guide(net, x, condition=z, weight=weight)
        assert len(runs) == expected


def test_another_condition_to_start_from(net: Conditioned) -> None:
    x, z = inputs()
    null = torch.randn(4)
    negative, conditional = net(x, condition=null), net(x, condition=z)
    expected = negative + 3.0 * (conditional - negative)
    torch.testing.assert_close(guide(net, x, condition=z, null=null, weight=3.0), expected)
    task = net.represent(null)
    torch.testing.assert_close(guide(net, x, condition=z, null=task, weight=3.0), expected)
    assert torch.equal(guide(net, x, condition=z, null=null, weight=0), negative)
    assert torch.equal(guide(net, x, condition=z, null=null, weight=1), conditional)


def test_an_optional_generator_has_the_same_base(convnet: nn.Module) -> None:
    net = condition(convnet, at="blocks.*.bn", generator=Optional(Linear(4))).eval()
    nn.init.normal_(net.generator.generator.head.weight)
    x, z = inputs()
    assert torch.equal(net(x), guide(net, x, condition=z, weight=0.0))


def test_within_using_the_base_is_the_backbone_itself(net: Conditioned) -> None:
    x, z = inputs()
    expected = guide(net, x, condition=z, weight=3.0)
    with net.using(condition=torch.randn(4)):
        assert torch.equal(guide(net, x, condition=z, weight=3.0), expected)
    with net.using(condition=z):
        assert torch.equal(guide(net, x, weight=3.0), expected)


def test_within_using_without_an_identity_is_refused(convnet: nn.Module) -> None:
    operation = Affine(activation="tanh")
    net = condition(
        convnet, at="blocks.*.bn", operation=operation, generator=Linear(4), identity=False
    ).eval()
    x, z = inputs()
    base, conditional = net.backbone(x), net(x, condition=z)
    done = guide(net, x, condition=z, weight=2.0)
    torch.testing.assert_close(done, base + 2.0 * (conditional - base))
    with net.using(condition=z), pytest.raises(CallError, match=r"within net.using\(\)"):
        guide(net, x, condition=z, weight=2.0)


class Many(nn.Module):
    """Several outputs, of several kinds."""

    def __init__(self, odd: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.odd = odd

    def forward(self, x: Tensor, scale: float = 1.0) -> Any:
        y = self.linear(x) * scale
        odd = self.odd(y) if callable(self.odd) else self.odd
        return {"y": y, "rest": (y.sum(1), [y.mean(), odd])}


def many(odd: Any = None) -> Conditioned:
    net = condition(Many(odd), at="linear", generator=Linear(2))
    nn.init.normal_(net.generator.head.weight)
    return net


@pytest.mark.parametrize("odd", [None, 3, "name", True])
def test_every_output_is_guided(odd: Any) -> None:
    net = many(odd)
    x, z = torch.randn(3, 4), torch.randn(3, 2)
    base, conditional = net.backbone(x, scale=2.0), net(x, condition=z, scale=2.0)
    done = guide(net, x, condition=z, weight=4.0, scale=2.0)
    torch.testing.assert_close(done["y"], base["y"] + 4 * (conditional["y"] - base["y"]))
    one, two = base["rest"][0], conditional["rest"][0]
    torch.testing.assert_close(done["rest"][0], one + 4 * (two - one))
    one, two = base["rest"][1][0], conditional["rest"][1][0]
    torch.testing.assert_close(done["rest"][1][0], one + 4 * (two - one))
    assert done["rest"][1][1] == odd


@dataclass
class Cache:
    value: Tensor


@pytest.mark.parametrize(
    ("odd", "error", "message"),
    [
        (lambda y: y.argmax(1), ArgumentTypeError, "leaf 3 of the output is torch.int64"),
        (Cache, ArgumentTypeError, "leaf 3 of the output is a Cache"),
        (lambda y: float(y.detach().sum()), ArgumentTypeError, "leaf 3 of the output is a float"),
        (lambda y: y[y > 0], ShapeError, "leaf 3 of the output is"),
        (lambda y: [y] if y.sum() > 0 else (y,), ArgumentTypeError, "differ in structure"),
    ],
)
def test_outputs_that_cannot_be_blended(odd: Any, error: Any, message: str) -> None:
    net = many(odd)
    with torch.no_grad():
        net.backbone.linear.bias.fill_(-9.0)
        net.generator.head.bias[4:] = 20.0
    with pytest.raises(error, match=message):
        guide(net, torch.randn(3, 4), condition=torch.randn(3, 2), weight=2.0)


def test_wrong_inputs(net: Conditioned) -> None:
    x, z = inputs()
    with pytest.raises(KIND):
        guide(net.backbone, x, condition=z, weight=2.0)  # type: ignore[arg-type]
    for wrong in ("2", True, torch.tensor([1, 2, 3]), None):
        with pytest.raises(KIND):
            guide(net, x, condition=z, weight=wrong)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="finite"):
        guide(net, x, condition=z, weight=float("nan"))
    with pytest.raises(ShapeError, match=r"must be a number or \(B,\)"):
        guide(net, x, condition=z, weight=torch.ones(3, 1))
    with pytest.raises(ShapeError, match=r"one per row: got \(2,\) for leaf 0"):
        guide(net, x, condition=z, weight=torch.ones(2))
    with pytest.raises(CallError, match="needs a condition"):
        guide(net, x, weight=2.0)
    with pytest.raises(CallError, match="not both"):
        guide(net, x, condition=z, task=net.represent(z), weight=2.0)


def test_gradients_and_transforms(net: Conditioned) -> None:
    net.double()
    x, z = (part.double() for part in inputs())
    weight = torch.tensor([0.5, 1.5, 3.0]).double()

    def loss(z: Tensor, weight: Tensor) -> Tensor:
        return guide(net, x, condition=z, weight=weight).square().sum()

    assert torch.autograd.gradcheck(loss, (z.requires_grad_(), weight.requires_grad_()))
    found = grad(loss)(z.detach(), weight.detach())
    torch.testing.assert_close(found, torch.autograd.grad(loss(z, weight), z)[0])
    x, z, weight = x.detach(), z.detach(), weight.detach()
    mapped = vmap(lambda x, z, w: guide(net, x[None], condition=z, weight=w)[0])(x, z, weight)
    torch.testing.assert_close(mapped, guide(net, x, condition=z, weight=weight))


@pytest.mark.traced
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
class TestTraced:
    def test_compiles_whole_and_once(self, net: Conditioned) -> None:
        compiled = torch.compile(guide, fullgraph=True, backend="eager")
        x, z = inputs()
        compiled(net, x, condition=z, weight=torch.ones(3))
        with set_stance("fail_on_recompile"):
            z, weight = torch.randn(3, 4), torch.tensor([0.0, 1.0, 5.0])
            y = compiled(net, x, condition=z, weight=weight)
        torch.testing.assert_close(y, guide(net, x, condition=z, weight=weight))
        torch.testing.assert_close(y[0], net.backbone(x)[0])
