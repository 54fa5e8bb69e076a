"""The kernels for a GPU in Triton's interpreter, against float64; run by `test_triton`.

The interpreter truncates bfloat16 where a GPU rounds; hence a tolerance of one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import jvp, vmap

import featurewise as fw
from featurewise.core import kernels
from featurewise.core.kernels.triton import code, routes, views
from featurewise.layers import (
    ConditionalBatchNorm,
    ConditionalGroupNorm,
    ConditionalInstanceNorm,
    ConditionalLayerNorm,
    ConditionalRMSNorm,
)

FILM = ["film_forward", "film_backward"]
NORM = ["norm_forward", "norm_backward"]
LARGE = ["moments", "film_forward", "film_backward", "film_backward"]
LAYOUTS: dict[str, tuple[tuple[int, ...], int]] = {
    "image": ((2, 6, 5, 7), 1),
    "channels last": ((2, 6, 4, 5), 1),
    "tokens": ((2, 9, 18), 2),
    "vectors": ((5, 36), 1),
    "audio": ((2, 6, 100), 1),
}
EPS = 1e-5
GROUPS = 3


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the kernels that ran, with Triton chosen."""
    seen: list[str] = []
    launch = routes._launch

    def spy(kernel: Any, *given: Any, **options: Any) -> None:
        seen.append(kernel.fn.__name__)
        launch(kernel, *given, **options)

    monkeypatch.setattr(routes, "_launch", spy)
    with kernels.use("triton"):
        yield seen


def features(layout: str, dtype: torch.dtype = torch.float32) -> Tensor:
    x = (2 * torch.randn(LAYOUTS[layout][0]) + 1).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if layout == "channels last" else x


def parameters(x: Tensor, axis: int, form: str) -> list[Tensor]:
    """γ and β: "shared", one per "sample", or one per "position"."""
    rest = [size for place, size in enumerate(x.shape) if place not in (0, axis)]
    shapes = {"shared": [], "sample": [len(x)], "position": [len(x)]}
    size = [*shapes[form], x.shape[axis], *(rest if form == "position" else [])]
    return [torch.randn(size) for _ in "gb"]


def ours(norm: str, x: Tensor, gamma: Tensor, beta: Tensor, axis: int, activation: str) -> Tensor:
    if norm == "none":
        return kernels.modulate(x, gamma, beta, axis, 0, activation)
    if norm == "group":
        return kernels.group_norm_film(x, gamma, beta, GROUPS, EPS, activation)
    run = {"layer": kernels.layer_norm_film, "rms": kernels.rms_norm_film}[norm]
    return run(x, gamma, beta, axis, EPS, activation)


def plain(norm: str, x: Tensor, gamma: Tensor, beta: Tensor, axis: int, activation: str) -> Tensor:
    """By the definitions, in the dtype of x."""
    groups = GROUPS if norm == "group" else 1
    last = torch.movedim(x, axis, -1)
    grouped = last.unflatten(-1, (groups, -1))
    over = [*range(1, last.ndim - 1), last.ndim] if norm == "group" else [last.ndim]
    if norm in ("layer", "group"):
        grouped = grouped - grouped.mean(over, keepdim=True)
    if norm != "none":
        grouped = grouped / (grouped.square().mean(over, keepdim=True) + EPS).sqrt()
    normed = torch.movedim(grouped.flatten(-2), -1, axis)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    if gamma.ndim > 1:
        shape[0] = len(x)

    def lifted(values: Tensor) -> Tensor:
        return torch.movedim(values, 1, axis) if values.ndim > 2 else values.reshape(shape)

    z = lifted(gamma) * normed + lifted(beta)
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "identity": lambda z: z,
        "relu": lambda z: z.clamp(min=0),
        "silu": lambda z: z / (1 + torch.exp(-z)),
        "gelu": lambda z: z * 0.5 * (1 + torch.erf(z / 2**0.5)),
    }
    return functions[activation](z)


def compare(norm: str, given: list[Tensor], axis: int, activation: str) -> None:
    """The result and all gradients against float64, and the memory."""
    mine = [each.detach().clone().requires_grad_() for each in given]
    exact = [each.detach().double().requires_grad_() for each in given]
    y, wanted = (run(norm, *each, axis, activation) for run, each in ((ours, mine), (plain, exact)))
    assert y.dtype == given[0].dtype and y.shape == given[0].shape
    assert y.stride() == (given[0] + 0).stride()
    upstream = torch.randn_like(wanted).to(y.dtype)
    y.backward(upstream)
    wanted.backward(upstream.double())
    unit = torch.finfo(y.dtype).eps if y.dtype != torch.float32 else 3e-6
    near(y, wanted, unit)
    near(mine[0].grad, exact[0].grad, unit)
    for one, other in zip(mine[1:], exact[1:], strict=True):
        near(one.grad, other.grad, 3e-6)


def near(
    found: Tensor | None, wanted: Tensor | None, unit: float, of_largest: float = 5e-6
) -> None:
    """Off by a unit of each number, or by what float32 is off of the largest."""
    assert found is not None and wanted is not None
    size = float(wanted.detach().abs().max()) if wanted.numel() else 0.0
    torch.testing.assert_close(
        found.double(), wanted, rtol=unit, atol=min(unit, of_largest) * size + 1e-9
    )


@pytest.mark.parametrize(
    ("norm", "layout"),
    [
        (norm, layout)
        for norm in ("none", "layer", "rms", "group")
        for layout in LAYOUTS
        if norm != "group" or layout != "tokens"  # its features are on axis 1
    ],
)
def test_every_kernel_is_the_formula(launched: list[str], norm: str, layout: str) -> None:
    """In all shapes of parameters, and really by a kernel."""
    torch.manual_seed(0)
    axis = LAYOUTS[layout][1]
    kernel = {"none": FILM, "group": LARGE if layout == "channels last" else NORM}.get(norm, NORM)
    for form in ("shared", "sample", *(["position"] if norm == "none" else [])):
        x = features(layout)
        launched.clear()
        compare(norm, [x, *parameters(x, axis, form)], axis, "silu")
        assert launched == kernel


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
def test_activations(norm: str, activation: str) -> None:
    torch.manual_seed(0)
    x = features("vectors")
    compare(norm, [x, *parameters(x, 1, "sample")], 1, activation)


@pytest.mark.parametrize("norm", ["none", "layer", "rms", "group"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_rounded_once(norm: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = features("image", dtype)
    compare(norm, [x, *parameters(x, 1, "sample")], 1, "silu")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    axis=st.integers(1, 3),
    order=st.permutations(range(4)),
    norm=st.sampled_from(["none", "layer", "rms", "group"]),
    form=st.sampled_from(["shared", "sample", "position"]),
    activation=st.sampled_from([*kernels.ACTIVATIONS]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    tile=st.sampled_from([8, 16, 4096]),
    least=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_any_shape_in_any_memory(
    sizes: list[int],
    axis: int,
    order: list[int],
    norm: str,
    form: str,
    activation: str,
    dtype: torch.dtype,
    tile: int,
    least: int,
    seed: int,
) -> None:
    """With tiles so small that they have edges, and sums are split."""
    torch.manual_seed(seed)
    axis = 1 if norm == "group" else 1 + (axis - 1) % (len(sizes) - 1)
    sizes[axis] *= GROUPS if norm == "group" else 1
    order = [place for place in order if place < len(sizes)]
    x = torch.randn([sizes[place] for place in order])
    x = x.permute([order.index(place) for place in range(len(sizes))])
    given = [x.to(dtype), *parameters(x, axis, form if norm == "none" else "sample")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (routes, "TILE"),
            (routes, "SUM_TILE"),
            (routes, "NARROW"),
            (views, "WIDE"),
        ):
            patch.setattr(owner, name, tile)
        patch.setattr(views, "LARGEST_GROUP", 4 * tile)
        patch.setattr(views, "SIDE_BY_SIDE", 2)
        patch.setattr(views, "STEPS", least)
        with torch.no_grad():
            y = ours(norm, *given, axis, activation)
            wide = [each.double() for each in given]
            unit = 2 * torch.finfo(dtype).eps if dtype != torch.float32 else 1e-5
            # Where no kernel takes the features, the norm is rounded before FiLM.
            of_largest = 5e-6 if norm == "none" else unit
            near(y, plain(norm, *wide, axis, activation), unit, of_largest)
        if norm == "none":
            compare(norm, given, axis, activation)


@pytest.mark.parametrize("norm", ["none", "layer", "group"])
@pytest.mark.parametrize("layout", ["image", "channels last"])
def test_sums_in_parts(monkeypatch: pytest.MonkeyPatch, norm: str, layout: str) -> None:
    """Several programs for each sum; bit-identical each time."""
    for owner, name, value in (
        (routes, "TILE", 32),
        (routes, "SUM_TILE", 8),
        (views, "WIDE", 4),
        (routes, "WIDE", 4),
        (views, "STEPS", 2),
        (views, "SIDE_BY_SIDE", 4),
        (views, "LARGEST_GROUP", 16),
    ):
        monkeypatch.setattr(owner, name, value)
    torch.manual_seed(0)
    x = features(layout)
    given = [x, *parameters(x, 1, "sample")]
    compare(norm, given, 1, "gelu")
    leaves = [each.requires_grad_() for each in given]
    runs = [
        torch.autograd.grad(ours(norm, *leaves, 1, "silu").square().sum(), leaves) for _ in "ab"
    ]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


def test_statistics_far_from_zero() -> None:
    """A mean of a thousand standard deviations, in one tile and in parts."""
    torch.manual_seed(0)
    x = 1000 + torch.randn(2, 6, 100)
    gamma, beta = parameters(x, 1, "sample")
    exact = [each.double() for each in (x, gamma, beta)]
    wanted = plain("group", *exact, 1, "identity")
    whole = ours("group", x, gamma, beta, 1, "identity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "LARGEST_GROUP", 16)
        patch.setattr(routes, "SUM_TILE", 32)
        parts = ours("group", x, gamma, beta, 1, "identity")
    for found in (whole, parts):
        assert float((found.double() - wanted).norm() / wanted.norm()) < 1e-4


@pytest.mark.parametrize("norm", ["none", "layer", "group"])
@pytest.mark.parametrize("needs", range(1, 8))
def test_any_need_of_gradients(norm: str, needs: int) -> None:
    torch.manual_seed(0)
    x = features("channels last")
    given = [x, *parameters(x, 1, "sample")]
    exact = [each.double() for each in given]
    for place in range(3):
        given[place].requires_grad_(bool(needs & (1 << place)))
        exact[place].requires_grad_(bool(needs & (1 << place)))
    upstream = torch.randn(x.shape)
    ours(norm, *given, 1, "identity").backward(upstream)
    plain(norm, *exact, 1, "identity").backward(upstream.double())
    for mine, wanted in zip(given, exact, strict=True):
        assert (mine.grad is None) == (wanted.grad is None)
        if mine.grad is not None:
            near(mine.grad, wanted.grad, 3e-6)


def test_features_are_kept_only_where_they_are_needed() -> None:
    x = features("tokens").requires_grad_()
    gamma, beta = parameters(x, 2, "sample")
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda each: kept.append(each.numel()) or each, lambda each: each
    ):
        kernels.modulate(x, gamma, beta, 2, 0)
    assert x.numel() not in kept and kept


@pytest.mark.parametrize("norm", ["none", "layer", "rms", "group"])
def test_second_derivatives(norm: str) -> None:
    """Also where γ was made of the features."""
    torch.manual_seed(0)
    layout, axis = ("image", 1) if norm == "group" else ("tokens", 2)
    found = []
    given = [features(layout), *parameters(features(layout), axis, "sample")]
    for run, dtype in ((ours, torch.float32), (plain, torch.float64)):
        x, gamma, beta = leaves = [each.detach().to(dtype).requires_grad_() for each in given]
        pooled = torch.movedim(x, axis, -1).flatten(1, -2).mean(1)
        y = run(norm, x, gamma + pooled, beta, axis, "silu")
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), leaves)
        found.append([*first, *second])
    for mine, wanted in zip(*found, strict=True):
        off = ((mine.double() - wanted).norm() / wanted.norm()).detach()
        assert float(off) < 2e-5


def test_many_gradients_at_once(launched: list[str]) -> None:
    x = features("tokens")
    leaves = [each.requires_grad_() for each in (x, *parameters(x, 2, "sample"))]
    y = kernels.modulate(*leaves, 2, 0, "silu")
    several = torch.randn(2, *x.shape)
    found = torch.autograd.grad(y, leaves, several, is_grads_batched=True, retain_graph=True)
    for row in range(2):
        alone = torch.autograd.grad(y, leaves, several[row], retain_graph=True)
        for each, wanted in zip(found, alone, strict=True):
            torch.testing.assert_close(each[row], wanted, rtol=1e-5, atol=1e-5)
    assert launched == ["film_forward", "film_backward", "film_backward"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of torch's own group norm
@pytest.mark.parametrize("norm", ["none", "layer", "rms", "group"])
def test_transforms_modes_and_subclasses_take_the_formula(launched: list[str], norm: str) -> None:
    torch.manual_seed(0)
    x = features("image")
    gamma, beta = parameters(x, 1, "sample")

    class Own(Tensor):
        """A tensor of another library."""

    def run(x: Tensor) -> Tensor:
        return ours(norm, x, gamma, beta, 1, "silu")

    def forward_mode(x: Tensor) -> Tensor:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            return torch.autograd.forward_ad.unpack_dual(run(dual)).primal

    wanted = plain(norm, x.double(), gamma.double(), beta.double(), 1, "silu")
    for make in (
        lambda: vmap(run)(x[None])[0],
        lambda: jvp(run, (x,), (x,))[0],
        lambda: torch.func.vjp(run, x)[0],
        lambda: torch.compile(run, backend="eager")(x),
        lambda: torch.jit.trace(run, x, check_trace=False)(x),
        lambda: torch.export.export(Module(run), (x,)).module()(x),
        lambda: run(x.as_subclass(Own)).as_subclass(Tensor),
        lambda: forward_mode(x),
    ):
        near(make(), wanted, 3e-6)
    assert not launched
    run(x)
    assert launched


class Module(nn.Module):
    """A function, for export."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def test_what_no_kernel_takes(launched: list[str]) -> None:
    """The formula instead."""
    x = features("image")
    gamma, beta = parameters(x, 1, "sample")
    shared = parameters(x, 1, "shared")[0]
    by_column = torch.randn(2, 6, 1, 7), torch.randn(2, 6, 1, 7)
    for case in (
        (x.double(), gamma.double(), beta.double(), 1, 0),
        (x[..., ::2], gamma, beta, 1, 0),
        (x[:0], gamma[:0], beta[:0], 1, 0),
        (x, gamma, shared, 1, 0),
        (x, gamma, None, 1, 0),
        (x, *by_column, 1, 0),
        (torch.randn(5, 2, 6), gamma, beta, 2, 1),
    ):
        made = kernels.modulate(*case)
        assert made.shape == case[0].shape and not launched
    with torch.autocast("cpu"):
        kernels.layer_norm_film(x, gamma, beta, 1, EPS)
        assert launched == FILM[:1]  # after torch's norm
    wide = torch.randn(1, 1, 10_000)
    launched.clear()
    made = kernels.layer_norm_film(wide, torch.ones(10_000), torch.zeros(10_000), 2, EPS)
    assert launched == FILM[:1]
    torch.testing.assert_close(made, F.layer_norm(wide, (10_000,)))


def test_offsets_beyond_32_bits() -> None:
    """The last of three rows is four gigabytes away; only what is read takes memory."""
    apart = (1 << 30) + 16
    x, y, to_x = (torch.empty(2 * apart + 16, dtype=torch.bfloat16) for _ in range(3))
    rows = [slice(row * apart, row * apart + 8) for row in range(3)]
    for row in rows:
        x[row] = 2.0
    view = views.View(1, 3, 8, 1, 0, 0, apart, True)
    scale, shift = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 1.0])
    routes._film_forward(view, x, scale, shift, None, y, "identity")
    assert [y[row].unique().tolist() for row in rows] == [[2.0], [5.0], [7.0]]
    sums = routes._film_backward(view, x, x, scale, shift, "identity", to_x=to_x, with_sums=True)
    assert sums[0].tolist() == [32.0] * 3 and sums[1].tolist() == [16.0] * 3
    assert [to_x[row].unique().tolist() for row in rows] == [[2.0], [4.0], [6.0]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, which the interpreter uses
def test_nan_stays_and_infinity_passes() -> None:
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 0.0]]).repeat(2, 1)
    for activation in kernels.ACTIVATIONS:
        found = kernels.modulate(x, torch.ones(4), torch.zeros(4), 1, 0, activation)
        wanted = kernels.ACTIVATIONS[activation](x.double()).float()
        torch.testing.assert_close(found, wanted, equal_nan=True)


def test_what_is_returned_can_be_changed_in_place() -> None:
    x = features("image").requires_grad_()
    gamma, beta = parameters(x, 1, "sample")
    for norm in ("none", "layer", "group"):
        y = ours(norm, x, gamma, beta, 1, "identity")
        nn.ReLU(inplace=True)(y).sum().backward()


class Given(nn.Module):
    """A generator whose condition is γ - 1 and β side by side."""

    def forward(self, condition: Tensor) -> Tensor:
        return condition


@pytest.mark.parametrize(
    ("layer", "layout", "kernel"),
    [
        (fw.FiLM(6, generator=Given()), "image", "film_forward"),
        (ConditionalBatchNorm(6, generator=Given()).eval(), "image", "film_forward"),
        (ConditionalInstanceNorm(6, generator=Given()), "image", "norm_forward"),
        (ConditionalGroupNorm(3, 6, generator=Given()), "image", "norm_forward"),
        (ConditionalLayerNorm(18, generator=Given()), "tokens", "norm_forward"),
        (ConditionalRMSNorm(18, generator=Given()), "tokens", "norm_forward"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else None,
)
def test_layers_take_the_kernels(
    launched: list[str], layer: nn.Module, layout: str, kernel: str
) -> None:
    torch.manual_seed(0)
    x = features(layout)
    condition = torch.randn(len(x), 2 * x.shape[LAYOUTS[layout][1]])
    y = layer(x, condition)
    assert launched == [kernel]
    with kernels.use("torch"):
        torch.testing.assert_close(y, layer(x, condition), rtol=1e-5, atol=1e-5)
    assert launched == [kernel]


def test_sites_take_the_kernels(launched: list[str]) -> None:
    """Also in the first call, which is observed to see what is a sample."""
    net = fw.condition(nn.Sequential(nn.Conv2d(6, 6, 1)), at="0", generator=fw.Linear(3))
    x, z = features("image"), torch.randn(2, 3)
    first = net(x, condition=z)
    assert torch.equal(first, net(x, condition=z)) and launched == ["film_forward"] * 2


def test_batch_norm_of_known_statistics() -> None:
    torch.manual_seed(0)
    x = features("channels last")
    gamma, beta = parameters(x, 1, "sample")
    mean, variance = torch.randn(6), torch.rand(6)
    y = kernels.batch_norm_film(x, gamma, beta, mean, variance, 1e-3, "relu")
    normed = F.batch_norm(x.double(), mean.double(), variance.double(), eps=1e-3)
    near(y, plain("none", normed, gamma.double(), beta.double(), 1, "relu"), 1e-5)


def test_every_kernel_was_run(launched: list[str]) -> None:
    """The names in this file are those of the module."""
    public = {name for name in vars(code) if name.startswith(("film_", "norm_", "moments"))}
    assert public == {*FILM, *NORM, *LARGE}
