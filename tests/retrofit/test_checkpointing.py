"""Activation checkpointing: recomputed sites get the parameters of the call they belong to.

Twin of every test: the same conditioned network without checkpoints, compared bit for bit.
"""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featurewise.core import Affine, Operation, Shift, Site, _torch
from featurewise.generators import Learned, Linear, LocalGenerator
from featurewise.retrofit import CallError, Conditioned, calls, condition

Move = Callable[[Conditioned], Conditioned]
Make = Callable[[], nn.Module]
AT = "blocks.*.0"


def again(block: Callable[..., Tensor], *args: Any) -> Tensor:
    return checkpoint(block, *args, use_reentrant=False)


def reentrant(block: Callable[..., Tensor], *args: Any) -> Tensor:
    return checkpoint(block, *args, use_reentrant=True)


def twins(net: Conditioned, run: Callable[..., Tensor] = again) -> tuple[Conditioned, Conditioned]:
    """A network with its blocks checkpointed, and its twin without."""
    other = copy.deepcopy(net)
    net.backbone.run = run
    return net, other


def grads(net: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in net.named_parameters()}


def assert_same(a: dict[str, Tensor | None], b: dict[str, Tensor | None]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        other = b[name]
        assert (value is None) == (other is None), name
        assert value is None or torch.equal(value, other), name
    assert any(value is not None and value.any() for value in a.values())


def inputs(count: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 6).double(), torch.randn(count, 5).double()


@pytest.fixture
def pair(perceptron: nn.Module, moved: Move) -> tuple[Conditioned, Conditioned]:
    return twins(moved(condition(perceptron, at=AT, generator=Linear(5))).double())


def backward_in_thread(loss: Tensor, **kwargs: Any) -> None:
    """Backward in another thread, without thread-local state, like a device thread."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loss.backward(**kwargs)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_gradients_are_exact(pair: tuple[Conditioned, Conditioned], elsewhere: bool) -> None:
    x, z = inputs()
    for net in pair:
        loss = net(x, condition=z).square().sum()
        backward_in_thread(loss) if elsewhere else loss.backward()
    assert_same(*map(grads, pair))


def test_sites_really_are_recomputed(pair: tuple[Conditioned, Conditioned]) -> None:
    net, _ = pair
    runs: list[int] = []
    net.backbone.blocks[0][0].register_forward_hook(lambda *_: runs.append(1))
    x, z = inputs()
    y = net(x, condition=z)
    assert len(runs) == 1
    y.sum().backward()
    assert len(runs) == 2


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_two_live_calls(pair: tuple[Conditioned, Conditioned], elsewhere: bool, order: int) -> None:
    x, z = inputs()
    for net in pair:
        losses = [net(x, condition=k * z).square().sum() for k in (1.0, -2.0, 3.0)]
        for loss in losses[::order]:
            backward_in_thread(loss) if elsewhere else loss.backward()
        sum(net(x, condition=k * z).square().sum() for k in (0.5, 4.0)).backward()
    assert_same(*map(grads, pair))


def test_calls_chained_with_the_plain_backbone_in_one_graph(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    x, z = inputs()
    for net in pair:
        y = net(x, condition=z)
        y = net.backbone(y)
        y = net(y, condition=-z)
        with net.using(condition=2 * z):
            y = net.backbone(y) + net(y, condition=3 * z) + net(y)
        y.square().sum().backward()
    assert_same(*map(grads, pair))


def test_retain_graph(pair: tuple[Conditioned, Conditioned]) -> None:
    x, z = inputs()
    for net in pair:
        loss = net(x, condition=z).square().sum()
        loss.backward(retain_graph=True)
        net(x, condition=-z).sum().backward()
        loss.backward()
    assert_same(*map(grads, pair))


def test_second_order(pair: tuple[Conditioned, Conditioned]) -> None:
    """CAVIA: a gradient step on the parameters of the task, then a gradient through it."""
    x, z = inputs()
    for net in pair:
        flat = net.represent(z).flat.detach().requires_grad_()
        inner = net(x, task=flat).square().sum()
        (step,) = torch.autograd.grad(inner, flat, create_graph=True)
        net(x, task=flat - 0.1 * step).square().sum().backward()
    assert_same(*({k: v for k, v in grads(n).items() if "backbone" in k} for n in pair))


def test_trap_4_fixed_parameters_trainable_backbone(make_perceptron: Make) -> None:
    """The first sites have no gradient, so the graph contains no mark of the call."""
    for operation in (Affine(), Shift()):
        pair = twins(condition(make_perceptron(), at=AT, operation=operation, generator=Learned()))
        x, _ = inputs()
        task = torch.randn(4, pair[0].layout.size).double()
        for net in pair:
            net.generator.requires_grad_(False)
            for block in net.backbone.blocks:
                block[0].requires_grad_(False)
            losses = [net(x, task=k * task).square().sum() for k in (1, 2)]
            gc.collect()
            sum(losses).backward()
        assert_same(*map(grads, pair))


def unmarked(network: nn.Module) -> tuple[Conditioned, Conditioned]:
    """One site without gradient: no node in the graph keeps its call alive."""
    del network.blocks[1:]
    network.blocks[0][0].requires_grad_(False)
    net = condition(network, at=AT, operation=Shift(), generator=Learned())
    net.generator.requires_grad_(False)
    return twins(net)


def test_trap_4_many_live_calls_with_fixed_parameters(make_perceptron: Make) -> None:
    """Outputs keep their calls alive, for any number of calls."""
    pair = unmarked(make_perceptron())
    x, _ = inputs()
    tasks = torch.randn(70, pair[0].layout.size).double()
    for net in pair:
        sum(net(x, task=task).square().sum() for task in tasks).backward()
    assert_same(*map(grads, pair))


def test_trap_4_using_then_backward_outside(make_perceptron: Make) -> None:
    x, _ = inputs()
    task = torch.randn(6).double()
    for pair in (unmarked(make_perceptron()), _one_site(make_perceptron())):
        for net in pair:
            with net.using(task=task):
                loss = net.backbone(x).square().sum()
            gc.collect()
            loss.backward()
        assert_same(*map(grads, pair))


def _one_site(network: nn.Module) -> tuple[Conditioned, Conditioned]:
    return twins(condition(network, at="blocks.0.0", operation=Shift(), generator=Learned()))


def test_backward_inside_a_scope_and_inside_other_scopes(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    x, z = inputs()
    for net in pair:
        first = net(x, condition=z).square().sum()
        with net.using(condition=-z):
            second = net.backbone(x).square().sum()
            with net.using(condition=5 * z):
                first.backward()
                second.backward()
    assert_same(*map(grads, pair))


def test_backward_inside_a_forward(pair: tuple[Conditioned, Conditioned]) -> None:
    """An earlier call's backward, run by a hook in the middle of a later call."""
    x, z = inputs()
    for net in pair:
        loss = net(x, condition=z).square().sum()
        handle = net.backbone.blocks[1].register_forward_hook(
            lambda m, a, y, loss=loss: loss.backward()
        )
        y = net(x, condition=-z)
        handle.remove()
        y.sum().backward()
    assert_same(*map(grads, pair))


def test_whole_call_inside_a_checkpoint(pair: tuple[Conditioned, Conditioned]) -> None:
    x, z = inputs()
    net, twin = pair
    checkpoint(
        lambda x, z: net(x, condition=z), x, z, use_reentrant=False
    ).square().sum().backward()
    twin(x, condition=z).square().sum().backward()
    assert_same(grads(net), grads(twin))


def test_checkpoint_inside_a_scope_that_calls_the_network(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    x, z = inputs()
    for net, run in zip(pair, (again, lambda f, x: f(x)), strict=True):
        with net.using(condition=z):
            loss = run(net, x).square().sum()
        loss.backward()
    assert_same(*map(grads, pair))


def test_nested_checkpoints(pair: tuple[Conditioned, Conditioned]) -> None:
    net, twin = pair
    blocks = net.backbone.blocks

    def inner(x: Tensor) -> Tensor:
        return again(blocks[2], again(blocks[1], x))

    class Nested(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return again(inner, again(blocks[0], x))

    x, z = inputs()
    for k in (1.0, 2.0):
        nested = Nested()
        with net.using(condition=k * z):
            a = nested(x).square().sum()
        b = twin(x, condition=k * z).square().sum()
        a.backward()
        b.backward()
    assert_same(grads(net), grads(twin))


def test_custom_function_inside_a_checkpoint(moved: Move, make_perceptron: Make) -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 3 * x**2 * grad

    class Activation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Cube.apply(x)

    network = make_perceptron()
    for block in network.blocks:
        block[3] = Activation()
    pair = twins(moved(condition(network, at=AT, generator=Linear(5))).double())
    x, z = inputs()
    for net in pair:
        (net(x, condition=z).sum() + net(x, condition=-z).sum()).backward()
    assert_same(*map(grads, pair))


def test_trap_5_early_stop_leaves_nothing_behind(pair: tuple[Conditioned, Conditioned]) -> None:
    """Recomputation stops early, by an exception that passes through the hooks."""
    net, _ = pair
    x, z = inputs()
    net(x, condition=z).sum().backward()
    with torch.no_grad():
        assert calls._active.calls == []
        assert not torch.equal(net.backbone(x), net(x, condition=z))


def test_input_sites(moved: Move, make_perceptron: Make) -> None:
    pair = twins(moved(condition(make_perceptron(), at=AT, generator=Linear(5), when="input")))
    x, z = inputs()
    for net in pair:
        net.double()
        (net(x, condition=z).sum() + net(x, condition=-z).square().sum()).backward()
    assert_same(*map(grads, pair))


# --- local generators ----------------------------------------------------------------------------


class Walker(LocalGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 12)

    def forward(
        self, site: Site, x: Tensor, condition: Any, memory: Any
    ) -> tuple[dict[str, Tensor], Any]:
        memory = x if memory is None else 0.5 * memory + x
        gamma, beta = self.mix(memory + condition).chunk(2, -1)
        return {"gamma": gamma, "beta": beta}, memory


def test_memory_is_recalled_in_recomputation(make_perceptron: Make) -> None:
    pair = twins(condition(make_perceptron(), at=AT, generator=Walker().double()))
    x, z = torch.randn(2, 4, 6).double()
    for net in pair:
        # Memory crosses regions, so its own gradient stops there in both twins only if detached:
        # compare values here, gradients of a region's inside below.
        y = net(x, condition=z)
        (y.sum() + net(x, condition=-z).square().sum()).backward()
    assert_same(*map(grads, pair))


def test_module_run_twice_with_memory_in_a_region_is_refused(make_perceptron: Make) -> None:
    net = condition(make_perceptron(), at="blocks.0.0", generator=Walker().double())
    net.backbone.run = lambda block, x: again(lambda x: block(block(x)), x)
    x, z = torch.randn(2, 4, 6).double()
    y = net(x, condition=z)
    with pytest.raises(CallError, match=r"site 'blocks.0.0' ran several times"):
        y.sum().backward()


# --- reentrant -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("x_grad", [False, True])
def test_reentrant_is_refused_where_gradients_would_be_lost(
    pair: tuple[Conditioned, Conditioned], x_grad: bool
) -> None:
    net, _ = pair
    net.backbone.run = reentrant
    x, z = inputs()
    with pytest.raises(CallError, match=r"site 'blocks.0.0' .*use_reentrant=False"):
        net(x.requires_grad_(x_grad), condition=z)


def test_reentrant_is_refused_for_local_generators(make_perceptron: Make) -> None:
    net = condition(make_perceptron(), at=AT, generator=Walker().double())
    net.backbone.run = reentrant
    x, z = torch.randn(2, 4, 6).double()
    with pytest.raises(CallError, match="use_reentrant=False"):
        net(x.requires_grad_(), condition=z)


@pytest.mark.parametrize("operation", [Affine(), Shift()], ids=str)
def test_reentrant_with_fixed_parameters_is_exact(
    make_perceptron: Make, operation: Operation
) -> None:
    net = condition(make_perceptron(), at=AT, operation=operation, generator=Learned())
    pair = twins(net, reentrant)
    x, tasks = inputs()[0], torch.randn(3, 4, net.layout.size).double()
    for net in pair:
        sum(net(x.clone().requires_grad_(), task=t).square().sum() for t in tasks).backward()
        loss = net(x.clone().requires_grad_(), task=tasks[0]).square().sum()
        gc.collect()
        backward_in_thread(loss)
    assert_same(*map(grads, pair))


def test_reentrant_around_the_whole_call_is_exact(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    net, twin = pair
    net.backbone.run = twin.backbone.run
    x, z = inputs()
    net_z, twin_z = z.clone().requires_grad_(), z.clone().requires_grad_()
    reentrant(lambda x, z: net(x, condition=z), x, net_z).square().sum().backward()
    twin(x, condition=twin_z).square().sum().backward()
    assert_same({**grads(net), "z": net_z.grad}, {**grads(twin), "z": twin_z.grad})


def test_a_frozen_trunk_under_no_grad_is_no_checkpoint(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    net, _ = pair

    def frozen(block: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            return block(x)

    blocks = list(net.backbone.blocks)
    net.backbone.run = lambda block, x: (frozen if block is blocks[0] else again)(block, x)
    x, z = inputs()
    net(x, condition=z).sum().backward()
    assert net.generator.head.weight.grad[:12].eq(0).all()
    assert net.generator.head.weight.grad[12:].ne(0).any()


# --- several threads -----------------------------------------------------------------------------


@contextmanager
def switching_often() -> Iterator[None]:
    import sys

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def run_threads(work: Callable[[int], None], count: int) -> None:
    failed: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_trap_6_two_threads_train_with_checkpoints(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    """Both number their nodes from the same start; 100 steps each, every gradient exact."""
    net, twin = pair
    x, z = inputs()
    conditions = [torch.randn(4, 5).double() for _ in range(20)]
    for z in conditions:
        z.requires_grad_()
    expected = [torch.autograd.grad(twin(x, condition=z).square().sum(), z)[0] for z in conditions]
    wrong: list[int] = []

    def train(index: int) -> None:
        for step in range(100):
            k = (7 * index + step) % len(conditions)
            loss = net(x, condition=conditions[k]).square().sum()
            (grad,) = torch.autograd.grad(loss, conditions[k])
            if not torch.equal(grad, expected[k]):
                wrong.append(k)

    with switching_often():
        run_threads(train, 2)
    assert wrong == []


def test_calls_of_other_threads_with_the_same_numbers(
    pair: tuple[Conditioned, Conditioned],
) -> None:
    """Forward in fresh threads, whose numbers coincide; backward of all of them here."""
    x, z = inputs()
    for net in pair:
        losses: dict[int, Tensor] = {}

        def forward(index: int, net: Conditioned = net, losses: dict[int, Tensor] = losses) -> None:
            losses[index] = net(x, condition=(index + 1.0) * z).square().sum()

        for i in range(3):
            run_threads(lambda _, i=i, forward=forward: forward(i), 1)
        for i in (1, 0, 2):
            losses[i].backward()
    assert_same(*map(grads, pair))


def test_ambiguous_threads_are_an_error(make_perceptron: Make) -> None:
    """No gradient reaches the sites, so no mark identifies the run of a region."""
    net = condition(make_perceptron(), at="blocks.0.0", operation=Shift(), generator=Learned())
    net.backbone.run = again
    net.requires_grad_(False)
    net.backbone.blocks[0][2].requires_grad_()
    x, _ = inputs()
    losses: list[Tensor] = []
    for k in (1.0, 2.0):
        task = torch.full((6,), k).double()
        run_threads(lambda _, task=task: losses.append(net(x, task=task).sum()), 1)
    with pytest.raises(CallError, match="does not identify the run"):
        losses[0].backward()


def test_plain_runs_of_other_threads_stay_plain_or_raise(make_perceptron: Make) -> None:
    """An unconditioned region of one thread, while a call of another has the same node numbers."""
    net = condition(make_perceptron(), at=AT, operation=Shift(), generator=Learned())
    plain = copy.deepcopy(net.backbone)
    net.backbone.run = again
    x, _ = inputs()
    kept: list[Tensor] = []
    task = torch.randn(net.layout.size).double()
    run_threads(lambda _: kept.append(net(x, task=task).sum()), 1)
    run_threads(lambda _: kept.append(net.backbone(x).square().sum()), 1)
    try:
        kept[1].backward()
    except CallError:
        return
    plain(x).square().sum().backward()
    assert_same(grads(net.backbone), grads(plain))


def test_calls_are_freed_with_their_graphs(pair: tuple[Conditioned, Conditioned]) -> None:
    net, _ = pair
    x, z = inputs()
    gc.collect()
    before = len(calls._recomputable)
    alive = weakref.WeakSet(calls._recomputable)
    loss = net(x, condition=z).sum()
    assert len(calls._recomputable) == before + 1
    loss.backward()
    del loss
    gc.collect()
    assert set(calls._recomputable) <= set(alive)


# --- ranges of node numbers -----------------------------------------------------------------------


def test_a_span_begins_with_the_first_node_of_a_call_and_ends_before_the_next() -> None:
    x = torch.ones(1, requires_grad=True)
    call = calls.Call(calls.Owner(), None)
    before = x * 2
    stack = calls.prepare(call)
    stack.append(call)
    first = x * 2
    assert call.spans(_torch.node_number(first.grad_fn))
    last = first * 2
    stack.remove(call)
    calls.finish(call)
    after = x * 2
    numbers = [_torch.node_number(y.grad_fn) for y in (before, first, last, after)]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert [call.spans(number) for number in numbers] == [False, True, True, False]


@pytest.mark.parametrize("scopes", [2, 64])
def test_many_scopes_without_marks_are_kept(
    make_perceptron: Make, scopes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_plain", None)  # threads of other tests do not matter here
    x, _ = inputs()
    tasks = torch.randn(scopes, 6).double()
    pair = unmarked(make_perceptron())
    for net in pair:
        losses = []
        for task in tasks:
            with net.using(task=task):
                losses.append(net.backbone(x).square().sum())
        gc.collect()
        sum(losses).backward()
    assert_same(*map(grads, pair))


def test_a_plain_run_is_plain_although_a_thread_with_a_call_ran_plainly_before(
    make_perceptron: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unconditioned run in the thread of the call, then one in another with equal numbers."""
    monkeypatch.setattr(calls, "_plain", None)
    net = condition(make_perceptron(), at=AT, operation=Shift(), generator=Learned())
    plain = copy.deepcopy(net.backbone)
    net.backbone.run = again
    x, _ = inputs()
    kept: list[Tensor] = []
    task = torch.randn(net.layout.size).double()

    def both(_: int) -> None:
        net.backbone(x)
        kept.append(net(x, task=task).sum())

    run_threads(both, 1)

    def later(_: int) -> None:
        for _ in range(3):  # numbers within the span of the call
            kept.append(net.backbone(x).square().sum())

    run_threads(later, 1)
    plain(x).square().sum().backward()
    for loss in kept[1:]:
        net.zero_grad()
        try:
            loss.backward()
        except CallError:
            continue
        assert_same(grads(net.backbone), grads(plain))


def test_the_search_for_a_mark_stays_within_the_calls(
    make_perceptron: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long graph before the calls is not searched."""
    net = condition(make_perceptron(), at="blocks.0.0", operation=Shift(), generator=Learned())
    net.backbone.run = again
    x, _ = inputs()
    losses: list[Tensor] = []

    def forward(scale: float) -> None:
        long = x.clone().requires_grad_()
        for _ in range(500):
            long = long * 1.0
        task = torch.full((6,), scale, dtype=torch.double, requires_grad=True)
        losses.append(net(long, task=task).sum())

    for scale in (1.0, 2.0):
        run_threads(lambda _, scale=scale: forward(scale), 1)
    seen: list[Any] = []
    metadata = _torch.node_metadata
    monkeypatch.setattr(_torch, "node_metadata", lambda node: seen.append(node) or metadata(node))
    losses[0].backward()
    assert 0 < len(seen) < 200
