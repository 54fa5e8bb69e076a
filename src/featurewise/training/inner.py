"""Networks with an inner loop (meta-learners): adapt to the support set of a task, then predict.

The inner loop fits either the condition of a network that all tasks share (`Context`; CAVIA,
Zintgraf et al. 2019) or all weights of a network (`Weights`; MAML, Finn et al. 2017). All tasks of
a batch are adapted at once, and the outer gradient passes through the inner loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypedDict, Unpack, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import Layout
from featurewise.retrofit import Conditioned, adapt


@runtime_checkable
class RegressionTasks(Protocol):
    """A batch of T regression tasks, each with K support points and Q query points."""

    @property
    def support_x(self) -> Float[Tensor, "T K I"]:
        """Inputs of the support points."""

    @property
    def support_y(self) -> Float[Tensor, "T K O"]:
        """Targets of the support points."""

    @property
    def query_x(self) -> Float[Tensor, "T Q I"]:
        """Inputs of the query points."""

    @property
    def query_y(self) -> Float[Tensor, "T Q O"]:
        """Targets of the query points; never an input of the network."""

    def swapped(self) -> RegressionTasks:
        """The tasks, each with the support points of another task of the batch."""


class InnerOptions(TypedDict, total=False):
    """Options of the inner loop.

    Attributes:
        steps: gradient steps on the mean squared error of a task; default: 1. With 0, no
            adaptation.
        learning_rate: of these steps; default: 1.
        second_order: backpropagate through the inner gradients; default: True.
    """

    steps: int
    learning_rate: float
    second_order: bool


class InnerLoop(nn.Module, ABC):
    """Fits N parameters for each task to its support points, then predicts its query points.

    Args:
        options: see `InnerOptions`.
    """

    def __init__(self, **options: Unpack[InnerOptions]) -> None:
        super().__init__()
        self.steps = options.get("steps", 1)
        self.learning_rate = options.get("learning_rate", 1.0)
        self.second_order = options.get("second_order", True)

    @abstractmethod
    def initial(self, tasks: RegressionTasks) -> Float[Tensor, "T N"]:
        """Parameters before adaptation."""

    @abstractmethod
    def predict(
        self, x: Float[Tensor, "T P I"], fitted: Float[Tensor, "T N"]
    ) -> Float[Tensor, "T P O"]:
        """Predictions for P points of each task, with the parameters of that task."""

    def fit(self, tasks: RegressionTasks, steps: int | None = None) -> Float[Tensor, "T N"]:
        """Adapts the parameters by gradient descent on the support points (eq. 3 of CAVIA).

        Args:
            tasks: T tasks.
            steps: number of gradient steps; default: that of `InnerOptions`.
        """

        # Summed over tasks, so that the parameters of a task get the gradient of that task alone.
        def loss(fitted: Tensor) -> Tensor:
            error = self.predict(tasks.support_x, fitted) - tasks.support_y
            return error.square().mean((1, 2)).sum()

        return adapt(
            loss,
            self.initial(tasks),
            steps=self.steps if steps is None else steps,
            lr=self.learning_rate,
            second_order=self.second_order,
        )

    def forward(self, tasks: RegressionTasks) -> Float[Tensor, "T Q O"]:
        """Predictions at the query points, after adaptation."""
        return self.predict(tasks.query_x, self.fit(tasks))


class Context(InnerLoop):
    """The inner loop fits the condition of a network that all tasks share, starting at zero.

    With ``nn.Identity()`` as the generator, the condition is the task representation itself.

    Args:
        net: called with points ``(T, P, I)`` and conditions ``(T, N)``.
        size: N, the size of the condition.
        options: see `InnerOptions`.
    """

    def __init__(self, net: Conditioned, size: int, **options: Unpack[InnerOptions]) -> None:
        super().__init__(**options)
        self.net, self.size = net, size

    def initial(self, tasks: RegressionTasks) -> Float[Tensor, "T N"]:
        """Zeros."""
        return tasks.support_x.new_zeros(len(tasks.support_x), self.size)

    def predict(
        self, x: Float[Tensor, "T P I"], fitted: Float[Tensor, "T N"]
    ) -> Float[Tensor, "T P O"]:
        """Predictions of the network with the fitted condition."""
        predictions: Tensor = self.net(x, condition=fitted)
        return predictions


class Weights(InnerLoop):
    """The inner loop fits all weights of a network, starting at those that the outer loop learns.

    Args:
        net: called with points ``(P, I)``; its forward pass changes no buffers.
        options: see `InnerOptions`.
    """

    def __init__(self, net: nn.Module, **options: Unpack[InnerOptions]) -> None:
        super().__init__(**options)
        self.net = net

    def initial(self, tasks: RegressionTasks) -> Float[Tensor, "T N"]:
        """The current weights of the network, repeated for every task."""
        weights = torch.cat([weight.flatten() for weight in self.net.parameters()])
        return weights.expand(len(tasks.support_x), -1)

    def predict(
        self, x: Float[Tensor, "T P I"], fitted: Float[Tensor, "T N"]
    ) -> Float[Tensor, "T P O"]:
        """Predictions of each task by the network with the weights of that task."""
        shared = dict(self.net.named_parameters())
        parts = torch.split(fitted, [weight.numel() for weight in shared.values()], dim=1)
        own = {n: p.view(-1, *shared[n].shape) for n, p in zip(shared, parts, strict=True)}

        def one(weights: dict[str, Tensor], points: Tensor) -> Tensor:
            predictions: Tensor = torch.func.functional_call(self.net, weights, (points,))
            return predictions

        predictions: Tensor = torch.vmap(one)(own, x)
        return predictions


def linear_without_bias(size: int) -> Callable[[Layout], nn.Module]:
    """Makes the generator of a `Context`: a linear map without a bias.

    At the initial context, zero, it is the identity; its gradient is not zero there.

    Args:
        size: N, the size of the context.
    """
    return lambda layout: nn.Linear(size, layout.size, bias=False)
