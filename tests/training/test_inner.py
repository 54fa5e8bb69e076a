"""Inner loops over a batch of tasks, against a loop over single tasks written out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.training.inner import Context, Weights


@dataclass(frozen=True)
class Tasks:
    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def swapped(self) -> Tasks:
        x, y = self.support_x.roll(1, 0), self.support_y.roll(1, 0)
        return replace(self, support_x=x, support_y=y)


@pytest.fixture
def tasks() -> Tasks:
    torch.manual_seed(3)
    parts = [torch.randn(4, n, w).double() for n, w in ((5, 2), (5, 1), (3, 2), (3, 1))]
    return Tasks(*parts)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def context(**options: bool) -> Context:
    torch.manual_seed(0)
    net = fw.condition(
        perceptron(),
        at="0",
        axis=-1,
        generator=lambda layout: nn.Linear(3, layout.size, bias=False).double(),
    )
    return Context(net, 3, steps=2, learning_rate=0.3, **options)


def reference(network: Context, tasks: Tasks, row: int, second_order: bool) -> Tensor:
    """A single task: the inner loop on φ, then the predictions of a network with explicit FiLM."""
    first, _, last = network.net.backbone
    weight = network.net.generator.weight

    def predict(x: Tensor, phi: Tensor) -> Tensor:
        gamma, beta = (weight @ phi).split(6)
        return last(torch.tanh((1 + gamma) * first(x) + beta))

    phi = torch.zeros(3, requires_grad=True).double()
    for _ in range(2):
        loss = (predict(tasks.support_x[row], phi) - tasks.support_y[row]).square().mean()
        (gradient,) = torch.autograd.grad(loss, phi, create_graph=second_order)
        phi = phi - 0.3 * gradient
        phi = phi if second_order else phi.detach().requires_grad_()
    return predict(tasks.query_x[row], phi)


@pytest.mark.parametrize("second_order", [True, False])
def test_batched_context_adaptation_equals_a_loop_over_tasks(
    tasks: Tasks, second_order: bool
) -> None:
    network = context(second_order=second_order)
    twin = copy.deepcopy(network)
    (network(tasks) - tasks.query_y).square().mean().backward()
    expected = torch.stack([reference(twin, tasks, row, second_order) for row in range(4)])
    torch.testing.assert_close(network(tasks), expected)
    (expected - tasks.query_y).square().mean().backward()
    for one, two in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_second_order_gradients_differ_from_first_order_gradients(tasks: Tasks) -> None:
    gradients = []
    for second_order in (True, False):
        network = context(second_order=second_order)
        (network(tasks) - tasks.query_y).square().mean().backward()
        gradients.append(network.net.generator.weight.grad)
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_batched_weight_adaptation_equals_training_a_copy_per_task(tasks: Tasks) -> None:
    net = perceptron()
    network = Weights(net, steps=2, learning_rate=0.2)
    predictions = network(tasks)
    for row in range(4):
        own = copy.deepcopy(net)
        optimizer = torch.optim.SGD(own.parameters(), lr=0.2)
        for _ in range(2):
            optimizer.zero_grad()
            (own(tasks.support_x[row]) - tasks.support_y[row]).square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(predictions[row], own(tasks.query_x[row]))
    predictions.square().mean().backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_the_context_can_be_the_task_representation_itself(tasks: Tasks) -> None:
    net = fw.condition(perceptron(), at="0", axis=-1, generator=nn.Identity())
    network = Context(net, net.layout.size, steps=1, learning_rate=0.1)
    fitted = network.fit(tasks)
    assert fitted.shape == (4, 12)
    with net.using(task=fitted):
        torch.testing.assert_close(net.backbone(tasks.query_x), network(tasks))


def test_defaults_are_one_step_with_learning_rate_1_and_second_order_gradients() -> None:
    network = Weights(perceptron())
    assert (network.steps, network.learning_rate, network.second_order) == (1, 1.0, True)
