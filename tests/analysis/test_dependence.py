import statistics

import pytest
import torch

from featurewise.analysis import dependence
from featurewise.core import ShapeError


def test_shares_against_a_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(40, 3, generator=rng) * torch.tensor([1.0, 2.0, 0.1])
    values += torch.tensor([5.0, -1.0, 0.0])
    classes = torch.randint(0, 4, (40,), generator=rng)
    values[classes == 2] += 3.0
    columns = values.double().T.tolist()
    whole = statistics.pvariance([v for column in columns for v in column])
    samples = statistics.fmean(statistics.pvariance(column) for column in columns)
    between = []
    for column in columns:
        mean = statistics.fmean(column)
        for c in classes.tolist():
            own = [v for v, other in zip(column, classes.tolist(), strict=True) if other == c]
            between.append((statistics.fmean(own) - mean) ** 2)
    found = dependence(values, classes)
    assert found.over_samples == pytest.approx(samples / whole)
    assert found.over_classes == pytest.approx(statistics.fmean(between) / samples)


def test_extreme_shares() -> None:
    classes = torch.tensor([0, 0, 3, 3])
    same_rows = torch.tensor([0.0, 1.0, 2.0]).expand(4, 3)
    assert dependence(same_rows, classes).over_samples == 0.0
    assert dependence(same_rows, classes).over_classes == 0.0
    same_columns = torch.tensor([[0.0], [0.0], [1.0], [1.0]]).expand(4, 3)
    assert dependence(same_columns, classes).over_samples == pytest.approx(1.0)
    assert dependence(same_columns, classes).over_classes == pytest.approx(1.0)
    within = torch.tensor([[0.0], [1.0], [0.0], [1.0]]).expand(4, 3)
    assert dependence(within, classes).over_classes == pytest.approx(0.0)
    assert dependence(torch.ones(4, 3), classes).over_samples == 0.0


@pytest.mark.traced
def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ShapeError, match=r"got \(4, 3\) and \(3,\)"):
        dependence(torch.ones(4, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"got \(4,\)"):
        dependence(torch.ones(4), torch.zeros(4, dtype=torch.int64))
