"""The fast path of a hook equals the checked path, which raises all errors."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import warnings
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featurewise.core import Affine, FeaturewiseError, Gate, Layout, Operation, Scale, Shift, Site
from featurewise.generators import Learned, Linear
from featurewise.retrofit import Conditioned, calls, condition
from featurewise.retrofit.hooks import SiteHook


class Same(nn.Module):
    """Passes features on."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def conditioned(site: Site) -> Conditioned:
    network = nn.Sequential()
    network.add_module(site.name, Same())
    generator = Learned()
    layout = Layout((site,))
    generator.bind(layout)
    return Conditioned(network, generator, layout)


def features(rank: int, axis: int, batch_axis: int | None, sizes: tuple[int, int]) -> Tensor:
    shape = [2 + i for i in range(rank)]
    shape[axis] = sizes[1]
    if batch_axis is not None:
        shape[batch_axis] = sizes[0]
    return torch.randn(shape)


AXES = [
    (rank, axis, batch_axis)
    for rank in (1, 2, 3, 4)
    for axis, batch_axis in itertools.product(range(-rank, rank), (None, 0, 1, -1))
    if batch_axis is None or (batch_axis < rank and axis % rank != batch_axis % rank)
    if axis != batch_axis
]


@pytest.mark.parametrize("operation", [Affine(), Shift(), Scale(), Gate()], ids=str)
def test_every_order_of_axes(operation: Operation) -> None:
    planned = 0
    for rank, axis, batch_axis in AXES:
        site = Site("at", 6, operation, axis, batch_axis)
        net = conditioned(site)
        x = features(rank, axis, batch_axis, (5, 6))
        for shape in [()] if batch_axis is None else [(), (5,)]:
            flat = torch.randn(*shape, site.size)
            expected = site.modulate(x, net.layout.split(flat)["at"])
            assert torch.equal(net(x, task=flat), expected), (rank, axis, batch_axis, shape)
            hook = next(iter(net.backbone[0]._forward_hooks.values())).__self__
            call = net._call(None, flat, None)
            planned += hook._prepared(x, call, call.pairs[0], call.batch) is not None
    assert planned > len(AXES) / 2  # the path under test is the one taken, not its fallback


@pytest.mark.parametrize("x_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(x_dtype: torch.dtype, dtype: torch.dtype) -> None:
    site = Site("at", 4, Affine())
    net, x, flat = conditioned(site), torch.randn(3, 4, 2).to(x_dtype), torch.randn(3, 8).to(dtype)
    y = net(x, task=flat)
    assert y.dtype == x_dtype
    assert torch.equal(y, site.modulate(x, net.layout.split(flat)["at"]))


@pytest.mark.parametrize(
    ("x", "flat"),
    [
        (torch.randn(3, 5), torch.randn(3, 8)),  # another width
        (torch.randn(2, 4), torch.randn(3, 8)),  # another batch
        (torch.randn(3, 4), torch.randn(1, 8)),  # one row is not shared by all
        (torch.randn(4), torch.randn(3, 8)),  # no such axes
        (torch.ones(3, 4, dtype=torch.int64), torch.randn(3, 8)),
    ],
    ids=["width", "batch", "one row", "axes", "integers"],
)
def test_errors_are_those_of_the_site(x: Tensor, flat: Tensor) -> None:
    site = Site("at", 4, Affine())
    net = conditioned(site)
    with pytest.raises(FeaturewiseError) as checked:
        site.modulate(x, net.layout.split(flat)["at"])
    with pytest.raises(type(checked.value)) as prepared:
        net(x, task=flat)
    said, _, remedy = str(prepared.value).partition("; ")
    assert said == str(checked.value)
    few = x.shape[1:] == (4,) and x.is_floating_point() and len(x) != len(flat)
    assert ("rows=<index" in remedy) == few  # where only rows do not fit, what to do is said
    assert "site 'at'" in str(prepared.value)


def test_each_site_gets_its_own_of_many() -> None:
    chain = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    net = condition(chain, at=nn.Linear, operation=Affine(), generator=Learned())
    x, flat = torch.randn(3, 4), torch.randn(3, net.layout.size)
    expected = x
    for i, layer in enumerate(chain):
        gamma, beta = flat[:, 8 * i : 8 * i + 4], flat[:, 8 * i + 4 : 8 * i + 8]
        expected = nn.functional.linear(expected, layer.weight, layer.bias) * (1 + gamma) + beta
    assert torch.equal(net(x, task=flat), expected)


def test_another_generator_serves_the_same_sites() -> None:
    chain = nn.Sequential(nn.Linear(4, 4))
    net = condition(chain, at="0", generator=Learned())
    old, new = net.generator, Learned()
    assert net.replace_generator(new) is old
    with torch.no_grad():
        new.vector.normal_()
    x = torch.randn(2, 4)
    assert torch.equal(net(x), net(x, task=new.vector.detach()))
    elsewhere = Learned()
    elsewhere.bind(Layout((Site("1", 4, Affine()),)))
    with pytest.raises(FeaturewiseError, match="cannot serve"):
        net.replace_generator(elsewhere)
    assert net.generator is new


# --- the path of the most frequent case ----------------------------------------------------------


class Blocks(nn.Module):
    """Two linear maps, the second in a checkpoint if ``reentrant`` is not None."""

    reentrant: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.reentrant is None:
            return self.second(x)
        made: Tensor = checkpoint(self._rest, x, use_reentrant=self.reentrant)
        return made

    def _rest(self, x: Tensor) -> Tensor:
        return self.second(x).tanh()


def warm(rows: int = 3, when: str = "output") -> Conditioned:
    """A network whose sites have seen features of so many rows."""
    net = condition(Blocks(), at=nn.Linear, generator=Learned(), when=when)
    for _ in range(2):
        net(torch.randn(rows, 4), task=torch.randn(rows, net.layout.size))
    return net


def cold(net: Conditioned) -> Conditioned:
    """A copy whose sites have seen none."""
    net = copy.deepcopy(net)
    for site in net.backbone.children():
        for hook in (*site._forward_hooks.values(), *site._forward_pre_hooks.values()):
            hook.__self__._usual = None
    return net


def gradients(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    """Outcome, and all gradients, of two calls in one graph."""
    flat = flat.clone().requires_grad_()
    y = net(x, task=flat) + 2 * net(x, task=-flat)
    own = [flat, *net.backbone.parameters()]
    return [y.detach(), *torch.autograd.grad(y.square().sum(), own)]


def checkpointed(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    net.backbone.reentrant = False
    return gradients(net, x, flat)


def recomputed_in_a_scope(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    """A recomputation takes the condition of its own call, not that of the scope around it."""
    net.backbone.reentrant = False
    flat = flat.clone().requires_grad_()
    y = net(x, task=flat)
    with net.using(task=-flat.detach(), partial=True):
        (found,) = torch.autograd.grad(y.square().sum(), flat)
    return [found]


def reentrant(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    net.backbone.reentrant = True
    return gradients(net, x, flat)


def recorded(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    record: dict[str, dict[str, Tensor]] = {}
    with net.using(task=flat, record=record):
        y = net.backbone(x)
    return [y, *(value for site in record.values() for value in site.values())]


def inside_another(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    """The other one's call begins later, so that it is the innermost at the sites of both."""
    other = condition(net, at="backbone.second", generator=Learned())
    own = torch.randn(len(x), other.layout.size, generator=torch.Generator().manual_seed(0))
    with net.using(task=flat):
        return [other(x, task=own) for _ in range(2)]  # the first follows samples


def mapped(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    function = torch.func.grad(lambda flat, x: net(x[None], task=flat[None]).square().sum())
    return [torch.func.vmap(function)(flat, x)]


def later(net: Conditioned, x: Tensor, flat: Tensor) -> list[Tensor]:
    """Within a scope that another coroutine opened."""
    opened, done = asyncio.Event(), asyncio.Event()

    async def holds() -> None:
        with net.using(task=flat, partial=True):
            opened.set()
            await done.wait()

    async def runs() -> Tensor:
        holder = asyncio.create_task(holds())
        await opened.wait()
        try:
            made: Tensor = net.backbone(x)
            return made
        finally:
            done.set()
            await holder

    return [asyncio.run(runs())]


CASES: dict[str, Callable[[Conditioned, Tensor, Tensor], list[Tensor]]] = {
    "call": lambda net, x, flat: [net(x, task=flat)],
    "one for all": lambda net, x, flat: [net(x, task=flat[0])],
    "other rows": lambda net, x, flat: [net(torch.cat([x, x]), task=torch.cat([flat, flat]))],
    "half": lambda net, x, flat: [net.bfloat16()(x.bfloat16(), task=flat)],
    "double": lambda net, x, flat: [net.double()(x.double(), task=flat.double())],
    "too few conditions": lambda net, x, flat: [net(x, task=flat[:2])],
    "positions": lambda net, x, flat: [net(x[:, None], task=flat)],
    "index": lambda net, x, flat: [net(x, task=flat, rows=torch.tensor([2, 0, 0]))],
    "repeat": lambda net, x, flat: [net(x, task=flat[:1], repeat="tile")],
    "plain": lambda net, x, flat: [net.backbone(x)],
    "gradients": gradients,
    "checkpoint": checkpointed,
    "checkpoint, backward in a scope": recomputed_in_a_scope,
    "reentrant checkpoint": reentrant,
    "record": recorded,
    "inside another": inside_another,
    "mapped": mapped,
    "scope of another coroutine": later,
}


def outcome(case: str, *given: Any) -> list[Tensor] | str:
    try:
        return CASES[case](*given)
    except FeaturewiseError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("when", ["input", "output"])
def test_sites_that_have_seen_such_features_do_the_same(case: str, when: str) -> None:
    torch.manual_seed(0)
    net = warm(when=when)
    x, flat = torch.randn(3, 4), torch.randn(3, net.layout.size)
    found, wanted = outcome(case, net, x, flat), outcome(case, cold(net), x, flat)
    if isinstance(wanted, str) or isinstance(found, str):
        assert found == wanted
        return
    for mine, other in zip(found, wanted, strict=True):
        assert mine.dtype is other.dtype and torch.equal(mine, other)


@pytest.mark.parametrize("when", ["input", "output"])
def test_the_most_frequent_case_takes_the_path(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """With and without gradients, and inside a scope that is not asynchronous."""
    net = warm(when=when)
    x, flat = torch.randn(3, 4), torch.randn(3, net.layout.size)
    wanted = net(x, task=flat)

    def other(*_: object) -> None:
        raise AssertionError("the general path was taken")

    monkeypatch.setattr(SiteHook, "_modulate", other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a site that does not report its visit
        assert torch.equal(net(x, task=flat), wanted)
        with torch.no_grad():
            assert torch.equal(net(x, task=flat), wanted)
        with net.using(task=flat):
            assert torch.equal(net.backbone(x), wanted)


def test_rows_that_are_not_samples_are_refused_after_many_runs() -> None:
    """What a run found out about a site counts in later runs, too."""

    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)

        def forward(self, x: Tensor, turned: bool = False) -> Tensor:
            made: Tensor = self.first(x.T if turned else x)
            return made

    net = condition(Transposed(), at="first", generator=Learned())
    x, flat = torch.randn(3, 3), torch.randn(3, net.layout.size)
    hook = next(iter(net.backbone.first._forward_hooks.values())).__self__
    for _ in range(2):
        net(x, task=flat)
    assert hook._usual is not None
    hook._misfits[None] = "the rows are features"
    with pytest.raises(FeaturewiseError, match="the rows are features"):
        net(x, task=flat)


def test_samples_are_followed_through_sites_that_have_seen_such_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, checked = warm(), []
    net._followed.clear()
    monkeypatch.setattr(SiteHook, "_check_rows", lambda *given: checked.append(given))
    net(torch.randn(3, 4), task=torch.randn(3, net.layout.size))
    assert len(checked) == len(net.layout)


def test_kernels_that_were_chosen_take_the_general_path(monkeypatch: pytest.MonkeyPatch) -> None:
    net, passed_on = warm(), []
    x, flat = torch.randn(3, 4), torch.randn(3, net.layout.size)
    monkeypatch.setattr(calls, "chosen", lambda: object())
    prepared = SiteHook._prepared
    monkeypatch.setattr(
        SiteHook, "_prepared", lambda *given: passed_on.append(given) or prepared(*given)
    )
    net(x, task=flat)
    assert len(passed_on) == len(net.layout)


def test_networks_pickled_before_the_path_existed_are_called() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net = condition(network, at=["0", "2"], generator=Learned())
    old = copy.deepcopy(net)
    for module in old.backbone:
        for hook in module._forward_hooks.values():
            for later in ("_usual", "name"):
                del hook.__self__.__dict__[later]
    del old._plan.__dict__["_alike"]
    found, x = copy.deepcopy(old), torch.randn(3, 4)
    for _ in range(3):  # the first run prepares the second
        assert torch.equal(found(x), net(x))


class Watched(torch.autograd.Function):
    """Passes its input on; a tensor that lives as long as the graph is watched in `seen`."""

    seen: ClassVar[list[weakref.ref[Tensor]]] = []

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.held = torch.zeros(3)
        Watched.seen.append(weakref.ref(ctx.held))
        return z.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def test_a_call_that_a_site_may_come_back_to_holds_no_graph() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net = condition(network, at=["0", "2"], generator=Linear(2))
    Watched.seen.clear()
    for _ in range(3):
        z = Watched.apply(torch.randn(3, 2, requires_grad=True))
        with net.using(condition=z, partial=True):
            hidden = net.backbone[0](torch.randn(3, 4))
        hidden.sum().backward()
        del z, hidden
    gc.collect()
    assert [held() for held in Watched.seen] == [None] * 3
