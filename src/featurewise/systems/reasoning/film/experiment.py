"""The experiment: how networks are trained, on which data, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Unpack, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from featurewise.analysis import calibration_error
from featurewise.generators import parameter_groups
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.film.baselines import ImageOnly
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.network import Answers, FilmNetwork
from featurewise.systems.reasoning.film.perception import Perception, attribute_loss
from featurewise.training.optim import Schedule, cosine, linear, rewarmed
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Objective, Options, Supervised
from featurewise.worlds.clevr.batch import Batch, TwinBatch
from featurewise.worlds.clevr.metrics import (
    BY_TYPE,
    TWINS,
    questions_by_type,
    twin_hits,
)
from featurewise.worlds.clevr.splits import (
    WithCounts,
    count_test,
    has_relations,
    held_out_batches,
    training_batches,
    twin_test,
)

# --- method -------------------------------------------------------------------------


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


def fused_objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """The same for FiLM over features that were trained beforehand."""
    from featurewise.systems.reasoning.film.fused import fused_logits

    logits = fused_logits(cast("FilmNetwork", network), batch).float()
    accuracy = (logits.argmax(1) == batch.answers).float().mean()
    return F.cross_entropy(logits, batch.answers), {"accuracy": accuracy}


class OnFeatures(Supervised):
    """A network whose stem, if it is fixed, gets its weights before the first step.

    A network that is loaded has them already, and needs none of the cache folder.

    Args:
        perception: how the stem is trained; None: with the rest.
        network: see `Supervised`.
        objective: see `Supervised`.
        optimizer: see `Supervised`.
        options: see `Supervised`.
    """

    def __init__(
        self,
        perception: Perception | None,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(network, objective, optimizer, **options)
        self.perception = perception

    def step(self, batch: Batch, /) -> Metrics:
        """One gradient step; see `Supervised`."""
        from featurewise.systems.reasoning.film.pretraining import pretrained

        if (
            self.perception is not None
            and self.steps == 0
            and isinstance(self.network, FilmNetwork | ImageOnly)
        ):
            trained = pretrained(self.perception)
            self.network.stem.load_state_dict(trained.stem.state_dict())
            self.network.naming.load_state_dict(trained.naming.state_dict())
        return super().step(batch)


def learning_rates(config: Config) -> Schedule:
    """The schedule; "linear" has a warmup at the start of each stage."""
    warmup = min(300, config.steps // 10)
    if config.schedule == "cosine":
        return cosine(config.steps, warmup=warmup, floor=0.02)
    starts = list(accumulate(stage.steps for stage in config.curriculum[:-1]))
    constant = linear(config.steps, warmup=warmup, start=0.5, floor=0.01)
    return rewarmed(constant, starts, warmup)


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam; question encoder and generator head have learning rates of their own."""
    fused = (
        isinstance(network, FilmNetwork)
        and config.perception is not None
        and config.folder is None  # or batches contain images
        and next(network.parameters()).device.type == "cpu"
    )
    if config.perception is not None and isinstance(network, FilmNetwork | ImageOnly):
        network.naming.requires_grad_(False)
    named = network.named_parameters()
    encoder = {id(p) for name, p in named if "encoder" in name or "read" in name}
    groups = [
        part
        for group in parameter_groups(network, config.weight_decay)
        for part in _with_learning_rates(group, encoder, config)
    ]
    return OnFeatures(
        config.perception,
        network,
        fused_objective if fused else objective,
        torch.optim.Adam(
            groups,
            lr=config.learning_rate,
            betas=(0.9, config.adam_beta2),
            fused=True,
        ),
        schedule=learning_rates(config),
        clip=config.clip,
        average=0.999,
        # The fused trunk casts by itself; casts of its own parameters cost more than they save.
        bfloat16=config.bfloat16 and not fused,
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
        features=None if config.perception is None else _features(config.perception),
    )
    # Of files, it is not known how many objects there are in every image.
    if config.counts_every is not None and config.folder is None:
        source = WithCounts(source, config.counts_every)
    if config.shuffled_questions:
        return ShuffledCondition(source, ("questions", "lengths"), half_a_batch_on)
    return source


def _features(config: Perception) -> Callable[[Path], Tensor]:
    from featurewise.systems.reasoning.film.pretraining import feature_maps, pretrained

    return lambda pool: feature_maps(pool, pretrained(config))


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
