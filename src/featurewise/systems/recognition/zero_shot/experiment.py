"""Experiment with zero-shot recognition: unseen pairs of base letter and accent, by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.name_figure import draw_branches
from featurewise.systems.name_metrics import (
    ACCURACY,
    BY_THRESHOLDS,
    SEEN,
    UNSEEN,
    VALIDATION_PER_CLASS,
    Branches,
    by_class,
    by_thresholds,
    harmonic,
    in_parts,
    shares,
    unseen_right,
)
from featurewise.systems.recognition.zero_shot.method import Config, ZeroShot
from featurewise.training.steppers import Supervised

CLASSIFIER = Metric(
    "accuracy, classifier",
    "share of test images of seen classes that the softmax classifies correctly among the "
    "seen classes",
    PERCENT,
    "higher",
)
SHARES: Final = (10, 50)
"""Percentages of seen validation images that are taken for unseen."""

SEEN_AT, UNSEEN_AT = (
    {
        share: Metric(
            f"{name}, {share} % novel",
            f"{name} at the threshold below which {share} % of the validation images "
            "of seen classes are, which are taken for unseen",
            PERCENT,
            "higher",
        )
        for share in SHARES
    }
    for name in (SEEN.name, UNSEEN.name)
)
NEAREST = Metric(
    "harmonic mean, nearest",
    "of the accuracies on seen classes and on unseen pairs where an image gets the nearest "
    "of all names, without a threshold",
    PERCENT,
    "higher",
)
METRICS: Final = (
    *(ACCURACY, CLASSIFIER, *BY_THRESHOLDS, NEAREST),
    *(*SEEN_AT.values(), *UNSEEN_AT.values()),
)
_SIGMA_PER_CLASS: Final = 20
"""Training images of a class that the width of its Gaussian comes from."""


def branches(
    network: ZeroShot, config: Config, split: Literal["validation", "test"]
) -> tuple[Branches, Tensor]:
    """What a network in eval mode says of the images of a part, and its softmax's classes."""
    classes, images = config.classes, config.images.test
    if split == "validation":
        images = config.images.validation.first(VALIDATION_PER_CLASS)
    logits, mapped = in_parts(network, images)
    classified = logits.argmax(1)
    found = Branches.of(network.similarities(mapped), images.labels, classes, split)
    if config.method == "socher":
        sigma = deviations(network, config)
        density = log_density(mapped, network.text[: classes.seen], sigma)
        found = replace(found, familiarity=density.amax(1))
    if config.method in ("socher", "conse"):  # seen classes are the softmax's
        found = replace(found, as_seen=classified)
    return found, classified


def both_parts(network: nn.Module, config: Config) -> tuple[Branches, Branches, Tensor]:
    """What it says of validation and of test, and the softmax's classes of the test."""
    found: ZeroShot = network  # type: ignore[assignment]
    validation, _ = branches(found, config, "validation")
    return validation, *branches(found, config, "test")


def deviations(network: ZeroShot, config: Config) -> Float[Tensor, " S"]:
    """The width of each seen class around its name, from training images without jitter."""
    images = config.images.train.first(_SIGMA_PER_CLASS)
    _, mapped = in_parts(network, images)
    squared = (mapped - network.text[images.labels]).square().mean(1)
    total = torch.zeros(network.seen).index_add_(0, images.labels, squared)
    return (total / images.labels.bincount(minlength=network.seen)).sqrt()


def log_density(
    mapped: Float[Tensor, "N F"], means: Float[Tensor, "S F"], sigma: Float[Tensor, " S"]
) -> Float[Tensor, "N S"]:
    """Logarithm of the isotropic Gaussian density of each class (Socher et al., section 4)."""
    squared = torch.cdist(mapped, means).square() / sigma**2
    return -squared / 2 - means.shape[1] * (sigma * math.sqrt(2 * math.pi)).log()


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on unseen pairs, alone and among all classes; and which part of them is right."""
    classes = config.classes
    with trained.evaluating() as network:
        validation, test, classified = both_parts(network, config)
    known = test.labels < classes.seen
    numbers: dict[Metric, Proportion | float] = {
        CLASSIFIER: by_class((classified == test.labels)[known], test.labels[known]),
        **by_thresholds(validation, test, classes),
    }
    if config.method != "socher":
        numbers[NEAREST] = harmonic(*shares(test, classes, 0.0)[1:])
    familiar = validation.familiarity[validation.labels < classes.seen]
    for share in SHARES:
        at = familiar.double().quantile(share / 100).item()
        _, numbers[SEEN_AT[share]], numbers[UNSEEN_AT[share]] = shares(test, classes, at)
    return Measurement.of(unseen_right(test, classes), numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """The trade-off over the threshold, and unseen pairs with the class they are given."""
    with trained.evaluating() as network:
        validation, test, _ = both_parts(network, config)
    return draw_branches(validation, test, config.classes, config.images.test)
