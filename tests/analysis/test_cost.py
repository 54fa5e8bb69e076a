"""Operations against hand counts, exponents of exact powers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from featurewise.analysis.cost import exponent, operations
from featurewise.core import ShapeError


def test_matrix_products_are_counted() -> None:
    def run(length: int) -> None:
        assert nn.Linear(3, 5)(torch.empty(length, 3)).device.type == "meta"
        torch.empty(length, 7) @ torch.empty(7, length)

    # A product of (a, b) and (b, c) takes a b c multiplications and as many additions.
    assert operations(run, (2, 10)) == [2 * (2 * 15 + 4 * 7), 2 * (10 * 15 + 100 * 7)]


def test_exponents() -> None:
    lengths = (8, 16, 128, 300)
    for power in (0.0, 1.0, 2.0, 2.5):
        costs = [3.0 * length**power for length in lengths]
        assert exponent(lengths, costs) == pytest.approx(power, abs=1e-12)
    assert 1 < exponent(lengths, [length + length**2 / 50 for length in lengths]) < 2


@pytest.mark.parametrize(
    ("lengths", "costs"), [((4, 4), (1, 2)), ((4, 8), (1,)), ((4, 8), (0, 1)), ((0, 8), (1, 1))]
)
def test_invalid_exponents_raise(lengths: tuple[int, ...], costs: tuple[float, ...]) -> None:
    with pytest.raises(ShapeError, match="two lengths"):
        exponent(lengths, costs)
