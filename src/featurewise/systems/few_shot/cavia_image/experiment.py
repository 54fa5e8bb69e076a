"""Experiment of CAVIA for images: letters from a tenth of their pixels."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featurewise.common.rng import seeded_rng
from featurewise.study.inner_loops import ERROR, inner_errors
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.few_shot.cavia_image.method import Config
from featurewise.training.batch import to_device
from featurewise.training.inner import InnerLoop
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Episodic
from featurewise.worlds.glyphs.completion import Completion, CompletionSource
from featurewise.worlds.glyphs.labelled import LabelledImages
from featurewise.worlds.glyphs.sheets import sheet


def data(config: Config, seed: int) -> Source[Any]:
    """Letters of the training typefaces."""
    images = config.splits.train
    source = CompletionSource(
        images, config.tasks, config.shots, ordered=config.ordered, seed=seed
    )
    if config.shuffled_support:
        return ShuffledCondition(source, ("support_x", "support_y"), previous_sample)
    return source


ACCURACY = Metric(
    "accuracy",
    "share of completed images that the evaluation classifier assigns to the letter "
    "they show",
    "%",
    "higher",
)
OVER_MEAN = Metric(
    "error over the mean's",
    "error, as a multiple of that of the mean given ink",
    better="lower",
)
OVER_NEAREST = Metric(
    "error over the nearest's",
    "error, as a multiple of that of the ink of the nearest given pixel",
    better="lower",
)
REAL = Metric(
    "accuracy on real images",
    "share of the whole test images that the evaluation classifier classifies correctly",
    "%",
)


def test_letters(config: Config) -> LabelledImages:
    """Letters of the test typefaces, at random, the same for all runs."""
    test = config.splits.test
    order = torch.randperm(len(test), generator=seeded_rng(0, "test letters"))
    chosen = order[: config.test_tasks]
    return LabelledImages(test.images[chosen], test.labels[chosen], test.groups[chosen])


def test_completion(config: Config) -> Completion:
    """The same letters, with the pixels that are given."""
    return CompletionSource(
        test_letters(config), 1, config.shots, ordered=config.ordered
    ).whole()


def as_given(config: Config, tasks: Completion) -> Completion:
    """What the network is given: in the control, the pixels of another image."""
    return tasks.swapped() if config.shuffled_support else tasks


def evaluate(trained: Episodic, config: Config) -> Measurement:
    """Errors before and after adaptation, beside those of guesses; legibility of the letters."""
    letters, tasks = test_letters(config), test_completion(config)
    given = to_device(as_given(config, tasks), trained.learner.device)
    with trained.evaluating() as network:
        predicted = network(given).float().cpu()
        error = (predicted - tasks.query_y).square().mean().item()
        numbers: dict[Metric, Proportion | float] = {ERROR: error}
        if isinstance(network, InnerLoop):
            numbers |= inner_errors(network, given)
    for metric, guess in ((OVER_MEAN, tasks.mean()), (OVER_NEAREST, tasks.nearest())):
        numbers[metric] = error / (guess - tasks.query_y).square().mean().item()
    classifier = config.splits.classifier(config.classifier_steps)

    def right(ink: Float[Tensor, "T P 1"]) -> Proportion:
        images = ink.clamp(0, 1).view(-1, 1, config.image_size, config.image_size)
        found = classifier.letters(images).argmax(1) == letters.labels
        return Proportion.of(found, groups=letters.groups)

    numbers[REAL] = right(tasks.query_y)
    return Measurement.of(right(predicted), numbers)


def draw(trained: Episodic, config: Config) -> Image.Image:
    """Twelve images: the given pixels, the nearest of them, the prediction, the truth."""
    tasks = as_given(config, test_completion(config))
    with trained.evaluating() as network:
        predicted = network(to_device(tasks, trained.learner.device)).float().cpu()
    given = torch.full_like(tasks.query_y, 0.5)
    place = torch.cdist(tasks.support_x, tasks.query_x).argmin(2, keepdim=True)
    given.scatter_(1, place, tasks.support_y)
    rows = {
        "given": given,
        "nearest": tasks.nearest(),
        "made": predicted,
        "true": tasks.query_y,
    }
    size = config.image_size
    images = torch.stack(
        [row[:12].clamp(0, 1).view(-1, 1, size, size) for row in rows.values()]
    )
    return sheet(images, rows=list(rows))
