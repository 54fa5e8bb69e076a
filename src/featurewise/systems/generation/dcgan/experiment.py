"""Experiment of the conditional DCGAN: classes of unequal frequency, and their samples."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.generation.dcgan.method import Config
from featurewise.training.shuffled import ShuffledCondition, random_orders
from featurewise.training.source import Source
from featurewise.training.steppers import Adversarial
from featurewise.worlds.glyphs.gan import GanBatch, GanSource
from featurewise.worlds.glyphs.labelled import ImageSource, class_frequencies
from featurewise.worlds.glyphs.sheets import diversity, sheet


def data(config: Config, seed: int) -> Source[GanBatch]:
    """Training images, with noise."""
    images = ImageSource(
        config.splits.train, config.batch_size, seed, skew=config.class_skew
    )
    source = GanSource(images, config.noise_size)
    if config.shuffled_condition:
        return ShuffledCondition(source, ("labels",), random_orders(seed))
    return source


ACCURACY = Metric(
    "accuracy",
    "share of samples, equally many of each class, that are classified as the requested "
    "class",
    "%",
    "higher",
)
RARE_ACCURACY = Metric(
    "accuracy on rare classes",
    "the same of the rarer half of the classes alone",
    "%",
    "higher",
)
MODE_COVERAGE = Metric(
    "mode coverage",
    "share of classes that have at least half of their training frequency among samples "
    "whose labels follow the training frequencies, as classified",
    "%",
    "higher",
)
FREQUENCY_ERROR = Metric(
    "frequency error",
    "total variation distance of the classes among the same samples from the training "
    "frequencies",
    "%",
    "lower",
)
DIVERSITY = Metric(
    "diversity",
    "mean distance of two samples that are classified as one class, over that of two "
    "test images",
    "×",
)
REAL = Metric(
    "accuracy on real images",
    "share of the test images that the evaluation classifier classifies correctly",
    "%",
)
PARAMETERS = Metric("parameters", "trainable parameters of both networks", "", "lower")


def samples(
    trained: Adversarial, config: Config, labels: Int64[Tensor, " N"]
) -> Float[Tensor, "N 1 S S"]:
    """An image for each label."""
    count, size = len(labels), config.image_size
    blank, noise = (
        torch.zeros(count, 1, size, size),
        torch.zeros(count, config.noise_size),
    )
    return trained.sample(GanBatch(blank, labels, noise)).float().cpu()


def evaluate(trained: Adversarial, config: Config) -> Measurement:
    """Classifies samples of equally frequent labels, and of labels as frequent as in training."""
    splits, classes = config.splits, len(config.class_names)
    classifier = splits.classifier(config.classifier_steps)

    def classified(images: Tensor) -> Int64[Tensor, " N"]:
        with torch.no_grad():
            return torch.cat(
                [
                    classifier.letters(part).argmax(1)
                    for part in torch.split(images, 1000)
                ]
            )

    labels = torch.arange(classes).repeat(config.samples_per_class)
    images = samples(trained, config, labels)
    found = classified(images)
    right = found == labels
    frequencies = class_frequencies(classes, config.class_skew)
    rng = torch.Generator().manual_seed(0)
    natural = torch.multinomial(frequencies, 2 * len(labels), True, generator=rng)
    counts = torch.bincount(
        classified(samples(trained, config, natural)), minlength=classes
    )
    shares = counts / counts.sum()
    test = splits.test.first(100)
    size = sum(p.numel() for net in trained.networks.values() for p in net.parameters())
    return Measurement.of(
        Proportion.of(right),
        {
            RARE_ACCURACY: Proportion.of(right[labels >= classes // 2]),
            MODE_COVERAGE: float((shares >= frequencies / 2).double().mean()),
            FREQUENCY_ERROR: float((shares - frequencies).abs().sum() / 2),
            DIVERSITY: diversity(images, found) / diversity(test.ink, test.labels),
            REAL: float(classifier.real_accuracy),
            PARAMETERS: float(size),
        },
    )


def draw(trained: Adversarial, config: Config) -> Image.Image:
    """A row for each class."""
    names, size = config.class_names, config.image_size
    images = samples(trained, config, torch.arange(len(names)).repeat_interleave(12))
    return sheet(images.view(-1, 12, 1, size, size), rows=names)
