"""The experiment: how networks are trained, on which data, and what is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from featurewise.generators import parameter_groups
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.film.network import ATTRIBUTE_CLASSES, Answers, Config
from featurewise.training.optim import cosine
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.clevr.batch import Batch, TwinBatch, cell_labels
from featurewise.worlds.clevr.metrics import BY_TYPE, TWINS, questions_by_type, twin_hits
from featurewise.worlds.clevr.splits import held_out_batches, training_batches, twin_test

# --- method -------------------------------------------------------------------------


def attribute_loss(
    logits: Float[Tensor, "I V h w"],
    objects: Int64[Tensor, "I N 6"],
    size: tuple[int, int],
) -> Float[Tensor, ""]:
    """Cross-entropy of the four attributes; cells without object weigh a quarter.

    Args:
        logits: of `AttributeHead`.
        objects: as in ``Batch.objects``.
        size: width and height of the images, in pixels.
    """
    labels = cell_labels(objects, logits.shape[2], logits.shape[3], size)
    losses = []
    parts = torch.split(logits.float(), ATTRIBUTE_CLASSES, 1)
    for part, label in zip(parts, labels.unbind(1), strict=True):
        weight = torch.ones(part.shape[1], device=part.device)
        weight[0] = 0.25
        losses.append(F.cross_entropy(part, label, weight=weight))
    return torch.stack(losses).sum()


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers, and a tenth of `attribute_loss` if there is any."""
    answers: Answers = network(batch)
    logits = answers.logits.float()
    loss = F.cross_entropy(logits, batch.answers)
    metrics = {"accuracy": (logits.argmax(1) == batch.answers).float().mean()}
    if answers.attributes is not None and batch.objects is not None:
        height, width = batch.images.shape[2:]
        loss = loss + 0.1 * attribute_loss(
            answers.attributes, batch.objects, (width, height)
        )
    return loss, metrics


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; question encoder and generator head have learning rates of their own."""
    named = network.named_parameters()
    encoder = {id(p) for name, p in named if "encoder" in name or "read" in name}
    groups = [
        part
        for group in parameter_groups(network, config.weight_decay)
        for part in _with_learning_rates(group, encoder, config)
    ]
    return Supervised(
        network,
        objective,
        torch.optim.Adam(groups, lr=config.learning_rate, fused=True),
        schedule=cosine(config.steps, warmup=min(300, config.steps // 10), floor=0.02),
        clip=5.0,
        average=0.999,
        bfloat16=config.bfloat16,
    )


def _with_learning_rates(
    group: dict[str, Any], encoder: set[int], config: Config
) -> list[dict[str, Any]]:
    """A group of parameters, divided into the question encoder's and the others."""
    other = config.head_learning_rate if group["name"] == "heads" else 1.0
    parts = (
        ([p for p in group["params"] if id(p) in encoder], config.encoder_learning_rate),
        ([p for p in group["params"] if id(p) not in encoder], other),
    )
    return [
        {**group, "params": parameters, "lr": multiple * config.learning_rate}
        for parameters, multiple in parts
        if parameters
    ]


def data(config: Config, seed: int) -> Source[Batch]:
    """Batches to train on."""
    source: Source[Batch] = training_batches(
        config.curriculum,
        config.folder,
        images_per_batch=config.images_per_batch,
        questions_per_image=config.questions_per_image,
        seed=seed,
    )
    if config.shuffled_questions:
        return ShuffledCondition(source, ("questions", "lengths"), half_a_batch_on)
    return source


def half_a_batch_on(index: int, batch: Batch) -> Int64[Tensor, "Q"]:
    """The order in which every question belongs to another image."""
    count = len(batch.lengths)
    return torch.arange(count).roll(count // 2)


def shuffle_questions(batch: Batch) -> Batch:
    """The batch with each question replaced by that of another image; answers stay."""
    order = half_a_batch_on(0, batch)
    return replace(batch, questions=batch.questions[order], lengths=batch.lengths[order])


# --- experiment ---------------------------------------------------------------------

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
METRICS = (
    ACCURACY,
    SWAP_ACCURACY,
    *(
        Metric(name, definition, "%", "lower" if "mirrored" in name else "higher")
        for name, definition in {**BY_TYPE, **TWINS}.items()
    ),
)


@dataclass(frozen=True)
class Predictions:
    """What a network answered to questions, in their order.

    Attributes:
        predicted: position of its answer in ``ANSWERS``.
        answers: position of the true answer, -1 where unknown.
        types: position of the question's type in ``QUESTION_TYPES``, -1 where unknown.
        images: number of the image.
    """

    predicted: Int64[Tensor, "Q"]
    answers: Int64[Tensor, "Q"]
    types: Int64[Tensor, "Q"]
    images: Int64[Tensor, "Q"]

    def rows(self, which: Bool[Tensor, "Q"]) -> Predictions:
        """Those of some of the questions."""
        parts = (self.predicted, self.answers, self.types, self.images)
        return Predictions(*(part[which] for part in parts))


def predict(network: nn.Module, batch: Batch) -> Int64[Tensor, "Q"]:
    """The most probable answer to each question, as a position in ``ANSWERS``."""
    device = next(network.parameters(), torch.empty(0)).device
    with torch.no_grad():
        logits: Tensor = network(batch.to(device)).logits
    return logits.argmax(1).cpu()


def predict_all(
    network: nn.Module, batches: Iterable[Batch], *, shuffled: bool = False
) -> Predictions:
    """What a network answers to all questions.

    Args:
        network: of any arm, in eval mode.
        batches: images with questions; no image occurs in two of them.
        shuffled: whether the network is given each question of another image.
    """
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    images = 0
    for batch in batches:
        predicted = predict(network, shuffle_questions(batch) if shuffled else batch)
        parts.append((predicted, batch.answers, batch.types, images + batch.image_index))
        images += len(batch.images)
    if not parts:
        none = torch.empty(0, dtype=torch.int64)
        return Predictions(none, none, none, none)
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
        SWAP_ACCURACY: _swap_accuracy(found, right)
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
        (predict(network, batch), batch.answers, relations, images)
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


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on images that no run is trained on, and the twin test.

    The twin test is made where relations were trained on, in rendered images, and not
    under the control.
    """
    recipe = config.curriculum[-1].recipe
    batches = held_out_batches(recipe, config.test_images, config.folder)
    with trained.evaluating() as network:
        shuffled = config.shuffled_questions
        found = measure(predict_all(network, batches, shuffled=shuffled))
        if config.folder is not None or recipe.families is not None or shuffled:
            return found
        twins = measure_twins(network, twin_test(recipe))
    return replace(found, by_type={**found.by_type, **twins})
