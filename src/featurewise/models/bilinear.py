"""Bilinear transforms of features and a condition, and FiLM as a special case."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Bilinear(nn.Module):
    """``y_k = [x; 1]ᵀ W_k [z; 1]``: all products of features and conditions, and linear terms.

    Tenenbaum & Freeman 2000, *Separating Style and Content with Bilinear Models*, eq. 1.

    Args:
        features: width C of x.
        condition_features: width Z of the condition.
        out_features: width K of y.
    """

    def __init__(self, features: int, condition_features: int, out_features: int) -> None:
        super().__init__()
        shape = out_features, features + 1, condition_features + 1
        self.weight = nn.Parameter(torch.randn(shape) / (shape[1] * shape[2]) ** 0.5)

    def forward(
        self, x: Float[Tensor, "B C"], condition: Float[Tensor, "B Z"]
    ) -> Float[Tensor, "B K"]:
        """The K outputs of each sample."""
        return bilinear(append_one(x), self.weight, append_one(condition))


def bilinear(
    x: Float[Tensor, "B I"], weight: Float[Tensor, "K I J"], z: Float[Tensor, "B J"]
) -> Float[Tensor, "B K"]:
    """``y_k = xᵀ W_k z``."""
    return torch.einsum("bi,kij,bj->bk", x, weight, z)


def append_one(x: Float[Tensor, "B C"]) -> Float[Tensor, "B D"]:
    """``[x; 1]``, so that a linear map of it has a bias; D is C + 1."""
    return torch.cat((x, torch.ones_like(x[:, :1])), dim=1)


def film_as_bilinear(width: int, dtype: torch.dtype | None = None) -> Float[Tensor, "C I J"]:
    """W with ``bilinear([x; 1], W, [γ; β]) = γ ⊙ x + β``: I is C + 1, J is 2·C.

    Each slice W_k has two ones, at (k, k) and (C, C + k), so its rank is two.

    Args:
        width: number of features C.
        dtype: of W; default: the default dtype of torch.
    """
    weight = torch.zeros(width, width + 1, 2 * width, dtype=dtype)
    k = torch.arange(width)
    weight[k, k, k] = weight[k, width, width + k] = 1
    return weight
