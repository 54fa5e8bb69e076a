"""How classifiers of unseen letters are measured: accuracy, and area under the ROC curve."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.text import short
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Proportion
from featurewise.training.errors import ExperimentError
from featurewise.worlds.glyphs.labelled import ImageBatch, LabelledImages

ACCURACY = Metric(
    "accuracy",
    "share of test images of unseen pairs that are classified correctly among the unseen "
    "pairs",
    PERCENT,
    "higher",
)
AUC = Metric(
    "ROC AUC",
    "probability that a test image of an unseen pair has a higher score for its class than "
    "a test image of another class, seen or unseen; mean over the unseen pairs, 0.5 by "
    "guessing",
    better="higher",
    ends=(0.0, 1.0),
)

_EVALUATED = 500
"""Images at a time."""

ValueT = TypeVar("ValueT", bound=tuple[Tensor, ...])


@torch.no_grad()
def in_parts(
    call: Callable[[ImageBatch], ValueT], images: LabelledImages
) -> tuple[Tensor, ...]:
    """What a network makes of many images, a part of them at a time."""
    found = [
        call(ImageBatch(ink, labels))
        for ink, labels in zip(
            torch.split(images.ink, _EVALUATED),
            torch.split(images.labels, _EVALUATED),
            strict=True,
        )
    ]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def best_of(scores: Float[Tensor, "N K"], classes: range) -> Int64[Tensor, " N"]:
    """The class with the highest score among some classes."""
    return scores[:, classes.start : classes.stop].argmax(1) + classes.start


def by_class(
    right: Bool[Tensor, " N"], labels: Int64[Tensor, " N"]
) -> Proportion | float:
    """A share whose independent units are the classes; 0 where there are no images."""
    return Proportion.of(right, labels) if len(right) else 0.0


def roc_auc(
    scores: Float[Tensor, "N K"], labels: Int64[Tensor, " N"], classes: range
) -> float:
    """Area under the ROC curve, each class against all others; the mean over some classes.

    Raises:
        ExperimentError: a class has no image, or scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise ExperimentError(
            "scikit-learn is not installed: pip install scikit-learn"
        ) from error
    if missing := set(classes) - set(labels.tolist()):
        raise ExperimentError(f"classes without a test image: {short(sorted(missing))}")
    areas = [
        roc_auc_score((labels == each).numpy(), scores[:, each].double().numpy())
        for each in classes
    ]
    return float(sum(areas) / len(areas))
