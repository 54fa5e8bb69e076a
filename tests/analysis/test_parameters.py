import pytest
import torch

from featurewise.analysis import is_feature_parameter, parameter_matrices, parameter_table
from featurewise.core import Affine, Gate, Layout, LayoutError, Site, TaskRepresentation
from featurewise.core.operation import LowRank, RowColumn


def batch() -> TaskRepresentation:
    layout = Layout((Site("low", 2, Affine()), Site("high", 3, Affine())))
    return TaskRepresentation(layout, torch.arange(20.0).reshape(2, 10) - 5.0)


def test_rows_have_the_parameters_of_their_site_feature_and_condition() -> None:
    task = batch()
    table = parameter_table(task)
    assert len(table.gamma) == 2 * (2 + 3)
    for i in range(len(table.gamma)):
        site = table.sites[int(table.site[i])]
        row, feature = int(table.condition[i]), int(table.feature[i])
        assert table.gamma[i] == 1.0 + task[site]["gamma"][row, feature]
        assert table.beta[i] == task[site]["beta"][row, feature]


def test_at_keeps_one_site() -> None:
    table = parameter_table(batch()).at("high")
    assert table.gamma.tolist() == [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]
    with pytest.raises(LayoutError, match="it has low, high"):
        table.at("middle")


def test_summary_counts_shares() -> None:
    summary = parameter_table(batch()).at("low").summary()
    # effective gamma: -4, -3, 6, 7; beta: -3, -2, 7, 8
    assert summary["gamma_min"] == -4.0
    assert summary["beta_max"] == 8.0
    assert summary["gamma_negative"] == 0.5
    assert summary["beta_negative"] == 0.5
    assert summary["gamma_near_zero"] == 0.0


def test_other_operations_and_single_tasks_raise() -> None:
    gate = Layout((Site("gate", 2, Gate()),))
    with pytest.raises(LayoutError, match="site 'gate'"):
        parameter_table(TaskRepresentation.identity(gate, 2))
    with pytest.raises(LayoutError, match=r"\(B, N\)"):
        parameter_table(TaskRepresentation(batch().layout, batch().flat[0]))
    with pytest.raises(LayoutError, match="no sites"):
        parameter_table(TaskRepresentation(Layout(()), torch.zeros(2, 0)))


def test_matrices_hold_effective_values_of_any_operation() -> None:
    layout = Layout((Site("a", 3, Gate()), Site("b", 4, LowRank(2))))
    task = TaskRepresentation(layout, torch.randn(5, layout.size))
    found = parameter_matrices(task)
    assert list(found) == [("a", "gamma"), ("b", "left"), ("b", "right")]
    effective = task.effective()
    for (site, name), values in found.items():
        assert torch.equal(values, effective[site][name].flatten(1))
    for odd in (task.mean(), task[:0]):
        with pytest.raises(LayoutError, match="expected a batch"):
            parameter_matrices(odd)


def test_rows_columns_and_factors_are_no_parameters_of_features() -> None:
    """Also where there are as many rows as features, or as many entries."""
    square = Site("a", 6, RowColumn(), extent=(6, 4))
    names = [name for name in square.parameters if is_feature_parameter(square, name)]
    assert names == ["gamma", "beta"]
    low = Site("b", 4, LowRank(1))
    assert not any(is_feature_parameter(low, name) for name in low.parameters)
    assert is_feature_parameter(Site("c", 1, Gate()), "gamma")
