"""Experiment: photographs in the styles of paintings, and which painting they look like."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import cast

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from featurewise.models.perceptual import LossNetwork, perception
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.style.style_transfer.method import (
    Config,
    StyleTransfer,
    TransferBatch,
    objective,
)
from featurewise.systems.style.style_transfer.tables import mixtures, new_styles
from featurewise.systems.style_classifier import StyleClassifier
from featurewise.systems.style_measures import REAL, by_photograph, versions_of
from featurewise.training.steppers import Supervised
from featurewise.worlds.pictures import (
    central_crop,
    held_out_photographs,
    shown_photographs,
    style_sheet,
)

ACCURACY = Metric(
    "accuracy",
    "share of test photographs, each in every style, that a classifier of crops of the "
    "paintings assigns to the requested one",
    "%",
    "higher",
)
MATCHED = Metric(
    "matched styles",
    "share of test photographs and styles for which, of the photograph in all styles, the "
    "classifier gives this style's painting its greatest probability to the image in it",
    "%",
    "higher",
)
CONTENT = Metric(
    "content loss",
    "squared distance of the features from the photograph's, over their square",
    "",
    "lower",
)
STYLE = Metric(
    "style loss",
    "squared distance of the Gram matrices from the painting's, over their square, the "
    "mean over layers",
    "",
    "lower",
)
OF_STYLE = tuple(
    Metric(
        f"loss of style {number}",
        f"content loss plus weighted style loss in style {number}, which a network of its "
        "own is trained for, too",
        "",
        "lower",
    )
    for number in (1, 2)
)


@lru_cache(maxsize=4)
def classifier(config: Config) -> StyleClassifier:
    """The classifier of all trained paintings."""
    other: dict[LossNetwork, LossNetwork] = {
        "hed_vgg16": "mobilenet_v2",
        "mobilenet_v2": "hed_vgg16",
        "random": "random",
    }
    return StyleClassifier(
        perception(other[config.loss_network]),
        config.paintings(*config.styles),
        size=config.size,
        painting_size=config.painting_size,
        count=config.classifier_crops,
    )


def painted(
    network: StyleTransfer, images: UInt8[Tensor, "N 3 S S"], style: int
) -> Float[Tensor, "N 3 S S"]:
    """Photographs in one style."""
    styles = torch.full((len(images),), style)
    return cast("Tensor", network(TransferBatch(images, styles, styles))).float()


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Losses and recognised styles of test photographs; mixtures; new styles."""
    images = held_out_photographs(config.images, config.size, config.test_images)
    first = config.only or 0
    classify = classifier(
        replace(config, only=None, condition="affine", shuffled_styles=False)
    )
    loss = objective(config, config.paintings(*config.trained))
    logits, content, style = [], [], []
    with trained.evaluating() as network, torch.no_grad():
        network = cast("StyleTransfer", network)
        for number in range(len(config.trained)):
            result = painted(network, images, number)
            ids = torch.full((len(images),), number)
            parts = loss.losses(result, images / 255, ids)
            logits.append(classify.logits(result))
            content.append(parts[0].mean())
            style.append(parts[1].mean())
    totals = torch.stack(content) + config.style_weight * torch.stack(style)
    found: dict[Metric, Proportion | float] = {
        REAL: classify.real_accuracy,
        CONTENT: float(torch.stack(content).mean()),
        STYLE: float(torch.stack(style).mean()),
    }
    for number, metric in enumerate(OF_STYLE):
        if first <= number < first + len(config.trained):
            found[metric] = float(totals[number - first])
    if config.only is None and config.condition != "none":
        found |= mixtures(trained, config, images, classify, loss)
        found |= new_styles(trained, config, images)
    scores = torch.stack(logits).log_softmax(2)  # by style, photograph and painting
    styles = torch.arange(first, first + len(config.trained))
    hits = scores.argmax(2) == styles[:, None]
    if config.only is None:
        matched = styles[:, None] == scores.argmax(0).T
        found[MATCHED] = by_photograph(matched)
    return Measurement.of(by_photograph(hits), found)


def versions(config: Config) -> dict[str, str]:
    """Name and version of the packages that the images come from."""
    return versions_of(config.images)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """A row for each photograph: itself, then in each style; above them the paintings."""
    shown = shown_photographs(config.images, config.size)
    works = [
        central_crop(each.image, config.size)
        for each in config.paintings(*config.trained)
    ]
    with trained.evaluating() as network, torch.no_grad():
        network = cast("StyleTransfer", network)
        columns = [
            (255 * painted(network, shown, number)).round().byte()
            for number in range(len(config.trained))
        ]
    return style_sheet(shown, torch.stack(works), columns)
