"""Metrics of inner loops against their definitions, and R² of what a context holds."""

from __future__ import annotations

import pytest
import torch
from tests.training.test_inner import Tasks, context, perceptron
from torch import Tensor, nn

from featurewise.study.inner_loops import (
    ERROR,
    ERROR_BEFORE,
    ERROR_LONGER,
    ERROR_SWAPPED,
    RELATIVE_ERROR,
    inner_errors,
    r_squared,
)
from featurewise.training.errors import ExperimentError
from featurewise.training.inner import InnerLoop, Weights


@pytest.fixture
def tasks() -> Tasks:
    torch.manual_seed(3)
    parts = [torch.randn(4, n, w).double() for n, w in ((5, 2), (5, 1), (3, 2), (3, 1))]
    return Tasks(*parts)


@pytest.mark.parametrize("kind", ["context", "weights"])
def test_errors_equal_their_definitions(tasks: Tasks, kind: str) -> None:
    network: InnerLoop = (
        context() if kind == "context" else Weights(perceptron(), steps=2, learning_rate=0.3)
    )
    with torch.no_grad():
        found = inner_errors(network, tasks)

        def error(fitted: Tensor) -> float:
            predictions = network.predict(tasks.query_x, fitted)
            return torch.stack([(predictions - tasks.query_y) ** 2]).mean().item()

        assert found[ERROR] == pytest.approx(error(network.fit(tasks, 2)))
        assert found[ERROR_BEFORE] == pytest.approx(error(network.initial(tasks)))
        assert found[ERROR_LONGER] == pytest.approx(error(network.fit(tasks, 4)))
        assert found[ERROR_SWAPPED] == pytest.approx(error(network.fit(tasks.swapped(), 2)))
        assert found[RELATIVE_ERROR] == pytest.approx(found[ERROR] / found[ERROR_BEFORE])
    with pytest.raises(ExperimentError, match="Linear is not a network with an inner loop"):
        inner_errors(nn.Linear(1, 1), tasks)


def test_r_squared_is_1_for_a_linear_map_and_0_for_noise() -> None:
    rng = torch.Generator().manual_seed(0)
    fitted = torch.randn(4000, 3, generator=rng)
    truth = fitted @ torch.randn(3, 2, generator=rng) + 4
    assert r_squared(fitted, truth) == pytest.approx(1)
    assert abs(r_squared(fitted, torch.randn(4000, 2, generator=rng))) < 0.05
    noisy = truth + truth.std() * torch.randn(4000, 2, generator=rng)
    assert 0.3 < r_squared(fitted, noisy) < 0.7
    # A constant context carries no information, and the rank-deficient fit must not fail.
    assert abs(r_squared(torch.zeros(4000, 3), truth)) < 0.05


def test_r_squared_is_evaluated_on_other_tasks_than_the_map_is_fitted_on() -> None:
    """With as many parameters as tasks the map fits noise exactly, but does not generalise."""
    rng = torch.Generator().manual_seed(0)
    fitted, truth = (torch.randn(40, width, generator=rng) for width in (20, 2))
    assert r_squared(fitted, truth) < 0


def test_r_squared_ignores_differences_between_the_means_of_the_true_parameters() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 2, generator=rng) + torch.tensor([0.0, 100.0])
    assert abs(r_squared(torch.zeros(4000, 3), truth)) < 0.05
