"""Networks whose weights are computed by a solver instead of gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import nn

from featurewise.training.batch import to_device
from featurewise.training.errors import ExperimentError
from featurewise.training.state import State
from featurewise.training.steppers.base import Learner, Metrics, check_dtypes, evaluation

Solve: TypeAlias = Callable[[nn.Module, Any], Metrics]
"""(network, batch) -> metrics; writes the solution for this batch into the network."""


class ClosedForm:
    """Each step computes the weights from its batch; a one-step system has all data in one batch.

    Args:
        network: its parameters and buffers are overwritten by the solution.
        solve: see `Solve`; runs without gradients.
    """

    def __init__(self, network: nn.Module, solve: Solve) -> None:
        self.network = network
        self.solve = solve
        self.steps = 0

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The only network, ``network``."""
        return {"network": self.network}

    @property
    def learners(self) -> tuple[Learner, ...]:
        """Empty: there is no gradient descent."""
        return ()

    def step(self, batch: Any, /) -> Metrics:
        """Solves for one batch and returns the metrics of the solver."""
        tensor = next(iter(self.network.state_dict().values()))
        with torch.no_grad():
            metrics = self.solve(self.network, to_device(batch, tensor.device))
        self.steps += 1
        return metrics

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The network in eval mode, without gradients."""
        with evaluation(self.network) as network:
            yield network

    def state(self) -> State:
        """The weights and the number of completed steps."""
        return {"steps": self.steps, "network": self.network.state_dict()}

    def load_state(self, state: State, /) -> None:
        """Restores a state.

        Raises:
            ExperimentError: the state is of another network.
        """
        check_dtypes(self.network, state["network"])
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ExperimentError(f"the state is of another network: {error}") from error
        self.steps = state["steps"]
