"""Fréchet distance: closed forms of normal distributions, and the matrix root by hand."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from featurewise.analysis.frechet import frechet_distance


def features(count: int, width: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=rng)
    return torch.randn(count, width, generator=rng) @ mix + torch.randn(width, generator=rng)


def test_a_set_has_no_distance_to_itself() -> None:
    some = features(60, 5, 0)
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-9)


def test_a_shift_by_a_vector_is_its_squared_length() -> None:
    some = features(60, 5, 0).double()
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0]).double()
    assert frechet_distance(some, some + shift) == pytest.approx(float(shift.square().sum()))


def test_in_one_dimension_it_is_the_squared_difference_of_means_and_deviations() -> None:
    one, other = features(40, 1, 1).double(), features(90, 1, 2).double()
    expected = (one.mean() - other.mean()) ** 2 + (one.std() - other.std()) ** 2
    assert frechet_distance(one, other) == pytest.approx(float(expected))


def test_it_is_the_formula_with_the_root_of_the_product() -> None:
    one, other = features(80, 4, 3).double(), features(70, 4, 4).double()
    first, second = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eig(first @ second)
    root = (vectors @ torch.diag(values.sqrt()) @ torch.linalg.inv(vectors)).real
    expected = (one.mean(0) - other.mean(0)).square().sum()
    expected = expected + (first + second - 2 * root).trace()
    assert frechet_distance(one, other) == pytest.approx(float(expected))
    assert frechet_distance(other, one) == pytest.approx(float(expected))


def test_too_few_samples_and_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises((ValueError, TypeCheckError), match="one width|Type-check"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(5, 2))
