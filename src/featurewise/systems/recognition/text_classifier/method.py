"""Method of classifiers from text: a hypernetwork gives weights and filters of each class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featurewise.core import ShapeError
from featurewise.models.trunks import PoolingTrunk
from featurewise.study import system
from featurewise.systems.glyph_names import NameConfig, name_embeddings, require_images
from featurewise.training.errors import ExperimentError
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.glyphs.labelled import ImageBatch

KERNEL = 3
"""Height and width of a predicted filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(NameConfig):
    """One hypernetwork, and the network whose last layer it gives.

    Attributes:
        predicts: what the text of a class gives: the weights of its output ("weights"),
            filters for the convolutional maps ("filters"), or "both"; or "embedding":
            nothing, the text itself stands for the weights, as in DeViSE.
        hidden: hidden units of the hypernetwork.
        width: numbers that features are mapped to, which is how many weights a class has.
        maps: maps that the convolutional maps are reduced to, so many filters a class has.
    """

    predicts: Literal["weights", "filters", "both", "embedding"] = "both"
    hidden: int = 100
    width: int = 50
    maps: int = 5

    def __post_init__(self) -> None:
        system.Config.__post_init__(self)
        if self.features != "convolutions":
            raise ExperimentError(
                f"features must be 'convolutions' here, got {self.features!r}: filters need "
                "maps"
            )


class TextClassifier(nn.Module):
    """Scores of images for classes, by weights and filters that come from their texts.

    The score is ``w(t) · g(v)``, the mean over positions of ``sum over i of w_i(t) * a_i``,
    or their sum.
    """

    text: Float[Tensor, "K F"]

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.predicts, self.maps = config.predicts, config.maps
        self.side = config.image_size
        text = name_embeddings(config)
        self.register_buffer("text", text.clone())
        dimensions = text.shape[1]
        blocks = 2 if config.predicts == "filters" else 3
        self.trunk = PoolingTrunk(config.channels, blocks)
        flat = config.channels * (config.image_size // 8) ** 2
        self.bias = nn.Parameter(torch.tensor(-4.0))  # few of the classes are right
        if config.predicts == "embedding":
            self.embed = nn.Linear(flat, dimensions, bias=False)
            self.scale = nn.Parameter(torch.tensor(1.0))
            return
        self.hidden = nn.Sequential(nn.Linear(dimensions, config.hidden), nn.ReLU())
        if config.predicts != "filters":
            self.embed = nn.Linear(flat, config.width)
            self.weights = nn.Linear(config.hidden, config.width)
        if config.predicts != "weights":
            self.reduce = nn.Conv2d(config.channels, config.maps, 1)
            self.filters = nn.Linear(config.hidden, config.maps * KERNEL**2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, batch: ImageBatch) -> Float[Tensor, "B K"]:
        """Scores for all classes, seen or not.

        Raises:
            ShapeError: the images are of another size.
        """
        require_images(batch.images, self.side)
        first, second, *third = self.trunk.blocks
        maps = second(first(batch.images))
        if self.predicts == "filters":
            return self.by_filters(maps) + self.bias
        features = self.embed(third[0](maps).flatten(1))
        if self.predicts == "embedding":
            products: Tensor = self.scale * features @ self.text.T + self.bias
            return products
        scores: Tensor = features @ self.weights(self.hidden(self.text)).T + self.bias
        return scores + self.by_filters(maps) if self.predicts == "both" else scores

    def by_filters(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """The mean over positions of the maps' convolution with the filters of each class.

        Raises:
            ShapeError: there are other channels, or the network predicts no filters.
        """
        if self.predicts not in ("filters", "both"):
            raise ShapeError(f"a network that predicts {self.predicts!r} has no filters")
        if maps.ndim != 4 or maps.shape[1] != self.reduce.in_channels:
            raise ShapeError(
                f"maps must be (B, {self.reduce.in_channels}, H, W), got {tuple(maps.shape)}"
            )
        filters = self.filters(self.hidden(self.text))
        filters = filters.unflatten(1, (self.maps, KERNEL, KERNEL))
        reduced = F.relu(self.reduce(maps))
        return F.conv2d(reduced, filters, padding=KERNEL // 2).mean((2, 3))


def objective(
    seen: int, network: nn.Module, batch: ImageBatch
) -> tuple[Tensor, Metrics]:
    """Binary cross-entropy of each image and each of the seen classes, the first ones."""
    scores = network(batch)[:, :seen].float()
    targets = F.one_hot(batch.labels, seen).to(scores)
    loss = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    return loss.sum(1).mean(), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam with a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Supervised(
        network,
        partial(objective, config.classes.seen),
        optimizer,
        schedule=cosine(config.steps),
    )
