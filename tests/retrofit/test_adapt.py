"""Inner loops: against steps written by hand, finite differences, and a task that is learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.func import grad, vmap

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    Layout,
    LayoutError,
    LowRank,
    Operation,
    ShapeError,
    Site,
    TaskRepresentation,
)
from featurewise.generators import Linear
from featurewise.retrofit import CallError, Conditioned, adapt, condition

KIND = (ArgumentTypeError, TypeCheckError)
Loss = Callable[[Any], Tensor]


@pytest.fixture(params=[Affine(), LowRank(2)], ids=str)
def net(request: pytest.FixtureRequest, perceptron: nn.Module) -> Conditioned:
    operation: Operation = request.param
    made = condition(perceptron, at="blocks.*.0", operation=operation, generator=Linear(4)).double()
    with torch.no_grad():
        made.generator.head.weight.normal_(std=0.3)
    return made


X, Y = torch.randn(5, 6).double(), torch.randn(5, 6).double()


def by_task(net: Conditioned, x: Tensor = X, y: Tensor = Y) -> Loss:
    return lambda task: (net(x, task=task) - y).square().mean()


def by_context(net: Conditioned, x: Tensor = X, y: Tensor = Y) -> Loss:
    return lambda z: (net(x, condition=z) - y).square().mean()


def start_of(net: Conditioned, kind: str) -> Any:
    if kind == "context":
        return torch.randn(4).double()
    return TaskRepresentation(net.layout, 0.1 * torch.randn(net.layout.size).double())


def raw(value: Any) -> Tensor:
    return value.flat if isinstance(value, TaskRepresentation) else value


def by_hand(loss: Callable[[Tensor], Tensor], flat: Tensor, steps: int, lr: Any) -> Tensor:
    """Second order, with everything in the graph."""
    if not flat.requires_grad:
        flat = flat.clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(flat), flat, create_graph=True)
        flat = flat - lr * gradient
    return flat


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("kind", ["task", "context"])
def test_equals_steps_by_hand(net: Conditioned, kind: str, second_order: bool) -> None:
    loss, start = (by_task if kind == "task" else by_context)(net), start_of(net, kind)
    before = raw(start).clone()
    done = adapt(loss, start, steps=3, lr=0.2, second_order=second_order)
    assert type(done) is type(start)
    assert torch.equal(raw(done), by_hand(loss, raw(start), 3, 0.2))
    assert torch.equal(raw(start), before)
    assert loss(done) < loss(start)
    assert all(p.grad is None for p in net.parameters())
    assert not raw(start).requires_grad


def test_no_steps_is_the_start(net: Conditioned) -> None:
    start = start_of(net, "task")
    assert torch.equal(adapt(by_task(net), start, steps=0, lr=0.1).flat, start.flat)


@pytest.mark.parametrize("kind", ["task", "context"])
def test_second_order_equals_finite_differences(net: Conditioned, kind: str) -> None:
    make = by_task if kind == "task" else by_context
    xs, ys = torch.randn(2, 3, 6).double().unbind(), torch.randn(2, 3, 6).double().unbind()
    start = start_of(net, kind)
    weight = net.backbone.blocks[1][0].weight

    def outer(flat: Tensor, rate: Tensor, second_order: bool = True) -> Tensor:
        one = flat if kind == "context" else TaskRepresentation(net.layout, flat)
        done = adapt(make(net, xs[0], ys[0]), one, steps=2, lr=rate, second_order=second_order)
        return make(net, xs[1], ys[1])(done)

    flat, rate = raw(start).clone().requires_grad_(), torch.tensor(0.3).double().requires_grad_()
    assert torch.autograd.gradcheck(outer, (flat, rate))
    exact = torch.autograd.grad(outer(flat, rate), [flat, rate, weight])
    # Weights of the backbone, by finite differences of single numbers.
    for place in ((0, 0), (3, 5)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * 1e-5
            ends.append(outer(flat, rate).item())
            with torch.no_grad():
                weight[place] -= sign * 1e-5
        assert math.isclose((ends[0] - ends[1]) / 2e-5, exact[2][place], rel_tol=1e-5, abs_tol=1e-9)
    first = torch.autograd.grad(outer(flat, rate, False), [flat, rate, weight])
    for one, two in zip(exact, first, strict=True):
        assert not torch.allclose(one, two, rtol=1e-3, atol=1e-6)


def test_first_order_counts_inner_gradients_as_constants(net: Conditioned) -> None:
    loss, start = by_task(net), start_of(net, "task").requires_grad_()
    rate = torch.tensor(0.3).double().requires_grad_()
    done = adapt(loss, start, steps=2, lr=rate)
    at_end = done.flat.detach().requires_grad_()
    (expected,) = torch.autograd.grad(loss(TaskRepresentation(net.layout, at_end)), at_end)
    found = torch.autograd.grad(loss(done), [start.flat, rate])
    torch.testing.assert_close(found[0], expected)  # the Jacobian of the loop is one
    moved = (start.flat - done.flat).detach() / rate.detach()
    torch.testing.assert_close(found[1], -(expected * moved).sum())


def test_the_backbone_learns_through_a_context_that_is_a_constant(net: Conditioned) -> None:
    """CAVIA: the start is not trained, but the outer gradient is of second order."""
    loss, weight = by_context(net), net.backbone.blocks[0][0].weight
    zero = torch.zeros(4).double()
    (found,) = torch.autograd.grad(
        loss(adapt(loss, zero, steps=2, lr=0.3, second_order=True)), weight
    )
    (expected,) = torch.autograd.grad(loss(by_hand(loss, zero, 2, 0.3)), weight)
    torch.testing.assert_close(found, expected)
    (first,) = torch.autograd.grad(loss(adapt(loss, zero, steps=2, lr=0.3)), weight)
    assert not torch.allclose(first, expected, rtol=1e-3)


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("kind", ["task", "context"])
def test_vmap_over_tasks_equals_the_loop(net: Conditioned, kind: str, second_order: bool) -> None:
    make, start = (by_task if kind == "task" else by_context), start_of(net, kind)
    xs, ys = torch.randn(4, 3, 6).double(), torch.randn(4, 3, 6).double()

    def one(x: Tensor, y: Tensor) -> Any:
        return adapt(make(net, x, y), start, steps=2, lr=0.3, second_order=second_order)

    batch = raw(vmap(one)(xs, ys))
    for row in range(4):
        torch.testing.assert_close(batch[row], raw(one(xs[row], ys[row])))

    # Learned from outside, by autograd through vmap.
    def outer(x: Tensor, y: Tensor) -> Tensor:
        return make(net, -x, y)(one(x, y))

    vmap(outer)(xs, ys).sum().backward()
    found = [p.grad for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    for x, y in zip(xs, ys, strict=True):
        outer(x, y).backward()
    expected = [p.grad for p in net.parameters() if p.grad is not None]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("second_order", [False, True])
def test_grad_through_it_and_vmap_of_grad(net: Conditioned, second_order: bool) -> None:
    xs, ys = torch.randn(3, 2, 6).double(), torch.randn(3, 2, 6).double()
    start = start_of(net, "task")

    def outer(task: TaskRepresentation, x: Tensor, y: Tensor) -> Tensor:
        done = adapt(by_task(net, x, y), task, steps=2, lr=0.3, second_order=second_order)
        return by_task(net, -x, y)(done)

    def expected(x: Tensor, y: Tensor) -> Tensor:
        task = start.clone().requires_grad_()
        return torch.autograd.grad(outer(task, x, y), task.flat)[0]

    found = grad(outer)(start, xs[0], ys[0])
    torch.testing.assert_close(found.flat, expected(xs[0], ys[0]))
    each = vmap(grad(outer), (None, 0, 0))(start, xs, ys)
    for row in range(3):
        torch.testing.assert_close(each[row].flat, expected(xs[row], ys[row]))


def test_many_tasks_in_one_batch_by_the_sum_of_their_losses(net: Conditioned) -> None:
    start = TaskRepresentation(net.layout, 0.1 * torch.randn(5, net.layout.size).double())

    def loss(task: TaskRepresentation) -> Tensor:
        return (net(X, task=task) - Y).square().mean(1).sum()

    done = adapt(loss, start, steps=2, lr=0.3)
    for row in range(5):
        place = slice(row, row + 1)
        alone = adapt(by_task(net, X[place], Y[place]), start[row], steps=2, lr=0.3)
        torch.testing.assert_close(done[row].flat, alone.flat)


def test_some_sites_only(net: Conditioned) -> None:
    loss, start = by_task(net), start_of(net, "task")
    done = adapt(loss, start, steps=2, lr=0.3, at=["blocks.2.0"])
    for site in ("blocks.0.0", "blocks.1.0"):
        for name, value in done[site].items():
            assert torch.equal(value, start[site][name])
    span = net.layout.span("blocks.2.0")

    def part(flat: Tensor) -> Tensor:
        whole = torch.cat([start.flat[: span.start], flat, start.flat[span.stop :]])
        return loss(TaskRepresentation(net.layout, whole))

    torch.testing.assert_close(done.flat[span], by_hand(part, start.flat[span], 2, 0.3))
    placed = TaskRepresentation(net.layout, torch.zeros(2, net.layout.size, 3).double())
    moved = adapt(lambda t: t.flat.sum(), placed, steps=1, lr=1.0, at="blocks.2.0")
    assert (moved.flat[:, span] == -1).all()
    assert moved.flat.sum() == -6 * (span.stop - span.start)


def test_a_step_size_of_each_number(net: Conditioned) -> None:
    start = start_of(net, "task")
    rate = torch.zeros(net.layout.size)
    rate[3] = 0.5
    done = adapt(by_task(net), start, steps=1, lr=rate)
    assert done.flat.dtype == torch.float64
    changed = done.flat != start.flat
    assert changed[3]
    assert changed.sum() == 1


def test_without_gradients_outside(net: Conditioned) -> None:
    loss, start = by_task(net), start_of(net, "task")
    expected = adapt(loss, start, steps=2, lr=0.3)
    for second_order in (False, True):
        with torch.no_grad():
            done = adapt(loss, start, steps=2, lr=0.3, second_order=second_order)
        assert not done.flat.requires_grad
        assert torch.equal(done.flat, expected.flat)
    assert not expected.flat.requires_grad
    with torch.inference_mode(), pytest.raises(CallError, match="inference mode"):
        adapt(loss, start, steps=1, lr=0.3)


def test_wrong_inputs(net: Conditioned) -> None:
    loss, start = by_task(net), start_of(net, "task")
    good: dict[str, Any] = {"loss": loss, "start": start, "steps": 1, "lr": 0.1}

    def call(**wrong: Any) -> None:
        given = good | wrong
        adapt(given.pop("loss"), given.pop("start"), **given)

    call()
    for wrong in (
        {"loss": 3},
        {"start": [1.0]},
        {"start": torch.zeros(3, dtype=torch.int64)},
        {"steps": 1.5},
        {"steps": True},
        {"lr": "0.1"},
        {"lr": torch.tensor(1)},
        {"second_order": 1},
        {"loss": lambda task: 3.0},
        {"at": 3},
    ):
        with pytest.raises(KIND):
            call(**wrong)
    context = {"start": torch.zeros(4).double(), "loss": by_context(net)}
    with pytest.raises(ArgumentTypeError, match="at names sites"):
        call(at="blocks.*", **context)
    with pytest.raises(ShapeError, match="steps must not be negative, got -1"):
        call(steps=-1)
    for lr in (torch.ones(3), torch.ones(2, net.layout.size)):
        with pytest.raises(ShapeError, match="lr must broadcast over"):
            call(lr=lr)
    with pytest.raises(ShapeError, match=r"a scalar, got \(5, 6\); take its sum or mean"):
        call(loss=lambda task: net(X, task=task))
    with pytest.raises(LayoutError, match="no site matches"):
        call(at="blocks.9.*")
    with pytest.raises(CallError, match="does not depend on the adapted value"):
        call(loss=lambda task: net(X, task=task.detach()).sum())
    with pytest.raises(CallError, match="does not depend on the adapted value"):
        call(loss=lambda task: X.sum())


def test_single_sites_without_any_network() -> None:
    layout = Layout((Site("a", 2, Affine()),))
    task = TaskRepresentation(layout, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    done = adapt(lambda t: (t["a"]["beta"] ** 2).sum() / 2, task, steps=1, lr=1.0)
    assert torch.equal(done.flat, torch.tensor([1.0, 2.0, 0.0, 0.0]))


# --- it learns -----------------------------------------------------------------------------------


def sines(tasks: int, points: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sine waves of random amplitude and phase (Finn et al. 2017, section 5.1)."""
    amplitude = torch.empty(tasks, 1, 1).uniform_(0.1, 5.0, generator=random)
    phase = torch.empty(tasks, 1, 1).uniform_(0.0, math.pi, generator=random)
    x = torch.empty(tasks, points, 1).uniform_(-5.0, 5.0, generator=random)
    return x, amplitude * torch.sin(x - phase)


def test_cavia_learns_sine_waves_from_ten_points() -> None:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(0)
    layers = [nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)]
    net = condition(nn.Sequential(*layers), at=["0", "2"], generator=Linear(5))
    nn.init.normal_(net.generator.head.weight, std=0.1)  # at zero a context gets no gradient
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    zero = torch.zeros(5)

    def error(x: Tensor, y: Tensor, fit_x: Tensor, fit_y: Tensor, steps: int = 1) -> Tensor:
        fitted = adapt(by_context(net, fit_x, fit_y), zero, steps=steps, lr=0.1, second_order=True)
        return by_context(net, x, y)(fitted)

    for _ in range(300):
        x, y = sines(25, 20, random)
        loss = vmap(error)(x[:, 10:], y[:, 10:], x[:, :10], y[:, :10]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, y = sines(200, 60, random)
    with torch.no_grad():
        query, support = (x[:, 10:], y[:, 10:]), (x[:, :10], y[:, :10])
        adapted = vmap(error)(*query, *support).mean()
        unadapted = torch.stack(
            [by_context(net, a, b)(zero) for a, b in zip(*query, strict=True)]
        ).mean()
        # The control: fitted to the points of another task.
        other = [part.roll(1, 0) for part in support]
        mistaken = vmap(error)(*query, *other).mean()
    assert adapted < 0.4 * unadapted, (adapted, unadapted)
    assert mistaken > unadapted
