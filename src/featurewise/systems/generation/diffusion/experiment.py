"""Experiment of the diffusion model: losses, and samples at each weight of guidance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featurewise.analysis.frechet import frechet_distance
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.generation.diffusion.method import (
    NULL_CLASS,
    Config,
    noisy,
    sampler,
)
from featurewise.training.batch import to_device
from featurewise.training.diffusion import DiffusionBatch, noise_error
from featurewise.training.shuffled import ShuffledCondition, random_orders
from featurewise.training.source import Source
from featurewise.training.steppers import Generative
from featurewise.worlds.glyphs.labelled import ImageBatch, ImageSource, LabelledImages
from featurewise.worlds.glyphs.sheets import diversity, sheet

WEIGHTS = (1.0, 2.0, 4.0)
"""Of guidance; 1 is without guidance."""


def data(config: Config, seed: int) -> Source[DiffusionBatch]:
    """Training images."""
    return noisy_images(config.splits.train, config, config.condition_dropout, seed)


def noisy_images(
    images: LabelledImages, config: Config, dropout: float, seed: int
) -> Source[DiffusionBatch]:
    """Batches of images, with noise; their classes as the config has them."""
    source: Source[ImageBatch] = ImageSource(images, config.batch_size, seed)
    if config.shuffled_condition:
        # Before classes are dropped, so that the null class stays with the images that
        # it was given to.
        source = ShuffledCondition(source, ("labels",), random_orders(seed))
    return noisy(source, config, dropout, seed)


ACCURACY = Metric(
    "accuracy",
    "share of samples at a guidance weight of 1 that are classified as the requested "
    "class",
    "%",
    "higher",
)
TEST_LOSS = Metric("test loss", "squared error of the noise in test images", "", "lower")
TRAIN_LOSS = Metric(
    "training loss", "squared error of the noise in training images", "", "lower"
)
REAL = Metric(
    "accuracy on real images",
    "share of test images that the evaluation classifier classifies correctly",
    "%",
)
REAL_FRECHET = Metric(
    "Fréchet distance of training images",
    "the distance to the test images of as many training images as there are samples, "
    "the first of each class: a few typefaces, no random sample",
)
GUIDED = {
    w: Metric(
        f"accuracy at guidance {w:g}",
        f"share of samples at a guidance weight of {w:g} that are classified as requested",
        "%",
        "higher",
    )
    for w in WEIGHTS
}
FRECHET = {
    w: Metric(
        f"Fréchet distance at guidance {w:g}",
        "between normal distributions fitted to the evaluation classifier's 192 "
        "features, of "
        f"samples at a guidance weight of {w:g} and of test images",
        "",
        "lower",
    )
    for w in WEIGHTS
}
DIVERSITY = {
    w: Metric(
        f"diversity at guidance {w:g}",
        "mean distance of two samples of one requested class, over that of two test "
        "images",
        "×",
    )
    for w in WEIGHTS
}


def samples(
    trained: Generative, config: Config, weight: float, per_class: int
) -> Float[Tensor, "N 1 S S"]:
    """So many of each class, one class after the other; the same noise for all weights."""
    classes = torch.arange(NULL_CLASS).repeat_interleave(per_class)
    blank = torch.zeros(len(classes), 1, config.image_size, config.image_size)
    batch = to_device(
        DiffusionBatch(blank, classes, classes, blank), trained.learner.device
    )
    # Without a condition in training, the table of classes was never trained.
    weight = weight if config.conditioned else 0.0
    with trained.evaluating() as network:
        rng = torch.Generator(trained.learner.device).manual_seed(0)
        return sampler(config, weight)(network, batch, rng).cpu()


def mean_loss(trained: Generative, config: Config, images: LabelledImages) -> float:
    """Squared error of the noise, mean over batches."""
    source = noisy_images(images, config, 0.0, 0)
    batches = [
        to_device(source.batch(i), trained.learner.device)
        for i in range(config.test_batches)
    ]
    with trained.evaluating() as network:
        losses = [float(noise_error(network, batch)[0]) for batch in batches]
    return sum(losses) / len(losses)


def evaluate(trained: Generative, config: Config) -> Measurement:
    """Losses; samples at each weight of guidance, classified and compared with test images."""
    splits, per_class = config.splits, config.samples_per_class
    classifier, test = splits.classifier(config.classifier_steps), splits.test.first(100)

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return torch.cat(
            [classifier.features(part) for part in torch.split(images, 500)]
        )

    real, real_diversity = features(test.ink), diversity(test.ink, test.labels)
    measured: dict[Metric, Proportion | float] = {
        TEST_LOSS: mean_loss(trained, config, splits.test),
        TRAIN_LOSS: mean_loss(trained, config, splits.train),
        REAL: float(classifier.real_accuracy),
        REAL_FRECHET: frechet_distance(
            features(splits.train.first(per_class).ink), real
        ),
    }
    requested = torch.arange(NULL_CLASS).repeat_interleave(per_class)
    right = {}
    for weight in WEIGHTS:
        images = samples(trained, config, weight, per_class)
        with torch.no_grad():
            right[weight] = Proportion.of(
                classifier.letters(images).argmax(1) == requested
            )
        measured[GUIDED[weight]] = right[weight]
        measured[FRECHET[weight]] = frechet_distance(features(images), real)
        measured[DIVERSITY[weight]] = diversity(images, requested) / real_diversity
    return Measurement.of(right[1.0], measured)


def draw(trained: Generative, config: Config) -> Image.Image:
    """A row for each class: ten samples at a weight of 1, and from the same noise at 4."""
    size = config.image_size
    one, four = (
        samples(trained, config, w, 10).view(-1, 10, 1, size, size) for w in (1.0, 4.0)
    )
    return sheet(
        torch.cat((one, torch.zeros_like(one[:, :1]), four), dim=1), config.class_names
    )
