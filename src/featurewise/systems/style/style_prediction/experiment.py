"""Experiment: photographs in styles that were never trained on, by one look at each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from featurewise.models.perceptual import LossNetwork, perception
from featurewise.models.style_features import style_features
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.style.style_prediction.method import (
    Config,
    Objective,
    StylePrediction,
    loss_network,
)
from featurewise.systems.style.style_prediction.sources import (
    SeenStyles,
    same,
    seen,
    works,
)
from featurewise.systems.style_classifier import StyleClassifier
from featurewise.systems.style_measures import (
    MATCHED,
    REAL,
    by_photograph,
    matched,
    versions_of,
)
from featurewise.training.steppers import Supervised
from featurewise.worlds.pictures import (
    central_crop,
    crops,
    held_out_photographs,
    shown_photographs,
    style_sheet,
    with_shorter_side,
)

STYLE = Metric(
    "style loss",
    "squared distance of the Gram matrices from the painting's, over their square, the mean "
    "over layers, of test photographs in paintings that were never trained on",
    "",
    "lower",
)
OWN = Metric(
    "style loss of photographs",
    "the same of the photographs themselves: nothing is painted",
    "",
)
CONTENT = Metric(
    "content loss",
    "squared distance of the features from the photograph's, over their square, in these "
    "paintings",
    "",
    "lower",
)
STRIPES = Metric(
    "style loss of stripes",
    "style loss of test photographs in striped patterns that were never trained on: "
    "diagonal stripes and waves",
    "",
    "lower",
)
MONOTONE = Metric(
    "monotone mixtures",
    "share of steps of a quarter, from the γ and β that are predicted for the photograph "
    "itself (w = 0) to those of an unseen painting (w = 1), in which the style loss falls",
    "%",
    "higher",
)
NEAREST = Metric(
    "nearest crops",
    "share of crops of right halves of unseen paintings whose embedding is nearest, by "
    "cosine, to that of a crop of the same painting's left half",
    "%",
    "higher",
)
NEAREST_BEFORE = Metric(
    "nearest crops by features",
    "the same by the encoder's features, before the embedding",
    "%",
    "higher",
)
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values of w."""


@dataclass(frozen=True)
class Tested:
    """What the images of a config are measured by, whatever its arm.

    Attributes:
        photographs: of the test.
        own: what the predictor sees of them.
        unseen: what fixed networks see of the middle of each unseen painting.
        stripes: the same of the striped patterns.
        loss: content and style loss.
        classify: says which unseen painting an image looks like.
        known: features of crops of the unseen paintings' left halves.
        queries: those of their right halves.
        labels: painting of each of these crops.
    """

    photographs: UInt8[Tensor, "P 3 H W"]
    own: Float[Tensor, "P F"]
    unseen: SeenStyles
    stripes: SeenStyles
    loss: Objective
    classify: StyleClassifier
    known: Float[Tensor, "K F"]
    queries: Float[Tensor, "K F"]
    labels: Int64[Tensor, " K"]

    def losses(
        self, painted: Float[Tensor, "P 3 H W"], styles: SeenStyles, number: int
    ) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
        """Content and style loss of all photographs in one style."""
        targets = tuple(
            each[number].expand(len(painted), -1, -1) for each in styles.grams
        )
        return self.loss.losses(painted, self.photographs / 255, targets)


def middles(config: Config, *, made: bool) -> UInt8[Tensor, "S 3 H W"]:
    """The middle of each style that is tested: paintings, or striped patterns made by us."""
    found = works(config, config.stripes if made else config.unseen, made=made)
    return torch.stack([central_crop(each.image, config.size) for each in found])


@lru_cache(maxsize=4)
def tested(config: Config) -> Tested:
    """See `Tested`; ``config`` is without what an arm changes."""
    photographs = held_out_photographs(config.images, config.size, config.test_images)
    paintings = works(config, config.unseen, made=False)
    # A third network: neither the predictor's nor that of the losses.
    other: LossNetwork = "random" if config.encoder == "random" else "mobilenet_v2"
    halves: list[list[Tensor]] = [[], []]
    for number, work in enumerate(paintings):
        image = with_shorter_side(work.image, config.painting_size)
        middle = max(image.shape[2] // 2, config.size)
        for side, half in enumerate((image[..., :middle], image[..., -middle:])):
            some = crops(
                half, config.size, config.painting_crops, seed=2 * number + side
            )
            halves[side].append(style_features(config.encoder, some))
    return Tested(
        photographs,
        style_features(config.encoder, photographs),
        seen(config, middles(config, made=False)),
        seen(config, middles(config, made=True)),
        Objective(loss_network(config), config.style_weight),
        StyleClassifier(
            perception(other),
            paintings,
            size=config.size,
            painting_size=config.painting_size,
            count=config.classifier_crops,
        ),
        torch.cat(halves[0]),
        torch.cat(halves[1]),
        torch.arange(len(paintings)).repeat_interleave(config.painting_crops),
    )


def nearest(
    queries: Float[Tensor, "K D"],
    known: Float[Tensor, "K D"],
    labels: Int64[Tensor, " K"],
) -> float:
    """Share of queries whose nearest known vector, by cosine, has the same label."""
    cosines = F.normalize(queries, dim=1) @ F.normalize(known, dim=1).T
    return float((labels[cosines.argmax(1)] == labels).float().mean())


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """All test photographs in all unseen styles; mixtures; neighbours of embeddings."""
    test = tested(same(config))
    photographs = test.photographs / 255
    images, content, style, striped, own, steps = [], [], [], [], [], []
    with trained.evaluating() as network, torch.no_grad():
        network = cast("StylePrediction", network)
        for number, features in enumerate(torch.split(test.unseen.features, 1)):
            path = []
            for w in QUARTERS:
                # γ and β are affine in the features: this is the mixture of γ and β.
                painted = network.paint(photographs, torch.lerp(test.own, features, w))
                losses = test.losses(painted, test.unseen, number)
                path.append(losses[1])
            images.append(painted)
            content.append(losses[0])
            style.append(losses[1])
            steps.append(torch.stack(path))
            own.append(test.losses(photographs, test.unseen, number)[1])
        for number, features in enumerate(torch.split(test.stripes.features, 1)):
            painted = network.paint(photographs, features)
            striped.append(test.losses(painted, test.stripes, number)[1])
        embedded = network.embed(test.queries), network.embed(test.known)
    named, prefers = matched(test.classify, torch.stack(images))
    return Measurement.of(
        by_photograph(named),
        {
            MATCHED: by_photograph(prefers),
            REAL: test.classify.real_accuracy,
            STYLE: float(torch.stack(style).mean()),
            OWN: float(torch.stack(own).mean()),
            CONTENT: float(torch.stack(content).mean()),
            STRIPES: float(torch.stack(striped).mean()),
            MONOTONE: by_photograph(torch.stack(steps).diff(dim=1) < 0),
            NEAREST: nearest(*embedded, test.labels),
            NEAREST_BEFORE: nearest(test.queries, test.known, test.labels),
        },
    )


def versions(config: Config) -> dict[str, str]:
    """Name and version of the packages that the images come from."""
    return versions_of(config.images)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """A row for each photograph: itself, then in each unseen style; above them the styles."""
    shown = shown_photographs(config.images, config.size)
    styles = torch.cat([middles(config, made=made) for made in (False, True)])
    with trained.evaluating() as network, torch.no_grad():
        network = cast("StylePrediction", network)
        columns = [
            (255 * network.paint(shown / 255, features)).round().byte()
            for features in torch.split(style_features(config.encoder, styles), 1)
        ]
    return style_sheet(shown, styles, columns)
