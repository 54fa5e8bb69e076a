"""Attention over positions: the alternative to which feature-wise modulation is compared."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Queries from one sequence attend to the positions of another: ``softmax(q kᵀ / sqrt(C)) v``.

    Vaswani et al. 2017, *Attention Is All You Need*, eq. 1, one head.

    Args:
        query_features: width Z of the queries.
        channels: width C of the features at the positions, of keys and of values.
    """

    def __init__(self, query_features: int, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_features, channels)
        # No bias: it would add the same number to all scores of a query, which softmax ignores.
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)

    def weights(
        self, queries: Float[Tensor, "N Q Z"], features: Float[Tensor, "N L C"]
    ) -> Float[Tensor, "N Q L"]:
        """Attention weights of each query over the L positions; they sum to one."""
        scores = self.query(queries) @ self.key(features).mT
        weights: Tensor = (scores / math.sqrt(features.shape[2])).softmax(dim=2)
        return weights

    def forward(
        self, queries: Float[Tensor, "N Q Z"], features: Float[Tensor, "N L C"]
    ) -> Float[Tensor, "N Q C"]:
        """The attended values of each query."""
        attended: Tensor = self.weights(queries, features) @ self.value(features)
        return attended
