"""The bootstrap over groups: against a loop, its coverage, and its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from featurewise.analysis.bootstrap import clustered_bootstrap
from featurewise.common.rng import seeded_rng


def test_it_samples_whole_groups() -> None:
    values = torch.tensor([1.0, 0.0, 2.0, 5.0, 4.0])
    groups = torch.tensor([7, 7, 3, 9, 9])
    by_group = [[2.0], [1.0, 0.0], [5.0, 4.0]]  # in the order of their numbers
    chosen = torch.randint(3, (50, 3), generator=seeded_rng(4, "bootstrap"))
    means = []
    for row in chosen.tolist():
        sampled = [value for group in row for value in by_group[group]]
        means.append(sum(sampled) / len(sampled))
    wanted = torch.quantile(
        torch.tensor(means, dtype=torch.float64), torch.tensor([0.1, 0.9]).double()
    )
    low, high = clustered_bootstrap(values, groups, repeats=50, coverage=0.8, seed=4)
    assert [low, high] == pytest.approx(wanted.tolist())


def test_dependent_samples_widen_the_interval() -> None:
    rng = torch.Generator().manual_seed(0)
    groups = torch.arange(100).repeat_interleave(10)
    same = torch.randn(100, generator=rng).repeat_interleave(10)
    other = torch.randn(1_000, generator=rng)
    widths = []
    for values in (same, other):
        low, high = clustered_bootstrap(values, groups)
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[0] > 2.5 * widths[1]  # about √10


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ([1.0, float("nan")], {}),
        ([1.0, 2.0], {"coverage": 95.0}),
        ([1.0, 2.0], {"coverage": -1.0}),
        ([1.0, 2.0], {"repeats": 0}),
    ],
)
def test_settings_out_of_range_are_refused(values: list[float], settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be finite|must lie between"):
        clustered_bootstrap(torch.tensor(values), torch.arange(2), **settings)


def test_no_values_and_other_lengths_are_refused() -> None:
    for values, groups in (
        (torch.zeros(0), torch.zeros(0).long()),
        (torch.ones(3), torch.arange(2)),
    ):
        # Where shapes are checked at each call, these are refused before.
        with pytest.raises((ValueError, TypeCheckError)):
            clustered_bootstrap(values, groups)
