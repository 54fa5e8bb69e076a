"""``bake``: every rule against a reference in float64, and whole networks."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from tests.retrofit.test_axes import FIRST, LAST, RMSNorm2d, SamePadding
from torch import Tensor, nn
from torch.nn.utils import prune as masking

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Gate,
    LayoutError,
    LowRank,
    Operation,
    RowColumn,
    Scale,
    ShapeError,
    Shift,
    TaskRepresentation,
)
from featurewise.deploy import Baked, bake
from featurewise.generators import Learned, Linear, SqueezeExcite
from featurewise.layers.film import FiLM
from featurewise.retrofit import CallError, Conditioned, condition

KIND = (ArgumentTypeError, TypeCheckError)  # whichever checks first
LIMIT = {torch.float32: 1e-5, torch.float64: 1e-12}


def images(*, channels: int = 6, dims: int = 2, size: int = 7) -> Tensor:
    return torch.randn(3, channels, *(size,) * dims)


def tokens(width: int = 6) -> Tensor:
    return torch.randn(3, 5, width)


def error(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max())


def some_task(net: Conditioned, dtype: torch.dtype = torch.float32) -> TaskRepresentation:
    return TaskRepresentation(
        net.layout, (net.layout.start() + torch.randn(net.layout.size)).to(dtype)
    )


def random_norms(network: nn.Module) -> nn.Module:
    """Random statistics and weights, since initial values can hide errors."""
    for module in network.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or not tensor.is_floating_point():
                continue
            if name in ("running_var",) or ("orm" in type(module).__name__ and name == "weight"):
                tensor.data.uniform_(0.3, 3.0)
            elif name in ("running_mean", "bias"):
                tensor.data.normal_()
    return network


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


# --- one module at a time ------------------------------------------------------------------------


@dataclass
class Case:
    """A module, its input, and its feature axis."""

    name: str
    make: Callable[[], nn.Module]
    given: Callable[[], Tensor]
    axis: int
    when: str = "output"
    gains: tuple[str, ...] = ()
    operation: Operation = Affine()  # noqa: RUF009 (frozen)

    def __str__(self) -> str:
        return self.name


def convolutions() -> list[Case]:
    cases = []
    for dims in (1, 2, 3):
        plain = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        back = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
        for groups in (1, 2, 6):
            for bias in (True, False):
                options: dict[str, Any] = {"groups": groups, "bias": bias}
                gains = () if bias else ("0.bias",)
                for kind, out in ((plain, 12), (back, 12)):
                    name = f"{kind.__name__} groups={groups} bias={bias}"
                    cases += [
                        Case(
                            f"{name} output",
                            lambda k=kind, o=out, p=options: k(6, o, 3, stride=2, padding=1, **p),
                            lambda d=dims: images(dims=d, size=5),
                            1,
                            gains=gains,
                        ),
                    ]
                cases += [
                    Case(
                        f"{plain.__name__} groups={groups} bias={bias} input",
                        lambda k=plain, p=options: k(6, 12, 3, stride=2, **p),
                        lambda d=dims: images(dims=d, size=5),
                        1,
                        "input",
                        gains,
                    ),
                    Case(
                        f"{back.__name__} groups={groups} bias={bias} input",
                        lambda k=back, p=options: k(6, 12, 1, **p),
                        lambda d=dims: images(dims=d, size=5),
                        1,
                        "input",
                        gains,
                    ),
                    Case(
                        f"{back.__name__} groups={groups} bias={bias} input scale",
                        lambda k=back, p=options: k(6, 12, 3, stride=2, padding=1, **p),
                        lambda d=dims: images(dims=d, size=5),
                        1,
                        "input",
                        operation=Scale(),
                    ),
                    Case(
                        f"{plain.__name__} groups={groups} bias={bias} padded input scale",
                        lambda k=plain, p=options: k(6, 12, 3, padding="same", **p),
                        lambda d=dims: images(dims=d, size=5),
                        1,
                        "input",
                        operation=Gate(),
                    ),
                ]
    for mode in ("reflect", "replicate", "circular"):
        cases.append(
            Case(
                f"Conv2d padding_mode={mode} input",
                lambda m=mode: nn.Conv2d(6, 4, 3, padding=1, padding_mode=m),
                images,
                1,
                "input",
            )
        )
    return cases


def norms() -> list[Case]:
    cases = []
    for dims, batch, instance in (
        (1, nn.BatchNorm1d, nn.InstanceNorm1d),
        (2, nn.BatchNorm2d, nn.InstanceNorm2d),
        (3, nn.BatchNorm3d, nn.InstanceNorm3d),
    ):
        for kind in (batch, instance):
            for affine in (True, False):
                for tracks in (True, False):
                    cases.append(
                        Case(
                            f"{kind.__name__} affine={affine} tracks={tracks}",
                            lambda k=kind, a=affine, t=tracks: k(
                                6, affine=a, track_running_stats=t
                            ),
                            lambda d=dims: images(dims=d, size=4),
                            1,
                            gains=() if affine else ("0.weight", "0.bias"),
                        )
                    )
    for affine in (True, False):
        gains = () if affine else ("0.weight", "0.bias")
        cases += [
            Case(
                f"GroupNorm affine={affine}",
                lambda a=affine: nn.GroupNorm(3, 6, affine=a),
                images,
                1,
                gains=gains,
            ),
            Case(
                f"LayerNorm affine={affine}",
                lambda a=affine: nn.LayerNorm(6, elementwise_affine=a),
                tokens,
                -1,
                gains=gains,
            ),
            Case(
                f"LayerNorm over channels affine={affine}",
                lambda a=affine: nn.LayerNorm((6, 7, 7), elementwise_affine=a),
                images,
                -3,
                gains=gains,
            ),
            Case(
                f"RMSNorm affine={affine}",
                lambda a=affine: nn.RMSNorm(6, elementwise_affine=a),
                tokens,
                -1,
                gains=gains[:1],
                operation=Scale(),
            ),
        ]
    cases.append(
        Case(
            "LayerNorm bias=False",
            lambda: nn.LayerNorm(6, bias=False),
            tokens,
            -1,
            gains=("0.bias",),
        )
    )
    return cases


def linears() -> list[Case]:
    cases = []
    for bias in (True, False):
        gains = () if bias else ("0.bias",)
        for when in ("output", "input"):
            cases += [
                Case(
                    f"Linear bias={bias} {when}",
                    lambda b=bias: nn.Linear(6, 9, bias=b),
                    tokens,
                    -1,
                    when,
                    gains,
                ),
                Case(
                    f"Linear bias={bias} {when} LowRank",
                    lambda b=bias: nn.Linear(6, 9, bias=b),
                    tokens,
                    -1,
                    when,
                    operation=LowRank(2),
                ),
                Case(
                    f"Conv2d bias={bias} {when} LowRank",
                    lambda b=bias: nn.Conv2d(6, 9, 3, bias=b),
                    images,
                    1,
                    when,
                    operation=LowRank(2),
                ),
                Case(
                    f"ConvTranspose2d bias={bias} {when} LowRank",
                    lambda b=bias: nn.ConvTranspose2d(6, 9, 3, bias=b),
                    images,
                    1,
                    when,
                    operation=LowRank(2),
                ),
            ]
    ids = lambda: torch.randint(0, 11, (3, 5))  # noqa: E731
    cases += [
        Case("Embedding", lambda: nn.Embedding(11, 6), ids, -1),
        Case(
            "Embedding padding_idx",
            lambda: nn.Embedding(11, 6, padding_idx=3),
            lambda: torch.tensor([[3, 1], [3, 3]]),
            -1,
        ),
        Case("Embedding LowRank", lambda: nn.Embedding(11, 6), ids, -1, operation=LowRank(1)),
        Case("EmbeddingBag scale", lambda: nn.EmbeddingBag(11, 6), ids, -1, operation=Scale()),
    ]
    return cases


CASES = [*convolutions(), *norms(), *linears()]
OPERATIONS: list[Operation] = [
    Shift(),
    Scale(),
    Affine(),
    Gate(),
    Affine(activation="exp"),
    Affine(activation="softplus"),
]


def twin(module: nn.Module, x: Tensor, net: Conditioned, task: TaskRepresentation) -> Tensor:
    """The conditioned module computed directly, in float64."""
    (site,) = net.layout
    values = {name: v.double() for name, v in task[site.name].items()}
    module = copy.deepcopy(module).double()
    x = x.double() if x.is_floating_point() else x

    def modulated(features: Tensor) -> Tensor:
        at = features.movedim(site.axis, -1)
        if isinstance(site.operation, LowRank):
            full = site.operation.effective(values)
            return (at + at @ (full["left"] @ full["right"]).T).movedim(-1, site.axis)
        scale, shift = site.operation.scale_shift(values)  # type: ignore[attr-defined]
        out = torch.empty_like(at)
        for c in range(site.width):
            out[..., c] = at[..., c] if scale is None else scale[c] * at[..., c]
            if shift is not None:
                out[..., c] = out[..., c] + shift[c]
        return out.movedim(-1, site.axis)

    return module(modulated(x)) if site.when == "input" else modulated(module(x))


def made(
    case: Case, dtype: torch.dtype, operation: Operation | None = None
) -> tuple[Conditioned, Tensor]:
    network = random_norms(nn.Sequential(case.make())).to(dtype)
    x = case.given()
    x = x.to(dtype) if x.is_floating_point() else x
    net = condition(
        network,
        at="0",
        operation=case.operation if operation is None else operation,
        axis=case.axis,
        batch_axis=0,
        when=case.when,
        example=x,
        generator=Linear(4),
    )
    return net, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_module(case: Case, dtype: torch.dtype) -> None:
    net, x = made(case, dtype)
    for training in (False, True):
        net.train(training)
        before = copy.deepcopy(net.backbone.state_dict())
        task = some_task(net, dtype)
        plain, report = bake(net, task=task)

        assert report == {"0": "folded"}
        assert report.folded
        assert hooks(plain) == 0
        assert report.gained == tuple(k for k in plain.state_dict() if k not in before)
        if case.operation == Affine():
            assert set(report.gained) == set(case.gains)
        assert set(plain.state_dict()) == set(before) | set(report.gained)
        assert all(torch.equal(v, before[k]) for k, v in net.backbone.state_dict().items())
        assert all(m.training is training for m in plain.modules())
        assert all(p.dtype == dtype for p in plain.parameters())

        expected = twin(net.backbone[0], x, net, task)
        conditioned = copy.deepcopy(net)(x, task=task)
        out = plain(x)
        assert out.dtype == conditioned.dtype
        assert error(out, expected) <= LIMIT[dtype]
        assert error(out, conditioned) <= LIMIT[dtype]


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        c
        for c in CASES
        if c.name
        in (
            "Conv2d groups=2 bias=False output",
            "Linear bias=True input",
            "LayerNorm bias=False",
            "BatchNorm2d affine=False tracks=True",
            "Embedding",
        )
    ],
    ids=str,
)
def test_an_operation(case: Case, operation: Operation) -> None:
    net, x = made(case, torch.float64, operation)
    task = some_task(net, torch.float64)
    plain, report = bake(net.eval(), task=task)
    assert report.folded
    assert error(plain(x), twin(net.backbone[0], x, net, task)) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    net = condition(nn.Sequential(nn.Linear(64, 64)).to(dtype), at="0", generator=Linear(4))
    task = some_task(net) * 0.3
    x = torch.randn(8, 64).to(dtype)
    exact = twin(net.backbone[0], x, net, task)
    plain, _ = bake(net, task=task)
    assert plain[0].weight.dtype == dtype
    # Two roundings of the output against one of each weight.
    assert error(plain(x), exact) <= 1.5 * error(net(x, task=task), exact) + torch.finfo(dtype).eps


def test_what_would_overflow_stays() -> None:
    network = nn.Sequential(nn.Linear(4, 4)).half()
    net = condition(network, at="0", operation=Scale(), generator=Linear(4))
    task = torch.full((4,), 1e6)
    plain, report = bake(net, task=task)
    assert "overflow" in report["0"]
    x = 1e-4 * torch.randn(2, 4).half()
    assert torch.equal(plain(x), net(x, task=task))


def test_memory_format_and_grad_are_kept() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)
    network[0].weight.requires_grad_(False)
    net = condition(network, at="0", generator=Linear(4))
    plain, _ = bake(net, task=some_task(net))
    assert plain[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not plain[0].weight.requires_grad
    assert plain[0].bias.requires_grad
    assert plain[0].weight.is_leaf


def test_nothing_to_fold_changes_nothing() -> None:
    network = nn.Sequential(nn.LSTM(3, 4, bias=False), nn.Identity())
    net = condition(network, at="0", generator=Linear(4))
    plain, report = bake(net, condition=torch.randn(4))  # a new generator gives the identity
    assert report == {"0": "folded"}
    assert report.gained == ()
    assert hooks(plain) == 0


# --- where it is not exact -----------------------------------------------------------------------


class Scripted(nn.Linear):
    """A linear layer with an additional operation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def parametrised() -> nn.Module:
    return torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))


def spectral() -> nn.Module:
    return torch.nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))


def spectral_by_hooks() -> nn.Module:
    return torch.nn.utils.spectral_norm(nn.Linear(6, 6))


def pruned() -> nn.Module:
    layer = nn.Linear(6, 6)
    masking.random_unstructured(layer, "weight", 0.5)
    return layer


class Quantised(Tensor):
    """Represents tensor classes of quantisation and sharding."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return nn.Parameter(self.detach().clone())


def subclassed() -> nn.Module:
    layer = nn.Linear(6, 6)
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Quantised))
    return layer


STAYING = {
    "LSTM": (lambda: nn.LSTM(6, 6, batch_first=True), tokens, {}, "LSTM"),
    "GRU": (lambda: nn.GRU(6, 6, batch_first=True), tokens, {}, "GRU"),
    "attention": (lambda: Attend(), tokens, {"axis": -1}, "Attend"),
    "container": (
        lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU()),
        tokens,
        {"axis": -1},
        "Sequential",
    ),
    "activation": (lambda: nn.ReLU(), tokens, {"axis": -1}, "ReLU"),
    "declared": (lambda: FiLM(6, axis=-1), tokens, {}, "FiLM"),
    "padded input": (
        lambda: nn.Conv2d(6, 6, 3, padding=1),
        images,
        {"when": "input"},
        "zero pad",
    ),
    "padded same": (
        lambda: nn.Conv2d(6, 6, 3, padding="same"),
        images,
        {"when": "input"},
        "zero pad",
    ),
    "transposed input": (
        lambda: nn.ConvTranspose2d(6, 6, 3),
        images,
        {"when": "input"},
        "positions",
    ),
    "groups LowRank": (
        lambda: nn.Conv2d(6, 6, 3, groups=2),
        images,
        {"operation": LowRank(2)},
        "groups",
    ),
    "groups input LowRank": (
        lambda: nn.Conv2d(6, 6, 3, groups=2),
        images,
        {"operation": LowRank(2), "when": "input"},
        "groups",
    ),
    "transposed groups LowRank": (
        lambda: nn.ConvTranspose2d(6, 6, 3, groups=2),
        images,
        {"operation": LowRank(2)},
        "groups",
    ),
    "norm LowRank": (lambda: nn.LayerNorm(6), tokens, {"operation": LowRank(2)}, "matrix"),
    "RowColumn": (lambda: nn.Conv2d(6, 6, 3), images, {"operation": RowColumn()}, "RowColumn"),
    "BatchNorm input": (lambda: nn.BatchNorm2d(6), images, {"when": "input"}, "commute"),
    "LayerNorm input": (lambda: nn.LayerNorm(6), tokens, {"when": "input"}, "commute"),
    "weight_norm": (parametrised, tokens, {}, "parametrised"),
    "spectral_norm": (spectral, tokens, {}, "parametrised"),
    "spectral_norm by hooks": (spectral_by_hooks, tokens, {}, "computed"),
    "masked": (pruned, tokens, {}, "computed"),
    "own forward": (lambda: Scripted(6, 6), tokens, {}, "overrides forward"),
    "tensor subclass": (subclassed, tokens, {}, "Quantised"),
    "other axis": (lambda: nn.Linear(6, 6), tokens, {"axis": 1}, "axis 1"),
    "max_norm": (
        lambda: nn.Embedding(11, 6, max_norm=0.5),
        lambda: torch.randint(0, 11, (3, 5)),
        {},
        "max_norm",
    ),
}


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(x, x, x)


@pytest.mark.parametrize("name", STAYING)
@torch.no_grad()  # torch copies no weights that hooks have computed with gradients
def test_a_constant_layer(name: str) -> None:
    make, given, options, why = STAYING[name]
    x = given()
    with torch.enable_grad():
        network = nn.Sequential(make()).eval()
    net = condition(network, at="0", generator=Linear(4), example=x, **options)
    before = copy.deepcopy(network.state_dict())
    task = some_task(net)
    plain, report = bake(net, task=task)

    assert report["0"].startswith("constant: ")
    assert why in report["0"]
    assert not report.folded
    assert set(plain.state_dict()) == set(before) | set(report.gained)
    assert report.gained
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    expected, out = net(x, task=task), plain(x)
    first = (lambda y: y) if isinstance(out, Tensor) else (lambda y: y[0])
    assert type(out) is type(expected)
    assert torch.equal(first(out), first(expected))
    # The numbers are of the copy, and in its state dict.
    again = copy.deepcopy(plain)
    for key in report.gained:
        plain.state_dict()[key].zero_()
    assert torch.equal(first(again(x)), first(expected))
    plain.load_state_dict(again.state_dict())
    assert torch.equal(first(plain(x)), first(expected))
    assert again.double().state_dict()[report.gained[0]].dtype == torch.float64


def test_rms_norm_folds_its_scale_and_keeps_the_shift() -> None:
    net = condition(nn.Sequential(nn.RMSNorm(6)), at="0", generator=Linear(4))
    task, x = some_task(net), tokens()
    plain, report = bake(net, task=task)
    assert report["0"].startswith("constant: an RMSNorm") and "scale is folded" in report["0"]
    assert report.gained == ("0.film_beta",)
    assert error(plain(x), net(x, task=task)) <= 1e-5


def test_a_bag_keeps_the_shift() -> None:
    net = condition(nn.Sequential(nn.EmbeddingBag(11, 6)), at="0", generator=Linear(4))
    task, x = some_task(net), torch.randint(0, 11, (3, 5))
    plain, report = bake(net, task=task)
    assert "any number of rows" in report["0"]
    assert error(plain(x), net(x, task=task)) <= 1e-5


@dataclass(frozen=True)
class ClippedShift(Shift):
    """A subclass of ``Shift`` with another function."""

    def apply(
        self, x: Tensor, values: Mapping[str, Tensor], axis: int, batch_axis: int | None
    ) -> Tensor:
        return super().apply(x, values, axis, batch_axis).clamp(max=0.5)


def test_an_operation_that_applies_itself_stays() -> None:
    net = condition(
        nn.Sequential(nn.Linear(6, 6)), at="0", operation=ClippedShift(), generator=Linear(4)
    )
    task, x = some_task(net), tokens()
    plain, report = bake(net, task=task)
    assert "ClippedShift() is not a scale and a shift" in report["0"]
    assert torch.equal(plain(x), net.layout["0"].modulate(net.backbone(x), task["0"]))


def test_baked_twice() -> None:
    network, x = nn.Sequential(nn.ReLU()), tokens()
    net = condition(network, at="0", generator=Linear(4), axis=-1, example=x)
    first, second = some_task(net), some_task(net)
    once, _ = bake(net, task=first)
    again = condition(once, at="0", generator=Linear(4), axis=-1, example=x)
    twice, report = bake(again, task=second.flat)
    assert report.gained == ("0.film_gamma_", "0.film_beta_")
    assert torch.equal(twice(x), again(x, task=second.flat))


@pytest.mark.parametrize("ndim", [3, 4])
def test_positions_stay(ndim: int) -> None:
    module = nn.Conv1d(3, 6, 1) if ndim == 3 else nn.Conv2d(3, 6, 1)
    net = condition(nn.Sequential(module), at="0", generator=Linear(4))
    x = images(channels=3, dims=ndim - 2, size=5)
    task = torch.randn(1, net.layout.size, *(5,) * (ndim - 2))
    plain, report = bake(net, task=task)
    assert "positions" in report["0"]
    assert torch.equal(plain(x), net(x, task=task.expand(3, *task.shape[1:])))
    assert torch.equal(plain(x[:1]), net(x[:1], task=task))
    _, report = bake(net, task=task[..., :1] if ndim == 3 else task[..., :1, :1])
    assert report.folded


def test_no_move_across_a_nonlinearity() -> None:
    network = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    net = condition(network, at="1", generator=Linear(4), axis=-1, example=tokens())
    task = some_task(net)
    plain, report = bake(net, task=task)
    assert report["1"].startswith("constant")
    assert torch.equal(plain[0].weight, network[0].weight)
    assert torch.equal(plain[2].weight, network[2].weight)


# --- other classes: rules tried on a copy ---------------------------------------------------------

#: What each folds to, with a shift and a scale; empty where all of it folds.
TRIED = {
    "LayerNorm2d of timm": "",
    "LayerNorm2d of timm without weights": "",
    "LayerNorm of ConvNeXt, first": "",
    "LayerNorm of ConvNeXt, last": "",
    "RMSNorm": "a RMSNorm has no bias that could absorb a shift; its scale is folded",
    "RMSNorm, 1 + weight": "a RMSNorm has no bias that could absorb a shift; its scale is folded",
    "RMSNorm2d": "a RMSNorm2d has no bias that could absorb a shift; its scale is folded",
    "BatchNormLast": "",
    "BatchNormAct": "this BatchNormAct overrides forward",
    "GroupNorm1": "",
    "SwitchNorm": "",
    "ResponseNorm": "a ResponseNorm has no weights of a known form at its output",
    "FrozenBatchNorm": "a FrozenBatchNorm has no weights of a known form at its output",
    "LayerScale, first": "a LayerScale has no bias that could absorb a shift; its scale is folded",
    "Linear2d": "",
    "Linear2d without bias": "",
    "SamePadding": "",
    "ConvLast": "",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", TRIED)
def test_a_class_of_no_known_kind(name: str, dtype: torch.dtype) -> None:
    network = random_norms(nn.Sequential({**FIRST, **LAST}[name](6))).to(dtype)
    given = 4 if any(word in name for word in ("Linear2d", "ConvLast", "SamePadding")) else 6
    x = torch.randn((3, given, 7, 7) if name in FIRST else (3, 5, given), dtype=dtype)
    if name == "ResponseNorm":
        x = torch.randn(3, 5, 5, 6, dtype=dtype)
    before = copy.deepcopy(network.state_dict())
    for operation, training in itertools.product((Affine(), Scale()), (False, True)):
        net = condition(network.train(training), at="0", operation=operation, generator=Linear(4))
        net.train(training)
        task, left = some_task(net, dtype), TRIED[name]
        if name == "RMSNorm, 1 + weight" and dtype == torch.float64:
            left = "a RMSNorm computes in lower precision than that of its parameters"
        elif operation == Scale() and "its scale is folded" in left:
            left = ""
        plain, report = bake(net, task=task)
        assert report["0"] == (f"constant: {left}" if left else "folded")
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
        assert error(plain(x), copy.deepcopy(net)(x, task=task)) <= LIMIT[dtype]
        net.remove()


@pytest.mark.parametrize("when", ["output", "input"])
def test_padding_in_a_forward_is_detected(when: str) -> None:
    """A shift before zero padding in the forward is not folded; a scale is."""
    x = torch.randn(3, 6, 7, 7)
    for operation, folds in ((Affine(), when == "output"), (Scale(), True)):
        net = condition(
            nn.Sequential(SamePadding(6, 4, 7)),
            at="0",
            when=when,
            operation=operation,
            generator=Linear(4),
        )
        task = some_task(net)
        plain, report = bake(net, task=task)
        assert (report["0"] == "folded") == folds
        assert error(plain(x), net(x, task=task)) <= 1e-5


class ClampedWeight(RMSNorm2d):
    """Looks like a norm with a weight that scales, but is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.gain.sigmoid()


def test_a_weight_that_does_not_scale_is_not_changed() -> None:
    net = condition(nn.Sequential(ClampedWeight(6)), at="0", generator=Linear(4))
    task, x = some_task(net), images()
    plain, report = bake(net, task=task)
    assert report["0"].startswith("constant: a ClampedWeight has no weights")
    assert torch.equal(plain[0].gain, net.backbone[0].gain)
    assert torch.equal(plain(x), net(x, task=task))


# --- shared weights and modules ------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids))


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.inner = nn.Sequential(nn.Linear(6, 6))

    def forward(self, ids: Tensor) -> Tensor:
        return self.inner(self.embed(ids)) @ self.embed.weight.to(self.inner[0].weight.dtype).T


class Bypassed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.first.forward(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = self.second = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        assert self.first.weight.dtype == x.dtype  # harmless: no value is read
        return self.norm(self.second(self.norm(self.first(x)).relu()))


def test_tied_weights_stay_and_a_bias_beside_them_folds() -> None:
    ids = torch.randint(0, 11, (3, 5))
    net = condition(Tied(), at="embed", generator=Linear(4))
    task = some_task(net)
    plain, report = bake(net, task=task)
    assert "shared" in report["embed"]
    assert plain.embed.weight is plain.head.weight
    assert torch.equal(plain(ids), net(ids, task=task))

    net = condition(Tied(), at="head", operation=Shift(), generator=Linear(4))
    task = some_task(net)
    plain, report = bake(net, task=task)
    assert report == {"head": "folded"}
    assert report.gained == ("head.bias",)
    assert error(plain(ids), net(ids, task=task)) <= 1e-5


def test_weights_that_code_reads_stay() -> None:
    ids = torch.randint(0, 11, (3, 5))
    net = condition(Reads(), at=["embed", "inner.0"], generator=Linear(4))
    task = some_task(net)
    plain, report = bake(net, task=task)
    assert report["embed"] == "constant: Reads.forward uses its weight directly"
    assert report["inner.0"] == "folded"
    assert error(plain(ids), net(ids, task=task)) <= 1e-5


def test_a_forward_that_is_called_itself_stays() -> None:
    net = condition(Bypassed(), at="first", generator=Linear(4))
    task, x = some_task(net), tokens()
    plain, report = bake(net, task=task)
    assert report["first"] == "constant: Bypassed.forward uses its forward directly"
    assert torch.equal(plain(x), net(x, task=task))


def test_a_module_called_twice_under_two_names_folds() -> None:
    net = condition(Twice(), at=["second", "norm"], generator=Linear(4))
    task, x = some_task(net), tokens()
    plain, report = bake(net, task=task)
    assert report == {"first": "folded", "norm": "folded"}
    assert plain.first is plain.second
    assert error(plain(x), net(x, task=task)) <= 1e-5


# --- other hooks ----------------------------------------------------------------------------------


class Double:
    """A hook of other code."""

    def output(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output.sin() * 2

    def input(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].sin() * 2,)


@pytest.mark.parametrize("theirs", ["output", "input"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("when", ["output", "input"])
def test_hooks_of_others_are_kept_in_their_order(when: str, first: bool, theirs: str) -> None:
    network = nn.Sequential(nn.Linear(6, 6))

    def register() -> None:
        hook = Double()
        if theirs == "output":
            network[0].register_forward_hook(hook.output)
        else:
            network[0].register_forward_pre_hook(hook.input)

    if first:
        register()
    net = condition(network, at="0", when=when, generator=Linear(4))
    if not first:
        register()
    task, x = some_task(net), tokens()
    plain, report = bake(net, task=task)
    between = (when, theirs, first) in {
        ("output", "output", True),
        ("input", "input", False),
        ("input", "output", True),
        ("input", "output", False),
    }
    assert report["0"].startswith("constant: other hooks") == between
    assert hooks(plain) == 1 + between
    assert error(plain(x), net(x, task=task)) <= 1e-5
    assert hooks(network) == 2


def test_a_network_conditioned_twice_is_baked_from_the_outside() -> None:
    network, x, z = nn.Sequential(nn.Linear(6, 6), nn.ReLU()), tokens(), torch.randn(4)
    inner = condition(network, at="0", generator=Linear(4))
    nn.init.normal_(inner.generator.head.weight)
    outer = condition(inner, at="backbone.0", generator=Linear(4))
    task = some_task(outer)
    plain, report = bake(outer, task=task)
    assert type(plain) is Conditioned
    with outer.using(task=task):
        expected = inner(x, condition=z)
    assert "other hooks" in report["backbone.0"]
    assert torch.equal(plain(x, condition=z), expected)


# --- errors --------------------------------------------------------------------------------------


def small() -> Conditioned:
    return condition(nn.Sequential(nn.Linear(6, 6)), at="0", generator=Linear(4))


def test_errors() -> None:
    net = small()
    with pytest.raises(CallError, match="not both"):
        bake(net, condition=torch.randn(4), task=net.layout.start())
    with pytest.raises(CallError, match="condition"):
        bake(net)
    with pytest.raises(ShapeError, match="select one row"):
        bake(net, condition=torch.randn(3, 4))
    with pytest.raises(ShapeError, match="select one row"):
        bake(net, task=TaskRepresentation.identity(net.layout, 2))
    with pytest.raises(ShapeError):
        bake(net, task=torch.zeros(3))
    other = condition(nn.Sequential(nn.Linear(6, 5)), at="0", generator=Linear(4))
    with pytest.raises(LayoutError, match="other sites"):
        bake(net, task=TaskRepresentation.identity(other.layout))
    with pytest.raises(KIND):
        bake(net.backbone, task=torch.zeros(12))  # type: ignore[arg-type]
    with pytest.raises(KIND):
        bake(net, task=[0.0])  # type: ignore[arg-type]
    with pytest.raises(KIND):
        bake(net, task=torch.zeros(12), prune=1)  # type: ignore[arg-type]
    local = condition(nn.Sequential(nn.Conv2d(3, 6, 1)), at="0", generator=SqueezeExcite(2))
    with pytest.raises(CallError, match="features of each"):
        bake(local, condition=torch.randn(4))
    net.remove()
    with pytest.raises(CallError, match="removed"):
        bake(net, condition=torch.randn(4))


def test_a_backbone_that_cannot_be_copied() -> None:
    network = nn.Sequential(nn.Linear(6, 6))
    network.lock = threading.Lock()  # type: ignore[assignment]
    net = condition(network, at="0", generator=Linear(4))
    with pytest.raises(ArgumentTypeError, match="copied"):
        bake(net, condition=torch.randn(4))


def test_a_forward_that_a_copy_would_share() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(6, 6)))
    inner, before = network[0], network[0].forward
    inner.forward = lambda x: before(x)  # type: ignore[method-assign]
    net = condition(network, at="0.0", generator=Linear(4))
    with pytest.raises(ArgumentTypeError, match="'0' was replaced"):
        bake(net, condition=torch.randn(4))


def test_meta_weights_stay() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(6, 6))
    net = condition(network, at="0", generator=Linear(4))
    task = some_task(net)
    plain, report = bake(net, task=task)
    assert "meta" in report["0"]
    assert torch.equal(plain.state_dict()["0.film_gamma"], task["0"]["gamma"])


def test_condition_row_and_learned() -> None:
    net, x = small(), tokens()
    nn.init.normal_(net.generator.head.weight)
    z = torch.randn(1, 4)
    for given in (z, z[0]):
        plain, report = bake(net, condition=given)
        assert report.folded
        assert error(plain(x), net(x, condition=z[0])) <= 1e-5
    learned = condition(nn.Sequential(nn.Linear(6, 6)), at="0", generator=Learned())
    assert isinstance(bake(learned), Baked)  # takes no condition
    assert learned(x).requires_grad


def test_the_original_still_works_and_is_removed_by_itself() -> None:
    net, x = small(), tokens()
    task = some_task(net)
    before, plain_before = net(x, task=task), net.backbone(x)
    plain, _ = bake(net, task=task)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert torch.equal(net(x, task=task), before)
    assert torch.equal(net.remove()(x), plain_before)


# --- pruning -------------------------------------------------------------------------------------


def dead_task(net: Conditioned, sites: dict[str, list[int]]) -> TaskRepresentation:
    named = {
        s: {n: v.clone() for n, v in some_task(net, torch.float64)[s].items()}
        for s in net.layout.names
    }
    for site, features in sites.items():
        named[site]["gamma"][features] = -1.0
        if "beta" in named[site]:
            named[site]["beta"][features] = 0.0
    return TaskRepresentation.from_named(net.layout, named)


@pytest.mark.parametrize("training", [False, True])
def test_pruned_chain(training: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
    )
    network = random_norms(network).double().train(training)
    net = condition(network, at=["1", "4"], generator=Linear(4))
    task, x = dead_task(net, {"1": [0, 3, 7], "4": [2]}), images(channels=3, size=8).double()
    full, _ = bake(net, task=task)
    plain, report = bake(net, task=task, prune=True)
    assert report.folded
    assert report.pruned == {"1": "3 of 8 removed", "4": "1 of 6 removed"}
    assert plain[0].weight.shape == (5, 3, 3, 3) and plain[0].out_channels == 5
    assert plain[1].num_features == 5 and plain[1].running_mean.shape == (5,)
    assert plain[4].weight.shape == (5, 5, 3, 3) and plain[4].in_channels == 5
    assert plain[6].weight.shape == (4, 5, 3, 3)
    assert list(plain.state_dict()) == list(full.state_dict())
    expected = copy.deepcopy(net)(x, task=task)
    assert error(plain(x), expected) <= 1e-12
    assert "3 of 8 removed" in str(report)


def test_pruned_linear_chain() -> None:
    network = nn.Sequential(
        nn.Linear(6, 9), nn.Tanh(), nn.Dropout(0.0), nn.Linear(9, 5, bias=False)
    )
    net = condition(network.double(), at="0", generator=Linear(4))
    task, x = dead_task(net, {"0": [1, 2]}), tokens().double()
    plain, report = bake(net, task=task, prune=True)
    assert report.pruned == {"0": "2 of 9 removed"}
    assert (plain[0].out_features, plain[3].in_features) == (7, 7)
    assert error(plain(x), net(x, task=task)) <= 1e-12


class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


def shared_pair() -> nn.Module:
    pair = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return nn.Sequential(pair, pair)


UNPRUNED = {
    "sigmoid": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 4, 1)),
        "0",
        "Sigmoid",
    ),
    "norm after": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)),
        "0",
        "BatchNorm2d",
    ),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1)),
        "1",
        "GroupNorm",
    ),
    "groups": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, groups=2)),
        "0",
        "groups",
    ),
    "other axes": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Linear(7, 4)),
        "0",
        "other axes",
    ),
    "last": (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), "0", "not in the same"),
    "free code": (Skips, "a", "nn.Sequential"),
    "used twice": (shared_pair, "0.0", "elsewhere"),
    "pool of linear": (
        lambda: nn.Sequential(nn.Linear(7, 8), nn.MaxPool1d(1), nn.Linear(8, 4)),
        "0",
        "MaxPool1d",
    ),
}


@pytest.mark.parametrize("name", UNPRUNED)
def test_what_is_not_pruned(name: str) -> None:
    make, at, why = UNPRUNED[name]
    x = images(channels=3).double()
    net = condition(make().double().eval(), at=at, generator=Linear(4))
    task = dead_task(net, {at: [1, 2]})
    if name == "pool of linear":
        x = x[:, :, 0]
    plain, report = bake(net, task=task, prune=True)
    assert report.pruned[at].startswith("2 of 8 kept: ") and why in report.pruned[at]
    assert error(plain(x), net(x, task=task)) <= 1e-12


def test_all_dead_keeps_the_layer_and_a_hook_keeps_all() -> None:
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    net = condition(network, at=["0", "1"], generator=Linear(4), axis=-1, example=tokens())
    task = dead_task(net, {"0": list(range(8))})
    _, report = bake(net, task=task, prune=True)
    assert "hooks" in report.pruned["0"]
    net = condition(
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), at="0", generator=Linear(4)
    )
    _, report = bake(net, task=dead_task(net, {"0": list(range(8))}), prune=True)
    assert "at least one" in report.pruned["0"]
    plain, report = bake(net, task=dead_task(net, {"0": [1]}))
    assert report.pruned == {} and plain[0].out_features == 8


# --- whole networks ------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width: int, stride: int, into: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Identity()
        if stride != 1 or into != width:
            self.down = nn.Sequential(
                nn.Conv2d(into, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.down(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.stages = nn.Sequential(Block(16, 1, 16), Block(32, 2, 16), Block(64, 2, 32))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


@pytest.mark.parametrize("training", [False, True])
def test_residual_network(training: bool) -> None:
    network = random_norms(ResNet()).double().train(training)
    net = condition(network, at=["**.bn*", "stem.1", "**.conv*"], generator=Linear(8))
    task, x = some_task(net, torch.float64) * 0.3, images(channels=3, size=12).double()
    plain, report = bake(net, task=task)
    assert type(plain) is ResNet and report.folded and hooks(plain) == 0
    assert set(report.gained) == {k for k in plain.state_dict() if k not in network.state_dict()}
    assert {k.rpartition(".")[2] for k in report.gained} == {"bias"}
    conditioned = copy.deepcopy(net)
    assert error(plain(x), conditioned(x, task=task)) <= 1e-12
    statistics = dict(conditioned.backbone.named_buffers())
    assert all(torch.allclose(b, statistics[n]) for n, b in plain.named_buffers())


def check_whole(net: Conditioned, run: Callable[[nn.Module], Tensor]) -> Baked:
    """Baked and conditioned networks agree in both precisions; the backbone is unchanged."""
    net.eval()
    flat = torch.randn(net.layout.size) * 0.2
    for dtype, limit in LIMIT.items():
        net.to(dtype)
        before = copy.deepcopy(net.backbone.state_dict())
        baked = bake(net, task=flat.to(dtype))
        with torch.no_grad(), net.using(task=flat.to(dtype)):
            expected = run(net.backbone)
        with torch.no_grad():
            out, plain = run(baked.module), run(net.backbone)
        assert error(out, expected) <= limit
        assert error(plain, expected) > 1e-3  # the modulation does something
        assert type(baked.module) is type(net.backbone)
        assert set(baked.module.state_dict()) == set(before) | set(baked.report.gained)
        assert all(torch.equal(v, before[k]) for k, v in net.backbone.state_dict().items())
    return baked


def test_bert() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
    )
    network = transformers.BertModel(config)
    ids = torch.randint(0, 50, (2, 7))
    at = ["**.LayerNorm", "**.query", "**.dense", "**.word_embeddings"]
    net = condition(network, at=at, generator=Linear(4), example={"input_ids": ids})
    _, report = check_whole(net, lambda m: m(input_ids=ids).last_hidden_state)
    kept = [name for name, what in report.items() if what != "folded"]
    assert kept == []
    assert report.gained == ()


def test_gpt2() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    network = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(0, 50, (2, 7))
    net = condition(
        network,
        at={"**.ln_*": Affine(), "**.c_*": Affine(), "**.wte": Affine(), "lm_head": Shift()},
        axis=-1,
        generator=Linear(4),
        example={"input_ids": ids},
    )
    plain, report = check_whole(net, lambda m: m(input_ids=ids).logits)
    assert {n: w for n, w in report.items() if w != "folded"} == {
        "transformer.wte": "constant: its weight is shared with another module"
    }
    assert set(report.gained) == {
        "transformer.wte.film_gamma",
        "transformer.wte.film_beta",
        "lm_head.bias",
    }
    assert plain.lm_head.weight is plain.transformer.wte.weight


def test_vision_transformer() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=16,
        patch_size=8,
    )
    network = transformers.ViTModel(config, add_pooling_layer=False)
    x = images(channels=3, size=16)
    net = condition(
        network,
        at=[nn.LayerNorm, nn.Linear, nn.Conv2d],
        generator=Linear(4),
        example={"pixel_values": x},
    )
    _, report = check_whole(net, lambda m: m(pixel_values=x.to(m.dtype)).last_hidden_state)
    assert report.folded


def test_torch_transformer() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    network = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    net = condition(network, at=["layers.*.norm*", "layers.*.linear*"], generator=Linear(4))
    x = torch.randn(2, 5, 32)
    _, report = check_whole(net, lambda m: m(x.to(next(m.parameters()).dtype)))
    assert report.folded  # the fused path, which sees no hooks now, reads the folded weights


def test_diffusion_unet() -> None:
    diffusers = pytest.importorskip("diffusers")
    network = diffusers.UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    x = images(channels=3, size=16)
    net = condition(network, at=[nn.GroupNorm, nn.Conv2d], generator=Linear(4))
    _, report = check_whole(net, lambda m: m(x.to(m.dtype), torch.tensor(3)).sample)
    assert {name: what for name, what in report.items() if what != "folded"} == {}


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.lstm = nn.LSTM(16, 24, 2, bidirectional=True)
        self.out = nn.Linear(48, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.lstm(self.embed(ids))[0])


def test_lstm() -> None:
    net = condition(Reader(), at=["embed", "lstm", "out"], generator=Linear(4))
    ids = torch.randint(0, 20, (7, 3))
    _, report = check_whole(net, lambda m: m(ids))
    assert report["embed"] == report["out"] == "folded"
    assert report["lstm"].startswith("constant: a LSTM") or "LSTM" in report["lstm"]
    assert report.gained == ("lstm.film_gamma", "lstm.film_beta")


@pytest.mark.traced
@pytest.mark.parametrize("when", ["output", "input"])
def test_a_constant_layer_is_compiled_and_exported(when: str) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)
    ).eval()
    net = condition(
        network, at=["1", "2"], when=when, generator=Linear(4), example=images(channels=3)
    )
    task, x = some_task(net), images(channels=3)
    plain, report = bake(net, task=task)
    assert not report.folded
    exported = torch.export.export(plain, (x,)).module()
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    for run in (exported, compiled):
        assert error(run(x), net(x, task=task)) <= 1e-5
