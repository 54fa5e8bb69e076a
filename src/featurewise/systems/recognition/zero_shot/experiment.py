"""Experiment with zero-shot recognition: unseen pairs of base letter and accent, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor, nn

from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.name_metrics import (
    ACCURACY,
    AUC,
    best_of,
    by_class,
    in_parts,
    roc_auc,
)
from featurewise.systems.recognition.zero_shot.method import Config, ZeroShot
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.accents import AccentedLetters

ALL = "among all classes, seen and unseen, at the threshold that is best on validation pairs"
CLASSIFIER = Metric(
    "accuracy, classifier",
    "share of test images of seen classes that the softmax classifies correctly among the "
    "seen classes",
    PERCENT,
    "higher",
)
SEEN = Metric(
    "accuracy, seen",
    f"share of test images of seen classes that are classified correctly {ALL}",
    PERCENT,
    "higher",
)
UNSEEN = Metric("accuracy, unseen", "the same of unseen pairs", PERCENT, "higher")
HARMONIC = Metric("harmonic mean", "of the last two", PERCENT, "higher")
NEAREST = Metric(
    "harmonic mean, nearest",
    "of the same two where an image gets the nearest of all names, without a threshold",
    PERCENT,
    "higher",
)
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
SHARES: Final = (10, 50)
"""Percentages of seen validation images that are taken for unseen."""

SEEN_AT, UNSEEN_AT = (
    {
        share: Metric(
            f"{name}, {share} % novel",
            f"the accuracy at the threshold below which {share} % of the validation images "
            "of seen classes are, which are taken for unseen",
            PERCENT,
            "higher",
        )
        for share in SHARES
    }
    for name in (SEEN.name, UNSEEN.name)
)
METRICS: Final = (
    *(ACCURACY, AUC, CLASSIFIER, SEEN, UNSEEN, HARMONIC, NEAREST, ACCENT, BASE, AREA),
    *(*SEEN_AT.values(), *UNSEEN_AT.values()),
)
_PER_CLASS: Final = {"train": 20, "validation": 16}
"""Training images of a class that the width of its Gaussian comes from; images of a class
that thresholds are chosen on."""


@dataclass(frozen=True)
class Branches:
    """Both answers to each image, and what chooses between them.

    Attributes:
        as_seen: the best seen class.
        as_unseen: the best unseen class.
        familiarity: an image counts as of a seen class where this reaches a threshold.
        labels: the true class.
        classified: the seen class that the softmax gives.
        scores: similarity to the name of each class.
    """

    as_seen: Int64[Tensor, " N"]
    as_unseen: Int64[Tensor, " N"]
    familiarity: Float[Tensor, " N"]
    labels: Int64[Tensor, " N"]
    classified: Int64[Tensor, " N"]
    scores: Float[Tensor, "N K"]

    def predicted(self, threshold: float) -> Int64[Tensor, " N"]:
        """The class of each image."""
        return torch.where(self.familiarity >= threshold, self.as_seen, self.as_unseen)


def branches(
    network: ZeroShot, config: Config, split: Literal["validation", "test"]
) -> Branches:
    """What a network in eval mode says of the images of a part."""
    classes, images = config.classes, config.images.test
    if split == "validation":
        images = config.images.validation.first(_PER_CLASS[split])
    logits, mapped = in_parts(network, images)
    scores = network.similarities(mapped)
    seen, unseen = range(classes.seen), classes.unseen(split)
    as_unseen = best_of(scores, unseen)
    best = [scores[:, each.start : each.stop].amax(1) for each in (seen, unseen)]
    familiarity = best[0] - best[1]
    if config.method == "socher":
        sigma = deviations(network, config)
        familiarity = log_density(mapped, network.text[: classes.seen], sigma).amax(1)
    classified = logits.argmax(1)
    by_name = config.method in ("devise", "parts")
    as_seen = best_of(scores, seen) if by_name else classified
    return Branches(as_seen, as_unseen, familiarity, images.labels, classified, scores)


def both_parts(network: nn.Module, config: Config) -> tuple[Branches, Branches]:
    """Of validation and of test."""
    found: ZeroShot = network  # type: ignore[assignment]
    return branches(found, config, "validation"), branches(found, config, "test")


def deviations(network: ZeroShot, config: Config) -> Float[Tensor, " S"]:
    """The width of each seen class around its name, from training images without jitter."""
    images = config.images.train.first(_PER_CLASS["train"])
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


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on unseen pairs, alone and among all classes; and which part of them is right."""
    classes = config.classes
    with trained.evaluating() as network:
        validation, test = both_parts(network, config)
    known = test.labels < classes.seen
    threshold = chosen_threshold(validation, classes)
    right, seen, unseen = shares(test, classes, threshold)
    numbers: dict[Metric, Proportion | float] = {
        AUC: roc_auc(test.scores, test.labels, classes.unseen("test")),
        CLASSIFIER: by_class(
            (test.classified == test.labels)[known], test.labels[known]
        ),
        SEEN: by_class(right[known], test.labels[known]),
        UNSEEN: by_class(right[~known], test.labels[~known]),
        HARMONIC: harmonic(seen, unseen),
        AREA: area(curve(test, classes)),
    }
    if config.method != "socher":
        numbers[NEAREST] = harmonic(*shares(test, classes, 0.0)[1:])
    labels, predicted = test.labels[~known], test.predicted(threshold)[~known]
    base, accent = (
        part_right(predicted, labels, each) for each in (classes.bases, classes.accents)
    )
    numbers[ACCENT] = by_class(accent[base], labels[base])
    numbers[BASE] = by_class(base[accent], labels[accent])
    familiar = validation.familiarity[validation.labels < classes.seen]
    for share in SHARES:
        at = familiar.double().quantile(share / 100).item()
        _, numbers[SEEN_AT[share]], numbers[UNSEEN_AT[share]] = shares(test, classes, at)
    accuracy = Proportion.of((test.as_unseen == test.labels)[~known], labels)
    return Measurement.of(accuracy, numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """The trade-off over the threshold, and unseen pairs with the class they are given."""
    classes = config.classes
    with trained.evaluating() as network:
        validation, test = both_parts(network, config)
    threshold = chosen_threshold(validation, classes)
    plot = figure(8.0, 3.4)
    halves = plot.add_gridspec(1, 2, width_ratios=(1, 1.2))
    left, right = (plot.add_subfigure(halves[0, column]) for column in range(2))
    axes = left.subplots()
    _, seen, unseen = zip(*curve(test, classes), strict=True)
    axes.plot([100 * x for x in seen], [100 * y for y in unseen], color=BAR)
    _, at_seen, at_unseen = shares(test, classes, threshold)
    axes.plot(100 * at_seen, 100 * at_unseen, "o", color=BAR)
    axes.set(
        xlabel="accuracy, seen (%)",
        ylabel="accuracy, unseen (%)",
        xlim=(0, 100),
        ylim=(0, 100),
    )
    axes.spines[["top", "right"]].set_visible(False)
    grid = list(right.subplots(_ROWS, _COLUMNS).flat)
    predicted = test.predicted(threshold).tolist()
    for axes, label in zip(grid, classes.unseen("test"), strict=False):
        row = int((test.labels == label).nonzero()[0, 0])
        image = config.images.test.images[row]
        axes.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=255)
        colour = "black" if predicted[row] == label else BAR
        axes.set_title(classes.letters[predicted[row]], color=colour)
    for axes in grid:
        axes.set_axis_off()
    return as_image(plot)


_ROWS, _COLUMNS = 3, 6
"""Of unseen pairs in the figure."""
