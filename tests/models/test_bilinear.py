"""The bilinear transform against its sum, and FiLM as a special case."""

from __future__ import annotations

import torch

from featurewise.core import film
from featurewise.models.bilinear import Bilinear, append_one, bilinear, film_as_bilinear


def test_it_is_the_sum_over_all_products() -> None:
    layer = Bilinear(3, 2, 4).double()
    x, z = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for b in range(5):
        left, right = [*x[b].tolist(), 1.0], [*z[b].tolist(), 1.0]
        for k in range(4):
            for i in range(4):
                for j in range(3):
                    expected[b, k] += left[i] * layer.weight[k, i, j].detach() * right[j]
    torch.testing.assert_close(layer(x, z), expected)


def test_film_is_a_special_case() -> None:
    x, gamma, beta = torch.randn(3, 7, 5, dtype=torch.float64)
    weight = film_as_bilinear(5, torch.float64)
    y = bilinear(append_one(x), weight, torch.cat((gamma, beta), dim=1))
    torch.testing.assert_close(y, film(x, gamma, beta), rtol=0, atol=1e-15)
    assert torch.linalg.matrix_rank(weight).tolist() == [2] * 5
    assert weight.sum() == 10


def test_a_layer_can_hold_a_film_generator() -> None:
    torch.manual_seed(0)
    x, z = torch.randn(6, 3), torch.randn(6, 2)
    scale, shift = torch.randn(2, 3, 3)  # of [z; 1]
    layer = Bilinear(3, 2, 3)
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(3):
            layer.weight[k, k] = scale[k]
            layer.weight[k, 3] = shift[k]
    longer = append_one(z)
    torch.testing.assert_close(layer(x, z), film(x, longer @ scale.T, longer @ shift.T))
