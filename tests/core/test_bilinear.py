"""FiLM as a special case of the bilinear transform of Tenenbaum & Freeman 2000."""

from __future__ import annotations

import torch
from torch import Tensor

from featurewise.core import LowRank, film

C = 4


def bilinear(x: Tensor, weight: Tensor, z: Tensor) -> Tensor:
    """``y_k = x^T W_k z`` as an explicit sum. Shapes (I,), (K, I, J), (J,)."""
    y = torch.zeros(len(weight), dtype=x.dtype)
    for k, matrix in enumerate(weight):
        for i in range(len(x)):
            for j in range(len(z)):
                y[k] += x[i] * matrix[i, j] * z[j]
    return y


def film_weight(width: int) -> Tensor:
    """W of FiLM for x augmented by one and z = [gamma; beta]: two ones in every W_k."""
    weight = torch.zeros(width, width + 1, 2 * width, dtype=torch.float64)
    for k in range(width):
        weight[k, k, k] = 1.0
        weight[k, width, width + k] = 1.0
    return weight


def test_film_is_a_bilinear_transform_exactly() -> None:
    x, gamma, beta = torch.randn(3, C, dtype=torch.float64)
    augmented = torch.cat([x, torch.ones(1, dtype=torch.float64)])
    y = bilinear(augmented, film_weight(C), torch.cat([gamma, beta]))
    assert torch.equal(y, film(x, gamma, beta, axis=0, batch_axis=None))


def test_every_slice_has_rank_two() -> None:
    assert torch.linalg.matrix_rank(film_weight(C)).tolist() == [2] * C


def test_low_rank_is_bilinear_in_features_and_factors() -> None:
    # z holds the products U_kr (E + V)_rj; W_k picks those of row k and sums over r.
    rank = 2
    x = torch.randn(C, dtype=torch.float64)
    values = {
        "left": torch.randn(C, rank, dtype=torch.float64),
        "right": torch.randn(rank, C, dtype=torch.float64),
    }
    operation = LowRank(rank)
    felt = operation.effective(values)
    z = torch.stack([felt["left"][:, r, None] * felt["right"][r] for r in range(rank)]).flatten()
    weight = torch.zeros(C, C, rank, C, C, dtype=torch.float64)
    for k in range(C):
        for j in range(C):
            weight[k, j, :, k, j] = 1.0
    expected = x + bilinear(x, weight.flatten(2), z)
    torch.testing.assert_close(operation(x, values, axis=0, batch_axis=None), expected)


def test_low_rank_of_full_rank_contains_the_scale_of_film() -> None:
    x, offset = torch.randn(2, C, dtype=torch.float64)
    basis = LowRank(C).effective(
        {"left": torch.zeros(C, C).double(), "right": torch.zeros(C, C).double()}
    )["right"]
    values = {"left": torch.diag(offset) @ basis.T, "right": torch.zeros(C, C).double()}
    y = LowRank(C)(x, values, axis=0, batch_axis=None)
    torch.testing.assert_close(y, (1 + offset) * x)


def test_change_of_features_has_no_more_than_the_rank() -> None:
    x = torch.eye(C, dtype=torch.float64)
    for rank in (1, 2, 3):
        values = {"left": torch.randn(C, rank).double(), "right": torch.randn(rank, C).double()}
        delta = LowRank(rank)(x, values) - x
        assert torch.linalg.matrix_rank(delta).item() == rank
