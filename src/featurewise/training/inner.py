"""Networks with an inner loop: they fit something to the support points of a task, then answer.

What is fitted is the condition of a network that all tasks share (`Context`; CAVIA, Zintgraf et al.
2019) or all weights of a network (`Weights`; MAML, Finn et al. 2017). All tasks of a batch are
fitted at once, and the outer loop descends through the inner one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, TypedDict, Unpack, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.retrofit import Conditioned, adapt
from featurewise.training.errors import ExperimentError
from featurewise.training.source import Source


@runtime_checkable
class Points(Protocol):
    """Tasks of regression, one a row: points with their answers, and points without."""

    @property
    def support_x(self) -> Float[Tensor, "T K I"]:
        """Where K points are given."""

    @property
    def support_y(self) -> Float[Tensor, "T K O"]:
        """What is there."""

    @property
    def query_x(self) -> Float[Tensor, "T Q I"]:
        """Where Q points are asked for."""

    @property
    def query_y(self) -> Float[Tensor, "T Q O"]:
        """What is there; no network looks at it."""

    def swapped(self) -> Points:
        """The tasks, each given the support points of another."""


class Descent(TypedDict, total=False):
    """How the inner loop goes.

    Attributes:
        steps: gradient steps; 1 unless told, with 0 nothing is fitted.
        rate: size of a step on the mean squared error of a task; 1 unless told.
        second_order: let the outer gradient pass through the inner one; so unless told.
    """

    steps: int
    rate: float
    second_order: bool


class Fitted(nn.Module, ABC):
    """Fits a row of numbers for each task to its support points, then answers its queries.

    Args:
        how: see `Descent`.
    """

    def __init__(self, **how: Unpack[Descent]) -> None:
        super().__init__()
        self.steps, self.rate = how.get("steps", 1), how.get("rate", 1.0)
        self.second_order = how.get("second_order", True)

    @abstractmethod
    def start(self, tasks: Points) -> Float[Tensor, "T N"]:
        """What the inner loop begins with."""

    @abstractmethod
    def predict(
        self, x: Float[Tensor, "T P I"], fitted: Float[Tensor, "T N"]
    ) -> Float[Tensor, "T P O"]:
        """Answers, each task by its own row."""

    def fit(self, tasks: Points, steps: int | None = None) -> Float[Tensor, "T N"]:
        """Descends on the error of the support points (Zintgraf et al. 2019, eq. 3).

        Args:
            tasks: their losses are summed, so that every row gets the gradient of its own task.
            steps: in place of the usual number.
        """

        def loss(fitted: Tensor) -> Tensor:
            error = self.predict(tasks.support_x, fitted) - tasks.support_y
            return error.square().mean((1, 2)).sum()

        return adapt(
            loss,
            self.start(tasks),
            steps=self.steps if steps is None else steps,
            lr=self.rate,
            second_order=self.second_order,
        )

    def forward(self, tasks: Points) -> Float[Tensor, "T Q O"]:
        """Answers at the query points."""
        return self.predict(tasks.query_x, self.fit(tasks))


class Context(Fitted):
    """What is fitted, from zero, conditions a network that all tasks share.

    With ``nn.Identity()`` as the generator it is the parameters of the sites themselves.

    Args:
        net: takes points ``(T, P, I)`` and conditions ``(T, N)``.
        size: N.
        how: see `Descent`.
    """

    def __init__(self, net: Conditioned, size: int, **how: Unpack[Descent]) -> None:
        super().__init__(**how)
        self.net, self.size = net, size

    def start(self, tasks: Points) -> Float[Tensor, "T N"]:
        """Zeros."""
        return tasks.support_x.new_zeros(len(tasks.support_x), self.size)

    def predict(
        self, x: Float[Tensor, "T P I"], fitted: Float[Tensor, "T N"]
    ) -> Float[Tensor, "T P O"]:
        """The network's answers, conditioned on what was fitted."""
        answers: Tensor = self.net(x, condition=fitted)
        return answers


class Weights(Fitted):
    """What is fitted are all weights of a network, from those that the outer loop learns.

    Args:
        net: takes points ``(P, I)``; it has no buffers that it changes.
        how: see `Descent`.
    """

    def __init__(self, net: nn.Module, **how: Unpack[Descent]) -> None:
        super().__init__(**how)
        self.net = net

    def start(self, tasks: Points) -> Float[Tensor, "T N"]:
        """The weights of the network, for every task."""
        weights = torch.cat([weight.flatten() for weight in self.net.parameters()])
        return weights.expand(len(tasks.support_x), -1)

    def predict(
        self, x: Float[Tensor, "T P I"], fitted: Float[Tensor, "T N"]
    ) -> Float[Tensor, "T P O"]:
        """Answers of a network of its own for each task."""
        like = dict(self.net.named_parameters())
        parts = torch.split(fitted, [weight.numel() for weight in like.values()], dim=1)
        own = {n: p.view(-1, *like[n].shape) for n, p in zip(like, parts, strict=True)}

        def one(weights: dict[str, Tensor], points: Tensor) -> Tensor:
            answers: Tensor = torch.func.functional_call(self.net, weights, (points,))
            return answers

        answers: Tensor = torch.vmap(one)(own, x)
        return answers


@dataclass(frozen=True)
class Swapped:
    """Control: nothing is to be learned from support points that are those of another task."""

    source: Source[Points]

    def batch(self, index: int, /) -> Points:
        """The batch of this index, its support points swapped."""
        return self.source.batch(index).swapped()


ERRORS: dict[str, str] = {
    "error": "mean squared, at the query points, as trained",
    "before": "the same, before the inner loop",
    "longer": "the same, after twice as many inner steps",
    "swapped": "the same, after inner steps on another task's points",
    "left": "error over before",
}
"""What `errors` measures."""


def errors(network: nn.Module, tasks: Points) -> dict[str, float]:
    """Mean squared errors at the query points, by name.

    Returns:
        ``error`` as trained, ``before`` the inner loop, ``longer`` after twice its steps,
        ``swapped`` after the steps on another task's points; ``left``, error over before.

    Raises:
        ExperimentError: the network has no inner loop.
    """
    if not isinstance(network, Fitted):
        raise ExperimentError(f"{type(network).__name__} is no network with an inner loop")
    fitted = {
        "error": network.fit(tasks),
        "before": network.fit(tasks, 0),
        "longer": network.fit(tasks, 2 * network.steps),
        "swapped": network.fit(tasks.swapped()),
    }
    found = {
        name: (network.predict(tasks.query_x, each) - tasks.query_y).square().mean().item()
        for name, each in fitted.items()
    }
    return {**found, "left": found["error"] / found["before"]}


def explained(fitted: Float[Tensor, "T N"], truth: Float[Tensor, "T D"]) -> float:
    """How much of what tasks truly are a linear map of the fitted numbers explains.

    Returns:
        R² of a least-squares map with an offset, found on one half of the tasks, measured on the
        other, over all numbers of the truth together.
    """
    inputs = torch.cat((fitted, torch.ones_like(fitted[:, :1])), dim=1).double().cpu()
    half, truth = len(truth) // 2, truth.double().cpu()
    solution = torch.linalg.lstsq(inputs[:half], truth[:half], driver="gelsd").solution
    left = (inputs[half:] @ solution - truth[half:]).square().sum()
    spread = (truth[half:] - truth[half:].mean(0)).square().sum()
    unexplained: float = (left / spread).item()
    return 1 - unexplained
