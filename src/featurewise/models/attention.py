"""Attention over places: the alternative that feature-wise modulation is measured against."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StackedAttention(nn.Module):
    """Stacked attention: a query looks at a map several times and adds what it saw to itself.

    ``p = softmax(W tanh(W_v v + W_u u)); u <- u + Σ p v`` per round (Yang et al. 2016, *Stacked
    Attention Networks for Image Question Answering*, eq. 15 to 19).

    Args:
        channels: width C of the map and of the query.
        hidden: width of the attention layer.
        rounds: how often the query looks.
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
        for value, ask, score in zip(self.value, self.query, self.score, strict=True):
            hidden = torch.tanh(value(x) + ask(query)[:, :, None, None])
            weight = score(hidden).flatten(2).softmax(dim=2)
            query = query + (x.flatten(2) * weight).sum(dim=2)
        return query


class CrossAttention(nn.Module):
    """Queries from one sequence look at the places of another: ``softmax(q kᵀ / sqrt(C)) v``.

    Vaswani et al. 2017, *Attention Is All You Need*, eq. 1, one head.

    Args:
        asking: width Z of the sequence that asks.
        channels: width C of the places, of keys and of values.
    """

    def __init__(self, asking: int, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(asking, channels)
        # A bias of the keys would move all scores of a query alike, which softmax does not see.
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)

    def weights(
        self, queries: Float[Tensor, "N Q Z"], places: Float[Tensor, "N L C"]
    ) -> Float[Tensor, "N Q L"]:
        """How much each query looks at each place; they sum to one."""
        scores = self.query(queries) @ self.key(places).mT
        weights: Tensor = (scores / math.sqrt(places.shape[2])).softmax(dim=2)
        return weights

    def forward(
        self, queries: Float[Tensor, "N Q Z"], places: Float[Tensor, "N L C"]
    ) -> Float[Tensor, "N Q C"]:
        """What each query saw."""
        seen: Tensor = self.weights(queries, places) @ self.value(places)
        return seen
