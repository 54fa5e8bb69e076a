"""Gated-attention reader: equations 3 to 6 and the attention sum as code; loss and optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from featurewise.study import system
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.text import ClozeBatch, ClozeName

Gating: TypeAlias = Literal["mul", "concat", "sum", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        gating: what becomes of a document token and its query vector, see `gated`.
        hops: K, GRUs of the document in a row; between two of them stands a gate.
        shuffled: whether the query is that of another document.
        embedding: features of a word.
        width: units of a GRU in each direction, where there are several hops.
        one_hop_width: the same for one hop, so that it has about as many weights.
        learning_rate: of Adam.
        clip: largest norm of the gradient.
        dropout: share of the gated features that are set to zero in training.
        batch_size: questions in a batch.
        data: see `ClozeName`.
    """

    gating: Gating = "mul"
    hops: int = 3
    shuffled: bool = False
    embedding: int = 32
    width: int = 32
    one_hop_width: int = 70
    learning_rate: float = 5e-3
    clip: float = 10.0
    dropout: float = 0.0
    batch_size: int = 64
    data: ClozeName = "stories"


def gated(
    d: Float[Tensor, "B T C"], q: Float[Tensor, "B T C"], gating: Gating
) -> Float[Tensor, "B T D"]:
    """Eq. 6: each feature of a document token is scaled by that of its query vector.

    The product has no bounds: there is no sigmoid. The other functions are the paper's
    alternatives; "none" keeps the query from the document.
    """
    if gating == "mul":
        return d * q
    if gating == "concat":
        return torch.cat((d, q), 2)
    return d + q if gating == "sum" else d


class BiGRU(nn.Module):
    """States of two GRUs side by side, one of which reads from the end.

    Both read padding only after their text, so that its states are those without padding.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.forwards = nn.GRU(inputs, width, batch_first=True)
        self.backwards = nn.GRU(inputs, width, batch_first=True)

    def forward(
        self, x: Float[Tensor, "B T I"], lengths: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B T C"]:
        """2 * width features of each token; those of padding mean nothing."""
        ahead, _ = self.forwards(x)
        behind, _ = self.backwards(reversed_to(x, lengths))
        return torch.cat((ahead, reversed_to(behind, lengths)), 2)


def reversed_to(
    x: Float[Tensor, "B T C"], lengths: Int64[Tensor, " B"]
) -> Float[Tensor, "B T C"]:
    """Each text from its last token to its first; what follows it stays."""
    t = torch.arange(x.shape[1], device=x.device)
    place = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)
    return x.gather(1, place[:, :, None].expand_as(x))


class Reader(nn.Module):
    """Figure 1: hops of GRUs over the document, each gated by what it attends in the query."""

    def __init__(self, config: Config, words: int) -> None:
        super().__init__()
        width = config.one_hop_width if config.hops == 1 else config.width
        self.gating, self.dropout = config.gating, config.dropout
        self.embed = nn.Embedding(words, config.embedding)
        between = 4 * width if config.gating == "concat" else 2 * width
        self.documents = nn.ModuleList(
            BiGRU(between if hop else config.embedding, width)
            for hop in range(config.hops)
        )
        self.queries = nn.ModuleList(
            BiGRU(config.embedding, width)
            for hop in range(config.hops)
            if config.gating != "none" or hop == config.hops - 1
        )

    def forward(self, batch: ClozeBatch) -> Float[Tensor, "B C"]:
        """Probabilities of the candidates, eq. 8; 0 for one that the document lacks."""
        s, _ = self.read(batch)
        named = batch.candidates[:, :, None] == batch.document[:, None]  # I(c, d)
        sums = torch.einsum("bct,bt->bc", named.to(s.dtype), s)
        return sums / sums.sum(1, keepdim=True).clamp_min(1e-30)

    def read(
        self, batch: ClozeBatch
    ) -> tuple[Float[Tensor, "B T"], list[Float[Tensor, "B T Q"]]]:
        """Attention over the document, eq. 7; and over the query between hops, eq. 4."""
        x, y = self.embed(batch.document), self.embed(batch.query)
        no_query = ~present(batch.query_lengths, y)[:, None]
        attended = []
        for hop, document in enumerate(self.documents):
            d = document(x, batch.document_lengths)
            x = d
            if hop == len(self.documents) - 1 or self.gating == "none":
                continue
            q = self.queries[hop](y, batch.query_lengths)
            scores = torch.einsum("btc,bqc->btq", d, q).float()
            alpha = scores.masked_fill(no_query, -torch.inf).softmax(2)
            own = torch.einsum("btq,bqc->btc", alpha.to(q.dtype), q)  # eq. 5
            x = F.dropout(gated(d, own, self.gating), self.dropout, self.training)
            attended.append(alpha)
        q = self.queries[-1](y, batch.query_lengths)
        blank = q[torch.arange(len(q)), batch.blank]  # where the word is missing
        logits = torch.einsum("btc,bc->bt", d, blank).float()
        no_text = ~present(batch.document_lengths, d)
        return logits.masked_fill(no_text, -torch.inf).softmax(1), attended


def present(
    lengths: Int64[Tensor, " B"], x: Float[Tensor, "B T C"]
) -> Bool[Tensor, "B T"]:
    """Where the tokens of a text are."""
    return torch.arange(x.shape[1], device=x.device) < lengths[:, None]


def objective(network: nn.Module, batch: ClozeBatch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers."""
    found = network(batch)
    right = found.argmax(1) == batch.labels
    loss = F.nll_loss(found.clamp_min(1e-30).log(), batch.labels)
    return loss, {"accuracy": right.float().mean()}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; the gradient is clipped."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Supervised(network, objective, optimizer, clip=config.clip)
