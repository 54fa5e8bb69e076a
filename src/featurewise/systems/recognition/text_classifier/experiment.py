"""Experiment with classifiers from text: areas under the ROC curve of unseen letters."""

from __future__ import annotations

from typing import Final

import torch
from PIL import Image
from torch import nn

from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement
from featurewise.systems.name_figure import draw_branches
from featurewise.systems.name_metrics import (
    ACCURACY,
    BY_THRESHOLDS,
    VALIDATION_PER_CLASS,
    Branches,
    by_class,
    by_thresholds,
    in_parts,
    roc_auc,
    unseen_right,
)
from featurewise.systems.recognition.text_classifier.method import Config
from featurewise.training.steppers import Supervised

AUC_SEEN = Metric(
    "ROC AUC, seen",
    "the same for the seen classes",
    better="higher",
    ends=(0.0, 1.0),
)
CLASSIFIER = Metric(
    "accuracy, seen alone",
    "share of test images of seen classes that are classified correctly among the seen "
    "classes",
    PERCENT,
    "higher",
)
METRICS: Final = (ACCURACY, *BY_THRESHOLDS, AUC_SEEN, CLASSIFIER)


def both_parts(network: nn.Module, config: Config) -> tuple[Branches, Branches]:
    """What a network in eval mode says of validation and of test."""
    images, classes = config.images, config.classes
    validation = images.validation.first(VALIDATION_PER_CLASS)
    (of_validation,) = in_parts(lambda batch: (network(batch),), validation)
    (of_test,) = in_parts(lambda batch: (network(batch),), images.test)
    return (
        Branches.of(of_validation, validation.labels, classes, "validation"),
        Branches.of(of_test, images.test.labels, classes, "test"),
    )


@torch.no_grad()
def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Areas under the ROC curve, and accuracies alone and among all classes."""
    classes = config.classes
    with trained.evaluating() as network:
        validation, test = both_parts(network, config)
    known = test.labels < classes.seen
    right = (test.as_seen == test.labels)[known]
    return Measurement.of(
        unseen_right(test, classes),
        {
            **by_thresholds(validation, test, classes),
            AUC_SEEN: roc_auc(test.scores, test.labels, range(classes.seen)),
            CLASSIFIER: by_class(right, test.labels[known]),
        },
    )


def draw(trained: Supervised, config: Config) -> Image.Image:
    """The trade-off over the threshold, and unseen pairs with the class they are given."""
    with trained.evaluating() as network:
        validation, test = both_parts(network, config)
    return draw_branches(validation, test, config.classes, config.images.test)
