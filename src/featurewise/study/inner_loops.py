"""Metrics of networks with an inner loop: errors before and after adaptation."""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.study.metric import Metric
from featurewise.training.errors import ExperimentError
from featurewise.training.inner import InnerLoop, RegressionTasks

_POSITIVE: Final = (0.0, math.inf)

ERROR: Final = Metric(
    "error",
    "mean squared error at the query points, after adaptation with N inner steps",
    better="lower",
    ends=_POSITIVE,
)
ERROR_BEFORE: Final = Metric(
    "error before adaptation",
    "mean squared error at the query points, before adaptation",
    ends=_POSITIVE,
)
ERROR_LONGER: Final = Metric(
    "error after 2N steps",
    "mean squared error at the query points, after twice as many inner steps as in training",
    better="lower",
    ends=_POSITIVE,
)
ERROR_SWAPPED: Final = Metric(
    "error with swapped support",
    "mean squared error at the query points, adapted to the support points of another task",
    ends=_POSITIVE,
)
RELATIVE_ERROR: Final = Metric(
    "relative error",
    "error over error before adaptation; above 100 % where adaptation makes it worse",
    "%",
    "lower",
    ends=(0.0, 1e9),
)
INNER_METRICS: Final = (ERROR, ERROR_BEFORE, ERROR_LONGER, ERROR_SWAPPED, RELATIVE_ERROR)
"""All that `inner_errors` measures."""


def inner_errors(network: nn.Module, tasks: RegressionTasks) -> dict[Metric, float]:
    """Errors before and after adaptation, and with the support points of another task.

    Args:
        network: with an inner loop.
        tasks: T tasks.

    Returns:
        `INNER_METRICS`, averaged over tasks and query points.

    Raises:
        ExperimentError: the network has no inner loop.
    """
    if not isinstance(network, InnerLoop):
        raise ExperimentError(f"{type(network).__name__} is not a network with an inner loop")
    fitted = {
        ERROR: network.fit(tasks),
        ERROR_BEFORE: network.fit(tasks, 0),
        ERROR_LONGER: network.fit(tasks, 2 * network.steps),
        ERROR_SWAPPED: network.fit(tasks.swapped()),
    }
    found = {
        metric: (network.predict(tasks.query_x, each) - tasks.query_y).square().mean().item()
        for metric, each in fitted.items()
    }
    return {**found, RELATIVE_ERROR: found[ERROR] / found[ERROR_BEFORE]}


def r_squared(fitted: Float[Tensor, "T N"], truth: Float[Tensor, "T D"]) -> float:
    """R² of the true parameters of tasks as an affine map of the fitted ones.

    Args:
        fitted: parameters that the inner loop found.
        truth: parameters that generated the tasks.

    Returns:
        R² of the least-squares map found on the first half of the tasks and evaluated on the
        second half, over all D numbers together.
    """
    inputs = torch.cat((fitted, torch.ones_like(fitted[:, :1])), dim=1).double().cpu()
    half, truth = len(truth) // 2, truth.double().cpu()
    solution = torch.linalg.lstsq(inputs[:half], truth[:half], driver="gelsd").solution
    residual = (inputs[half:] @ solution - truth[half:]).square().sum()
    total = (truth[half:] - truth[half:].mean(0)).square().sum()
    unexplained: float = (residual / total).item()
    return 1 - unexplained
