"""How classifiers of unseen letters are measured, alone and among all classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from featurewise.common.text import short
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Proportion
from featurewise.training.errors import ExperimentError
from featurewise.worlds.glyphs.accents import AccentedLetters
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

ALL = "among all classes, seen and unseen, at the threshold that is best on validation pairs"
SEEN = Metric(
    "accuracy, seen",
    f"share of test images of seen classes that are classified correctly {ALL}",
    PERCENT,
    "higher",
)
UNSEEN = Metric("accuracy, unseen", "the same of unseen pairs", PERCENT, "higher")
HARMONIC = Metric("harmonic mean", "of the last two", PERCENT, "higher")
ACCENT = Metric(
    "accent, given the base",
    f"share of test images of unseen pairs whose accent is right, of those whose base "
    f"letter is right; classified {ALL}",
    PERCENT,
    "higher",
)
BASE = Metric(
    "base, given the accent",
    "share whose base letter is right, of those whose accent is right",
    PERCENT,
    "higher",
)
AREA = Metric(
    "area of the trade-off",
    "area under the curve of accuracy on unseen pairs over accuracy on seen classes, by the "
    "threshold; 1 where both can be perfect",
    better="higher",
    ends=(0.0, 1.0),
)
BY_THRESHOLDS: Final = (AUC, SEEN, UNSEEN, HARMONIC, ACCENT, BASE, AREA)
"""What `by_thresholds` measures."""

VALIDATION_PER_CLASS: Final = 16
"""Images of a class that thresholds are chosen on."""

_EVALUATED: Final = 500
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


@dataclass(frozen=True)
class Branches:
    """Both answers to each image, and what chooses between them.

    Attributes:
        as_seen: the best seen class.
        as_unseen: the best unseen class.
        familiarity: an image counts as of a seen class where this reaches a threshold.
        labels: the true class.
        scores: similarity to the name of each class.
    """

    as_seen: Int64[Tensor, " N"]
    as_unseen: Int64[Tensor, " N"]
    familiarity: Float[Tensor, " N"]
    labels: Int64[Tensor, " N"]
    scores: Float[Tensor, "N K"]

    @classmethod
    def of(
        cls,
        scores: Float[Tensor, "N K"],
        labels: Int64[Tensor, " N"],
        classes: AccentedLetters,
        split: Literal["validation", "test"],
    ) -> Branches:
        """By scores alone: the best class of both kinds, and the difference of their scores.

        Args:
            scores: of each image for each class.
            labels: the true class of each image.
            classes: which ones are seen.
            split: whose unseen classes are considered.
        """
        seen, unseen = range(classes.seen), classes.unseen(split)
        best = [scores[:, each.start : each.stop].amax(1) for each in (seen, unseen)]
        difference = best[0] - best[1]
        return cls(
            best_of(scores, seen), best_of(scores, unseen), difference, labels, scores
        )

    def predicted(self, threshold: float) -> Int64[Tensor, " N"]:
        """The class of each image."""
        return torch.where(self.familiarity >= threshold, self.as_seen, self.as_unseen)


def shares(
    found: Branches, classes: AccentedLetters, threshold: float
) -> tuple[Bool[Tensor, " N"], float, float]:
    """Which images are right; the accuracy on seen classes, and on unseen pairs."""
    right, of_seen = (
        found.predicted(threshold) == found.labels,
        found.labels < classes.seen,
    )
    seen, unseen = (
        right[of_seen == each].double().mean().item() for each in (True, False)
    )
    return right, seen, unseen


def harmonic(one: float, other: float) -> float:
    """Harmonic mean of two shares; 0 if both are."""
    return 2 * one * other / (one + other) if one + other else 0.0


def curve(found: Branches, classes: AccentedLetters) -> list[tuple[float, float, float]]:
    """Threshold, accuracy on seen classes and on unseen pairs; from all unseen to all seen."""
    steps = torch.linspace(0, 1, 101, dtype=torch.float64)
    ends = torch.tensor([torch.inf, -torch.inf], dtype=torch.float64)
    inner = found.familiarity.double().quantile(steps).flip(0)
    thresholds = torch.cat((ends[:1], inner, ends[1:])).tolist()
    return [(each, *shares(found, classes, each)[1:]) for each in thresholds]


def chosen_threshold(found: Branches, classes: AccentedLetters) -> float:
    """The threshold with the best harmonic mean."""
    return max(curve(found, classes), key=lambda point: harmonic(*point[1:]))[0]


def area(points: list[tuple[float, float, float]]) -> float:
    """Area under accuracy on unseen pairs over accuracy on seen classes."""
    ordered = torch.tensor(points, dtype=torch.float64)
    return abs(torch.trapezoid(ordered[:, 2], ordered[:, 1]).item())


def part_right(
    predicted: Int64[Tensor, " N"], labels: Int64[Tensor, " N"], parts: tuple[str, ...]
) -> Bool[Tensor, " N"]:
    """Whether the part of a letter, its base or its accent, is right."""
    known = sorted(set(parts))
    index = torch.tensor([known.index(part) for part in parts])
    return index[predicted] == index[labels]


def by_thresholds(
    validation: Branches, test: Branches, classes: AccentedLetters
) -> dict[Metric, Proportion | float]:
    """What is measured among all classes, at the threshold that is best on validation."""
    threshold = chosen_threshold(validation, classes)
    right, seen, unseen = shares(test, classes, threshold)
    known = test.labels < classes.seen
    labels, predicted = test.labels[~known], test.predicted(threshold)[~known]
    base, accent = (
        part_right(predicted, labels, each) for each in (classes.bases, classes.accents)
    )
    return {
        AUC: roc_auc(test.scores, test.labels, classes.unseen("test")),
        SEEN: by_class(right[known], test.labels[known]),
        UNSEEN: by_class(right[~known], labels),
        HARMONIC: harmonic(seen, unseen),
        AREA: area(curve(test, classes)),
        ACCENT: by_class(accent[base], labels[base]),
        BASE: by_class(base[accent], labels[accent]),
    }


def unseen_right(found: Branches, classes: AccentedLetters) -> Proportion:
    """Which images of unseen pairs are right among the unseen pairs."""
    rows = found.labels >= classes.seen
    right = found.as_unseen == found.labels
    return Proportion.of(right[rows], found.labels[rows])
