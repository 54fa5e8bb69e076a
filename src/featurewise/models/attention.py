"""Attention over positions: the alternative to which feature-wise modulation is compared."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StackedAttention(nn.Module):
    """Stacked attention: several rounds, each of which adds the attended features to the query.

    ``p = softmax(W tanh(W_v v + W_u u)); u <- u + Σ p v`` per round (Yang et al. 2016, *Stacked
    Attention Networks for Image Question Answering*, eq. 15 to 19).

    Args:
        channels: width C of the map and of the query.
        hidden: width of the attention layer.
        rounds: number of attention rounds.
    """

    def __init__(self, channels: int, hidden: int, rounds: int = 2) -> None:
        super().__init__()
        self.value = nn.ModuleList(nn.Conv2d(channels, hidden, 1) for _ in range(rounds))
        self.query = nn.ModuleList(nn.Linear(channels, hidden, bias=False) for _ in range(rounds))
        self.score = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in range(rounds))

    def forward(
        self, x: Float[Tensor, "N C H W"], query: Float[Tensor, "N C"]
    ) -> Float[Tensor, "N C"]:
        """The query after its last round."""
        for value, project, score in zip(self.value, self.query, self.score, strict=True):
            hidden = torch.tanh(value(x) + project(query)[:, :, None, None])
            weight = score(hidden).flatten(2).softmax(dim=2)
            query = query + (x.flatten(2) * weight).sum(dim=2)
        return query


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
