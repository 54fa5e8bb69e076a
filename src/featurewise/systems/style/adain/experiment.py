"""Experiment: photographs in the styles of paintings that were never trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import cast

import torch
from PIL import Image

from featurewise.models.perceptual import LossNetwork, perception
from featurewise.study.results import Measurement
from featurewise.systems.style.adain.measures import (
    AT_LAYER,
    COLOURS_MATCHED,
    COLOURS_RECOGNISED,
    COLOURS_STYLE,
    CONTENT,
    MONOTONE,
    RECOGNISED,
    STYLE,
    Measures,
    error_at_layer,
)
from featurewise.systems.style.adain.method import (
    ArbitraryTransfer,
    Config,
    objective,
)
from featurewise.systems.style.adain.recognition import Recogniser, colours_of
from featurewise.systems.style.adain.sources import (
    seen,
    unseen_paintings,
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
    held_out_photographs,
    paintings_called,
    shown_photographs,
    style_sheet,
)

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values of α."""


@lru_cache(maxsize=4)
def measures(config: Config) -> Measures:
    """What the images of a config are measured by, whatever its arm."""
    other: LossNetwork = "mobilenet_v2" if config.encoder == "hed_vgg16" else "random"
    photographs = held_out_photographs(config.images, config.size, config.test_images)
    return Measures(
        objective(config),
        StyleClassifier(
            perception(other),
            paintings_called(config.images, *config.unseen),
            size=config.size,
            painting_size=config.painting_size,
            count=config.classifier_crops,
        ),
        Recogniser(perception(other), photographs / 255),
        seen(config, photographs)[-1],
        seen(config, unseen_paintings(config)),
    )


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """All test photographs in all unseen styles; mixtures with the photographs."""
    measure = measures(
        replace(
            config,
            given="mean and deviation",
            shuffled_styles=False,
            train_on_unseen=False,
        )
    )
    photographs = (
        held_out_photographs(config.images, config.size, config.test_images) / 255
    )
    styles = torch.split(measure.style[-1], 1)
    with trained.evaluating() as network, torch.no_grad():
        network = cast("ArbitraryTransfer", network)
        steps = [
            torch.stack([network.paint(measure.content, s, alpha) for s in styles])
            for alpha in QUARTERS
        ]
        losses = [measure.losses(images) for images in steps]
        errors = [error_at_layer(network, measure.content, s) for s in styles]
    fakes = torch.stack(
        [colours_of(each, photographs) for each in unseen_paintings(config) / 255]
    )
    with torch.no_grad():
        named, preferred = matched(measure.classify, steps[-1])
        recognised = measure.recognised(steps[-1])
        falling = torch.stack([style for _, style in losses]).diff(dim=0) < 0
        fake_matched = matched(measure.classify, fakes)[1]
        fake_style = measure.losses(fakes)[1]
        fake_recognised = measure.recognised(fakes)
    return Measurement.of(
        by_photograph(named),
        {
            REAL: measure.classify.real_accuracy,
            STYLE: float(losses[-1][1].mean()),
            CONTENT: float(losses[-1][0].mean()),
            MATCHED: by_photograph(preferred),
            RECOGNISED: by_photograph(recognised),
            AT_LAYER: sum(errors) / len(errors),
            MONOTONE: by_photograph(falling),
            COLOURS_STYLE: float(fake_style.mean()),
            COLOURS_MATCHED: by_photograph(fake_matched),
            COLOURS_RECOGNISED: by_photograph(fake_recognised),
        },
    )


def versions(config: Config) -> dict[str, str]:
    """Name and version of the packages that the images come from."""
    return versions_of(config.images)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """A row for each photograph: itself, then in each style; above them the paintings."""
    shown, works = (
        shown_photographs(config.images, config.size),
        unseen_paintings(config),
    )
    content, style = seen(config, shown)[-1], seen(config, works)[-1]
    with trained.evaluating() as network, torch.no_grad():
        network = cast("ArbitraryTransfer", network)
        columns = [
            (255 * network.paint(content, each)).round().byte()
            for each in torch.split(style, 1)
        ]
    return style_sheet(shown, works, columns)
