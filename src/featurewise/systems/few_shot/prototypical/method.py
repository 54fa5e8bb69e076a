"""Method of prototypical networks: distances to the mean of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.models.prototypes import embed_images, prototypes, squared_distances
from featurewise.models.trunks import PoolingTrunk
from featurewise.systems.episodes import (
    EpisodeConfig,
    query_loss,
)
from featurewise.training.optim import cosine
from featurewise.training.steppers import Episodic
from featurewise.worlds.glyphs.episodes import Episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(EpisodeConfig):
    """One network and its training.

    Attributes:
        embedding: "convolutions", or "pixels", which embeds an image as its own pixels.
        similarity: of a query and a prototype: minus the squared "distance", or the
            "cosine".
        learned_scale: whether similarities are multiplied by a learned number. It starts
            at 10 for cosines, and at random between 0 and 1 for distances.
        shuffled_labels: whether the support labels of an episode are permuted, as a
            control.
    """

    embedding: Literal["convolutions", "pixels"] = "convolutions"
    similarity: Literal["distance", "cosine"] = "distance"
    learned_scale: bool = False
    shuffled_labels: bool = False


class Prototypical(nn.Module):
    """Embedding, prototypes, similarities."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.way, self.similarity = config.way, config.similarity
        pixels = config.embedding == "pixels"
        self.embed: nn.Module = nn.Flatten() if pixels else PoolingTrunk(config.channels)
        self.scale: nn.Parameter | float = 1.0
        if config.learned_scale:
            start = (
                torch.tensor(10.0) if config.similarity == "cosine" else torch.rand(())
            )
            self.scale = nn.Parameter(start)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, batch: Episodes) -> Float[Tensor, "E Q N"]:
        """Logits of the classes for each query, equation 2."""
        support_size = batch.support.shape[1]
        vectors = embed_images(
            self.embed, torch.cat((batch.support, batch.query), dim=1)
        )
        support, queries = vectors[:, :support_size], vectors[:, support_size:]
        centres = prototypes(support, batch.support_labels, self.way)
        if self.similarity == "cosine":
            queries, centres = F.normalize(queries, dim=2), F.normalize(centres, dim=2)
            return self.scale * (queries @ centres.mT)
        return -self.scale * squared_distances(queries, centres)


def stepper(network: nn.Module, config: Config) -> Episodic:
    """Adam with a cosine schedule, on the cross-entropy of the queries."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Episodic(
        network, query_loss, optimizer, schedule=cosine(config.steps, floor=0.01)
    )
