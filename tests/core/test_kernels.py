"""Every fast route is the plain formula, and is really taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap
from torch.utils.checkpoint import checkpoint

import featurewise as fw
from featurewise.core import LayoutError
from featurewise.core.kernels import batch_norm_film, group_norm_film, layer_norm_film, modulate
from featurewise.core.kernels import film as routes
from featurewise.core.kernels import norm as norms

LAYOUTS: dict[str, tuple[tuple[int, ...], int, str]] = {
    "image": ((6, 8, 110, 100), 1, "batch norm"),
    "audio": ((9, 30, 2000), 1, "batch norm"),
    "volume": ((4, 48, 14, 14, 14), 1, "batch norm"),
    "image of middle size": ((9, 8, 64, 64), 1, "batch norm without gradients"),
    "small image": ((3, 8, 30, 30), 1, "batch norm in half precision without gradients"),
    "image, channels last": ((2, 40, 41, 41), 1, "by sample"),
    "volume, channels last": ((2, 33, 13, 13, 13), 1, "by sample"),
    "audio, features innermost": ((2, 70, 1000), 1, "by sample"),
    "tokens": ((2, 600, 120), 2, "by sample"),
    "tokens of many small samples": ((71, 31, 480), 2, "in pieces"),
    "many small images, channels last": ((60, 19, 31, 30), 1, "in pieces"),
    "small tokens": ((30, 20, 40), 2, "addcmul"),
    "vectors": ((40, 500), 1, "addcmul"),
    "few positions": ((64, 128, 2, 2), 1, "formula"),
    "strided": ((3, 8, 30, 60), 1, "formula"),
    "small": ((3, 4, 5, 5), 1, "formula"),
}
SEVERAL = (
    "image",
    "tokens",
    "tokens of many small samples",
    "image, channels last",
    "many small images, channels last",
    "small tokens",
)
HALF = (torch.float16, torch.bfloat16)
THRESHOLDS = ("SMALL", "WITHOUT_GRADIENTS", "WITH_GRADIENTS", "POSITIONS", "IN_PIECES", "PIECE")


def features(layout: str, dtype: torch.dtype) -> Tensor:
    """In the memory that the name says."""
    shape, _, _ = LAYOUTS[layout]
    x = torch.randn(shape).to(dtype)
    if layout.endswith("channels last"):
        form = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        return x.contiguous(memory_format=form)
    if layout == "audio, features innermost":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    return x[..., ::2] if layout == "strided" else x


def plain(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """In float64, by views that are written out."""
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    if gamma.ndim == 2:
        shape[0] = len(x)
    return gamma.double().reshape(shape) * x.double() + beta.double().reshape(shape)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the routes that were taken."""
    seen: list[str] = []

    def spy(owner: Any, name: str, route: str) -> None:
        before = getattr(owner, name)

        def call(*given: Any, **options: Any) -> Any:
            seen.append(route)
            return before(*given, **options)

        monkeypatch.setattr(owner, name, call)

    spy(routes, "_by_batch_norm", "batch norm")
    spy(routes, "_by_sample", "by sample")
    spy(routes, "_in_pieces", "in pieces")
    spy(routes, "formula", "formula")
    spy(torch, "addcmul", "addcmul")
    yield seen


def assert_near(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    """Off by one rounding to ``dtype`` at most, and by what float32 sums are off."""
    relative = 0.51 * torch.finfo(dtype).eps if dtype in HALF else 3e-6
    if dtype == torch.float64:
        relative = 1e-13
    wanted = wanted.to(found.dtype)
    absolute = min(relative, 3e-6) * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=relative, atol=absolute)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["samples", "shared"])
@pytest.mark.parametrize("grad", [False, True], ids=["no grad", "grad"])
def test_every_route_is_the_formula(
    taken: list[str], layout: str, dtype: torch.dtype, shared: bool, grad: bool
) -> None:
    """The outcome in float64, the gradients, the memory, and the table of the module."""
    torch.manual_seed(0)
    shape, axis, route = LAYOUTS[layout]
    x = features(layout, dtype).requires_grad_(grad)
    size = (shape[axis],) if shared else (shape[0], shape[axis])
    own = torch.float32 if dtype in HALF else dtype
    gamma, beta = (torch.randn(size, dtype=own, requires_grad=grad) for _ in range(2))
    y = modulate(x, gamma, beta, axis, 0)
    assert y.dtype == dtype and y.shape == x.shape and y.stride() == (x + 0).stride()
    assert_near(y.detach().double(), plain(x, gamma, beta, axis).detach(), dtype)
    if route.startswith("batch norm "):
        wanted = not grad and (dtype in HALF or "half" not in route)
        route = "batch norm" if wanted else "formula"
    if route == "by sample" and not (grad or dtype in HALF):
        route = "addcmul"
    if route == "in pieces" and not (grad and not shared):
        route = "addcmul"
    if route == "addcmul" and grad and shared and x.numel() >= routes.SAMPLE:
        route = "by sample"
    if route == "addcmul" and grad:
        route = "in pieces" if dtype in HALF else "formula"
    if route == "addcmul" and shared and dtype in HALF and x.numel() >= routes.SAMPLE:
        route = "by sample"
    assert taken[:1] == [route]
    if not grad:
        return
    upstream = torch.randn_like(x)
    y.backward(upstream)
    wide = [each.detach().double().requires_grad_() for each in (x, gamma, beta)]
    plain(*wide, axis).backward(upstream.double())
    for mine, exact in zip((x, gamma, beta), wide, strict=True):
        assert mine.grad is not None and exact.grad is not None
        assert mine.grad.dtype == mine.dtype
        assert_near(mine.grad.double(), exact.grad, mine.dtype)


def strided(of: str, batch: int, width: int) -> tuple[Tensor, Tensor]:
    """γ and β that do not lie side by side in memory."""
    if of == "transposed":
        return torch.randn(width, batch).T, torch.randn(width, batch).T
    if of == "every second":
        both = torch.randn(batch, 2 * width)
        return both[:, ::2], both[:, 1::2]
    if of == "expanded":
        return torch.randn(batch, 1).expand(batch, width), torch.randn(1, 1).expand(batch, width)
    return torch.randn(3 * width)[::3], torch.randn(3 * width)[1::3]


@pytest.mark.parametrize("layout", SEVERAL)
@pytest.mark.parametrize("of", ["transposed", "every second", "expanded", "shared"])
@pytest.mark.parametrize("needs", range(1, 8))
def test_parameters_in_any_memory_and_any_need_of_gradients(
    layout: str, of: str, needs: int
) -> None:
    """torch's backward kernel reads parameters as if they were contiguous."""
    torch.manual_seed(0)
    shape, axis, _ = LAYOUTS[layout]
    given = [features(layout, torch.float32), *strided(of, shape[0], shape[axis])]
    exact = [each.detach().clone().double() for each in given]
    for place, each in enumerate(given):
        each.requires_grad_(bool(needs & (1 << place)))
        exact[place].requires_grad_(bool(needs & (1 << place)))
    upstream = torch.randn(shape)
    modulate(*given, axis, 0).backward(upstream)
    plain(*exact, axis).backward(upstream.double())
    for mine, wanted in zip(given, exact, strict=True):
        assert (mine.grad is None) == (wanted.grad is None)
        if mine.grad is not None and wanted.grad is not None:
            assert_near(mine.grad.double(), wanted.grad, torch.float32)


@pytest.mark.parametrize("layout", SEVERAL)
def test_what_is_returned_can_be_changed_in_place(layout: str) -> None:
    """It is no view: not after a checkpoint, and not under `no_grad`."""
    shape, axis, _ = LAYOUTS[layout]
    gamma, beta = torch.randn(shape[0], shape[axis]), torch.randn(shape[0], shape[axis])
    x = features(layout, torch.float32).requires_grad_()
    for reentrant in (False, True):
        y = checkpoint(modulate, x, gamma, beta, axis, 0, use_reentrant=reentrant)
        nn.ReLU(inplace=True)(y).sum().backward()
    with torch.no_grad():
        y = modulate(x, gamma, beta, axis, 0)
    y += nn.Parameter(torch.zeros(()))
    y.detach_()
    norm = group_norm_film if axis == 1 else None
    if norm is not None and shape[1] % 8 == 0:
        with torch.no_grad():
            made = norm(x, gamma, beta, 8, 1e-5)
        made += nn.Parameter(torch.zeros(()))


@pytest.mark.parametrize("memory", ["image", "tokens", "channels last"])
def test_sums_over_many_positions_are_exact(memory: str) -> None:
    """Gradients of γ and β, of numbers that do not cancel; the kernel alone errs by 3e-4."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand((1, 4, 1000, 1000), generator=rng)
    if memory == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    axis = 1
    if memory == "tokens":
        x, axis = x.view(1, -1, 4), 2
    gamma, beta = torch.ones(1, 4, requires_grad=True), torch.zeros(1, 4, requires_grad=True)
    upstream = torch.rand(x.shape, generator=rng)
    modulate(x, gamma, beta, axis, 0).backward(upstream)
    places = [place for place in range(x.ndim) if place not in (0, axis)]
    for found, wanted in ((gamma, upstream.double() * x.double()), (beta, upstream.double())):
        assert found.grad is not None
        torch.testing.assert_close(found.grad.double(), wanted.sum(places), rtol=5e-6, atol=0)


def test_positions_without_equal_blocks_take_the_formula(taken: list[str]) -> None:
    """A prime number of them cannot be added up in blocks."""
    x = torch.randn(8, 8, 10_007)
    modulate(x, torch.ones(8, 8), torch.zeros(8, 8), 1, 0)
    assert taken == ["formula"]


@pytest.mark.parametrize("frozen", [1, 2, 3])
def test_vectors_with_frozen_parameters(frozen: int) -> None:
    """Vectors have no axes to add gradients over."""
    x = torch.randn(3, 70_000, requires_grad=True)
    gamma = torch.randn(3, 70_000, requires_grad=not frozen & 1)
    beta = torch.randn(3, 70_000, requires_grad=not frozen & 2)
    modulate(x, gamma, beta, 1, 0).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, gamma.detach())
    assert gamma.grad is None if frozen & 1 else torch.equal(gamma.grad, x.detach())
    assert beta.grad is None if frozen & 2 else torch.equal(beta.grad, torch.ones_like(beta))


def test_features_are_kept_only_where_gamma_needs_them() -> None:
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    for layout in ("image", "tokens"):
        shape, axis, _ = LAYOUTS[layout]
        x = features(layout, torch.float32).requires_grad_()
        gamma, beta = (torch.randn(shape[0], shape[axis]) for _ in "ab")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            modulate(x, gamma, beta, axis, 0)
        assert kept.pop() == gamma.numel() and not kept


@pytest.mark.parametrize("layout", SEVERAL[:3])
def test_many_gradients_at_once(layout: str) -> None:
    """By the older vmap of `is_grads_batched`, and by that of `torch.func`."""
    shape, axis, _ = LAYOUTS[layout]
    x = features(layout, torch.float32).requires_grad_()
    gamma, beta = (torch.randn(shape[0], shape[axis]).requires_grad_() for _ in "ab")
    y = modulate(x, gamma, beta, axis, 0)
    several = torch.randn(2, *shape)
    found = torch.autograd.grad(
        y, (x, gamma, beta), several, is_grads_batched=True, retain_graph=True
    )
    for row in range(2):
        alone = torch.autograd.grad(y, (x, gamma, beta), several[row], retain_graph=True)
        for each, wanted in zip(found, alone, strict=True):
            torch.testing.assert_close(each[row], wanted, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    axis=st.integers(1, 4),
    order=st.permutations(range(5)),
    half=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_in_any_memory(
    sizes: list[int], axis: int, order: list[int], half: bool, seed: int
) -> None:
    """With thresholds so low that small features take every route."""
    axis = 1 + (axis - 1) % (len(sizes) - 1)
    order = [place for place in order if place < len(sizes)]
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn([sizes[place] for place in order], generator=rng)
    x = x.permute([order.index(place) for place in range(len(sizes))])
    dtype = torch.bfloat16 if half else torch.float32
    x = x.to(dtype)
    gamma, beta = (torch.randn(sizes[0], sizes[axis], generator=rng) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        for name in (*THRESHOLDS, "SAMPLE"):
            patch.setattr(routes, name, 2)
        for grad in (False, True):
            given = x.detach().clone().requires_grad_(grad)
            y = modulate(given, gamma, beta, axis, 0)
            assert_near(y.detach().double(), plain(x, gamma, beta, axis), dtype)


@pytest.mark.parametrize("layout", SEVERAL)
def test_first_and_second_derivatives(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """Numerically, of features so small that this takes seconds."""
    for name in THRESHOLDS:
        monkeypatch.setattr(routes, name, 2)
    monkeypatch.setattr(routes, "SAMPLE", 100 if "small" in layout else 2)
    rank = len(LAYOUTS[layout][0])
    shape = (2, 3, 4, 2) if rank == 4 else (2, 4, 3)
    axis = LAYOUTS[layout][1]
    x = torch.randn(shape, dtype=torch.float64)
    if layout.endswith("last"):
        x = x.contiguous(memory_format=torch.channels_last)
    size = shape[0], shape[axis]
    gamma, beta = (torch.randn(size, dtype=torch.float64) for _ in range(2))
    inputs = [each.requires_grad_() for each in (x, gamma, beta)]

    def function(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return modulate(x, gamma, beta, axis, 0)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_transforms_modes_and_subclasses_take_the_formula(taken: list[str]) -> None:
    """They see operators; a fast one may lack a rule, or hide what is a sample."""
    x = torch.randn(2, 8, 180, 200)
    gamma, beta = torch.randn(2, 8), torch.randn(2, 8)

    class Own(Tensor):
        """A tensor of another library."""

    def plainly(x: Tensor) -> Tensor:
        return modulate(x, gamma, beta, 1, 0)

    wanted = formula_of(x, gamma, beta)
    assert taken == []
    for run in (
        lambda: vmap(plainly)(x[None])[0],
        lambda: jvp(plainly, (x,), (x,))[0],
        lambda: torch.func.vjp(plainly, x)[0],
        lambda: torch.compile(plainly, backend="eager")(x),
        lambda: torch.jit.trace(plainly, x, check_trace=False)(x),
        lambda: plainly(x.as_subclass(Own)),
        lambda: in_counter(plainly, x),
        lambda: forward_mode(plainly, x),
    ):
        torch.testing.assert_close(torch.as_tensor(run()).as_subclass(Tensor), wanted)
    assert not {"batch norm", "by sample", "addcmul"} & set(taken)
    assert torch.equal(plainly(x), modulate(x, gamma, beta, 1, 0)) and taken[-1] == "batch norm"


@pytest.mark.traced
def test_a_norm_compiles_to_one_graph() -> None:
    """The test for plain tensors cannot be traced, and is not."""
    x, gamma, beta = torch.randn(2, 8, 5, 5), torch.randn(2, 8), torch.randn(2, 8)
    run = torch.compile(group_norm_film, backend="eager", fullgraph=True)
    wanted = group_norm_film(x, gamma, beta, 4, 1e-5)
    torch.testing.assert_close(run(x, gamma, beta, 4, 1e-5), wanted)


def formula_of(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return gamma[:, :, None, None] * x + beta[:, :, None, None]


def in_counter(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        return run(x)


def forward_mode(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autograd.forward_ad.dual_level():
        made = run(torch.autograd.forward_ad.make_dual(x, x))
        return torch.autograd.forward_ad.unpack_dual(made).primal


NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "instance": lambda x: F.instance_norm(x, eps=1e-5),
    "group": lambda x: F.group_norm(x, 4, eps=1e-5),
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("layout", ["image", "audio", "image, channels last", "small"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["samples", "shared"])
def test_group_norm_and_film(kind: str, layout: str, dtype: torch.dtype, shared: bool) -> None:
    """The norm in float64, then the formula; memory stays."""
    torch.manual_seed(0)
    shape = LAYOUTS[layout][0]
    shape = (shape[0], 8, *shape[2:])
    x = torch.randn(shape)
    if layout.endswith("last"):
        x = x.contiguous(memory_format=torch.channels_last)
    x = (3 * x + 1).to(dtype).requires_grad_()
    gamma, beta = (torch.randn((8,) if shared else (len(x), 8)).requires_grad_() for _ in "ab")
    groups = 8 if kind == "instance" else 4
    y = group_norm_film(x, gamma, beta, groups, 1e-5)
    wide = [each.detach().double().requires_grad_() for each in (x, gamma, beta)]
    wanted = plain(NORMS[kind](wide[0]), *wide[1:], 1)
    assert y.dtype == dtype and y.stride() == x.stride()
    bound = 2e-5 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(y.double(), wanted, rtol=bound, atol=bound)
    upstream = torch.randn_like(x)
    y.backward(upstream)
    wanted.backward(upstream.double())
    for mine, exact in zip((x, gamma, beta), wide, strict=True):
        assert mine.grad is not None and exact.grad is not None
        off = (mine.grad.double() - exact.grad).norm() / exact.grad.norm()
        assert float(off) < bound


LARGE = ("tokens", "image, channels last", "volume, channels last", "audio, features innermost")


def by_layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, axis: int) -> Tensor:
    """In float64, written out."""
    last = x.double().movedim(axis, -1)
    normed = F.layer_norm(last, last.shape[-1:], eps=1e-5).movedim(-1, axis)
    return plain(normed, gamma, beta, axis)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the features that were normed sample by sample."""
    seen: list[int] = []
    before = norms._layer_norm_of_samples

    def spy(x: Tensor, *given: Any) -> Any:
        seen.append(x.numel())
        return before(x, *given)

    monkeypatch.setattr(norms, "_layer_norm_of_samples", spy)
    return seen


@pytest.mark.parametrize("layout", [*LARGE, "small tokens", "strided", "image"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF], ids=str)
@pytest.mark.parametrize("shared", [False, True], ids=["samples", "shared"])
def test_layer_norm_and_film(
    sampled: list[int], layout: str, dtype: torch.dtype, shared: bool
) -> None:
    torch.manual_seed(0)
    shape, axis, _ = LAYOUTS[layout]
    x = (3 * features(layout, dtype) + 1).requires_grad_()
    own = torch.float32 if dtype in HALF else dtype
    size = (shape[axis],) if shared else (shape[0], shape[axis])
    gamma, beta = (torch.randn(size, dtype=own).requires_grad_() for _ in "ab")
    y = layer_norm_film(x, gamma, beta, axis, 1e-5)
    with torch.no_grad():
        without = layer_norm_film(x, gamma, beta, axis, 1e-5)
    assert len(sampled) == (layout in LARGE) * (1 if dtype in HALF else 2)
    wide = [each.detach().double().requires_grad_() for each in (x, gamma, beta)]
    wanted = by_layer_norm(*wide, axis)
    assert y.dtype == dtype and y.shape == x.shape
    if layout in LARGE:
        assert y.stride() == x.stride()
    bound = 0.01 if dtype in HALF else 2e-5 if dtype == torch.float32 else 1e-12
    for found in (y, without):
        torch.testing.assert_close(found.double(), wanted, rtol=bound, atol=bound)
    upstream = torch.randn_like(x)
    y.backward(upstream)
    wanted.backward(upstream.double())
    for mine, exact in zip((x, gamma, beta), wide, strict=True):
        assert mine.grad is not None and exact.grad is not None
        assert mine.grad.dtype == mine.dtype
        assert float((mine.grad.double() - exact.grad).norm() / exact.grad.norm()) < bound


@pytest.mark.parametrize("shared", [False, True], ids=["samples", "shared"])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("needs", [1, 2, 4, 7])
def test_derivatives_of_layer_norm_and_film(
    monkeypatch: pytest.MonkeyPatch, sampled: list[int], shared: bool, axis: int, needs: int
) -> None:
    """First and second, numerically, of two blocks of rows in a sample."""
    monkeypatch.setattr(norms, "SAMPLE", 2)
    monkeypatch.setattr(norms, "ADDED", 3)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    x = x if axis == 2 else x.transpose(1, 2)
    size = (4,) if shared else (2, 4)
    inputs = [x, *(torch.randn(size, dtype=torch.float64) for _ in "ab")]
    for place, each in enumerate(inputs):
        each.requires_grad_(bool(needs & (1 << place)))

    def function(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return layer_norm_film(x, gamma, beta, axis, 1e-5)

    assert torch.autograd.gradcheck(function, inputs, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, inputs)
    assert bool(sampled) is bool(needs & 1)  # the kernel would keep x, which needs no gradients


def test_layer_norm_and_film_elsewhere(sampled: list[int]) -> None:
    """No samples, one sample, autocast, transforms; and what is returned can be changed."""
    gamma, beta = torch.randn(2, 120), torch.randn(2, 120)
    x = torch.randn(2, 600, 120)
    assert layer_norm_film(x[:0], gamma[:0], beta[:0], 2, 1e-5).shape == (0, 600, 120)
    assert not sampled
    wanted = layer_norm_film(x, gamma, beta, 2, 1e-5)
    alone = layer_norm_film(x[:1], gamma[:1], beta[:1], 2, 1e-5)
    assert torch.equal(alone, wanted[:1]) and sampled == [x.numel(), x.numel() // 2]
    leaf = x.clone().requires_grad_()
    y = layer_norm_film(leaf, gamma, beta, 2, 1e-5)
    y += 1
    y.sum().backward()
    sampled.clear()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer_norm_film(x, gamma, beta, 2, 1e-5).float(), wanted)
    mapped = vmap(lambda x, g, b: layer_norm_film(x[None], g[None], b[None], 2, 1e-5)[0])
    torch.testing.assert_close(mapped(x, gamma, beta), wanted)
    jvp(lambda x: layer_norm_film(x, gamma, beta, 2, 1e-5), (x,), (x,))
    assert not sampled


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_batch_norm_of_known_statistics_and_film(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(3, 8, 30, 30) + 1).to(dtype)
    gamma, beta, mean, variance = (
        torch.randn(3, 8),
        torch.randn(3, 8),
        torch.randn(8),
        torch.rand(8),
    )
    y = batch_norm_film(x, gamma, beta, mean, variance, 1e-3)
    normed = F.batch_norm(x.double(), mean.double(), variance.double(), eps=1e-3)
    bound = 2e-5 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(y.double(), plain(normed, gamma, beta, 1), rtol=bound, atol=bound)


def test_sites_and_layers_take_the_same_route(taken: list[str]) -> None:
    """`film`, an operation, a layer and a site of a network that nobody edits."""
    x, z = torch.randn(2, 8, 180, 200), torch.randn(2, 3)
    fw.film(x, torch.ones(2, 8), torch.ones(2, 8))
    fw.Affine()(x, {"gamma": torch.ones(2, 8), "beta": torch.ones(2, 8)})
    fw.FiLM(8, 3)(x, z)
    net = fw.condition(nn.Sequential(nn.Conv2d(8, 8, 1)), at="0", generator=fw.Linear(3))
    first = net(x, condition=z)  # it is observed, to see what is a sample
    assert torch.equal(first, net(x, condition=z))
    functional_call(net, dict(net.named_parameters()), (x,), {"condition": z})
    assert taken == ["batch norm"] * 6


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
def test_samples_are_followed_through_a_fast_route(memory: torch.memory_format) -> None:
    """A second site after the first one still tells that its rows are not samples."""

    class Turned(nn.Module):
        """A layer, the rows of images in place of the batch, and another layer."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 40, 1), nn.Conv2d(40, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(x).transpose(0, 2))

    x = torch.randn(4, 8, 4, 4000).contiguous(memory_format=memory)
    net = fw.condition(Turned(), at=["one", "two"], generator=fw.Linear(3))
    nn.init.normal_(net.generator.head.weight)
    with pytest.raises(LayoutError, match="the batch axis of its features is 2"):
        net(x, condition=torch.randn(4, 3))
