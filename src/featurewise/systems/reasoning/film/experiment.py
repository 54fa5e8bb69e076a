"""The experiment: what is measured, and how the networks answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from featurewise.analysis import calibration_error
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.training import shuffle_questions
from featurewise.training.steppers import Supervised
from featurewise.worlds.clevr.batch import Batch, TwinBatch
from featurewise.worlds.clevr.metrics import (
    BY_TYPE,
    TWINS,
    questions_by_type,
    twin_hits,
)
from featurewise.worlds.clevr.splits import (
    count_test,
    has_relations,
    held_out_batches,
    twin_test,
)

ACCURACY = Metric(
    "accuracy",
    "share of test questions that are answered correctly; its interval treats the "
    "questions of one image as dependent",
    "%",
    "higher",
)
SWAP_ACCURACY = Metric(
    "swap accuracy",
    "of two successive questions about one image with different true answers, the "
    "first of which is answered correctly: share of pairs whose second question is, "
    "too",
    "%",
    "higher",
)
CALIBRATION = Metric(
    "calibration error",
    "mean distance of the probability of the given answers from the share of them that "
    "is right, in 15 bins of equal width (Guo et al. 2017)",
    "%",
    "lower",
)
COUNTS = Metric(
    "counts of everything",
    'accuracy on the question "How many things are there?" about every test image',
    "%",
    "higher",
)
WORST_COUNT = Metric(
    "worst count of everything",
    "the same for images of one number of things, the number with the lowest accuracy",
    "%",
    "higher",
)
QUESTION_METRICS = {
    name: Metric(name, definition, "%", "lower" if "mirrored" in name else "higher")
    for name, definition in {**BY_TYPE, **TWINS}.items()
}
LEFT_RIGHT = QUESTION_METRICS["twin pair left right"]
METRICS = (
    ACCURACY,
    SWAP_ACCURACY,
    CALIBRATION,
    COUNTS,
    WORST_COUNT,
    *QUESTION_METRICS.values(),
)


@dataclass(frozen=True)
class Predictions:
    """What a network answered to questions, in their order.

    Attributes:
        predicted: position of its answer in ``ANSWERS``.
        answers: position of the true answer, -1 where unknown.
        types: position of the question's type in ``QUESTION_TYPES``, -1 where unknown.
        images: number of the image.
        confidence: probability of the network's answer.
    """

    predicted: Int64[Tensor, "Q"]
    answers: Int64[Tensor, "Q"]
    types: Int64[Tensor, "Q"]
    images: Int64[Tensor, "Q"]
    confidence: Float[Tensor, "Q"]

    def rows(self, which: Bool[Tensor, "Q"]) -> Predictions:
        """Those of some of the questions."""
        parts = (
            self.predicted,
            self.answers,
            self.types,
            self.images,
            self.confidence,
        )
        return Predictions(*(part[which] for part in parts))


def predict(
    network: nn.Module, batch: Batch
) -> tuple[Int64[Tensor, "Q"], Float[Tensor, "Q"]]:
    """The most probable answer to each question, a position in ``ANSWERS``, and how probable."""
    device = next(network.parameters(), torch.empty(0)).device
    with torch.no_grad():
        logits: Tensor = network(batch.to(device)).logits
    confidence, predicted = logits.float().softmax(1).max(1)
    return predicted.cpu(), confidence.cpu()


def predict_all(
    network: nn.Module, batches: Iterable[Batch], *, shuffled: bool = False
) -> Predictions:
    """What a network answers to all questions.

    Args:
        network: of any arm, in eval mode.
        batches: images with questions; no image occurs in two of them.
        shuffled: whether the network is given each question of another image.
    """
    parts: list[tuple[Tensor, ...]] = []
    images = 0
    for batch in batches:
        given = shuffle_questions(batch) if shuffled else batch
        predicted, confidence = predict(network, given)
        number = images + batch.image_index
        parts.append((predicted, batch.answers, batch.types, number, confidence))
        images += len(batch.images)
    if not parts:
        none = torch.empty(0, dtype=torch.int64)
        return Predictions(none, none, none, none, torch.empty(0))
    return Predictions(*map(torch.cat, zip(*parts, strict=True)))


def measure(found: Predictions) -> Measurement:
    """Accuracy, accuracy by type and number, and swap accuracy.

    Args:
        found: answers to questions; those whose true answer is unknown do not count.
    """
    found = found.rows(found.answers >= 0)
    if not len(found.answers):
        return Measurement()
    right = found.predicted == found.answers
    numbers: dict[Metric, Proportion | float] = {
        SWAP_ACCURACY: _swap_accuracy(found, right),
        CALIBRATION: calibration_error(found.confidence, right),
    }
    by_type = questions_by_type(found.answers, found.types)
    for metric in METRICS:
        if (rows := by_type.get(metric.name)) is not None:
            numbers[metric] = Proportion.of(right[rows], groups=found.images[rows])
    return Measurement.of(Proportion.of(right, groups=found.images), numbers)


def _swap_accuracy(found: Predictions, right: Bool[Tensor, "Q"]) -> Proportion | float:
    pairs = (found.images[1:] == found.images[:-1]) & right[:-1]
    pairs &= found.answers[1:] != found.answers[:-1]
    if not pairs.any():
        return 0.0
    return Proportion.of(right[1:][pairs], groups=found.images[1:][pairs])


def measure_twins(
    network: nn.Module, batches: Iterable[TwinBatch]
) -> dict[str, Proportion]:
    """The figures of the twin test, by name; without those that no image has a pair for.

    Args:
        network: of any arm, in eval mode.
        batches: the twin questions.
    """
    parts = [
        (predict(network, batch)[0], batch.answers, relations, images)
        for batch, relations, images in batches
    ]
    if not parts:
        return {}
    predicted, answers, relations, images = map(torch.cat, zip(*parts, strict=True))
    found = twin_hits(predicted, answers, relations)
    return {
        name: Proportion.of(hits, groups=images[rows])
        for name, (hits, rows) in found.items()
    }


def measure_counts(network: nn.Module, batches: Iterable[Batch]) -> Measurement:
    """Accuracy of counting everything: of all images, and of the worst number.

    Args:
        network: of any arm, in eval mode.
        batches: of `count_test`.
    """
    found = predict_all(network, batches)
    right = found.predicted == found.answers
    numbers = set(found.answers.tolist())
    worst = min(
        right[found.answers == number].float().mean().item() for number in numbers
    )
    counts: dict[Metric, Proportion | float] = {
        COUNTS: Proportion.of(right),
        WORST_COUNT: worst,
    }
    return Measurement.of(None, counts)


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on images that no run is trained on, the twin test, and counts of everything.

    The latter two are made in rendered images and not under the control, the twin test
    where relations were trained on.
    """
    recipe = config.curriculum[-1].recipe
    batches = held_out_batches(recipe, config.test_images, config.folder)
    with trained.evaluating() as network:
        shuffled = config.shuffled_questions
        found = measure(predict_all(network, batches, shuffled=shuffled))
        if config.folder is not None or shuffled:
            return found
        counts = measure_counts(network, count_test(recipe, config.test_images))
        twins = {}
        if has_relations(recipe):
            twins = measure_twins(network, twin_test(recipe))
    return replace(
        found,
        by_type={**found.by_type, **counts.by_type, **twins},
        values={**found.values, **counts.values},
    )
