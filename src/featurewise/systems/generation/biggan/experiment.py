"""Experiment of BigGAN: every class from every noise, classified, and compared in style."""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from featurewise.analysis.frechet import frechet_distance
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.generation.biggan.method import Config
from featurewise.training.shuffled import ShuffledCondition, random_orders
from featurewise.training.source import Source
from featurewise.training.steppers import Adversarial
from featurewise.worlds.glyphs.attributes import ATTRIBUTES
from featurewise.worlds.glyphs.gan import GanBatch, GanSource
from featurewise.worlds.glyphs.labelled import ImageSource
from featurewise.worlds.glyphs.sheets import diversity, sheet

ROWS = 10
"""Noises in the figure."""

FEWEST = 10
"""Pairs of letters that a correlation takes at least."""


def data(config: Config, seed: int) -> Source[GanBatch]:
    """Training images, with noise; all classes are equally frequent."""
    images = ImageSource(config.splits.train, config.batch_size, seed)
    source = GanSource(images, config.noise_size)
    if config.shuffled_condition:
        return ShuffledCondition(source, ("labels",), random_orders(seed))
    return source


ACCURACY = Metric(
    "accuracy",
    "share of samples, every class from every noise, that are classified as the requested "
    "class",
    "%",
    "higher",
)
FRECHET = Metric(
    "Fréchet distance",
    "between normal distributions fitted to the evaluation classifier's 192 features, of "
    "the samples and of the test images",
    "",
    "lower",
)
REAL_FRECHET = Metric(
    "Fréchet distance of training images", "the same distance of all training images"
)
STYLE = Metric(
    "style kept",
    "correlation of the style of two letters that were made from one noise, of those "
    "classified as requested: over noises, then the mean over pairs of classes and over "
    "weight, slant, serif and width of the typeface as the evaluation classifier estimates "
    f"them; a pair of classes with fewer than {FEWEST} such noises counts as 0",
    "",
    "higher",
    (-1.0, 1.0),
)
STYLES = {
    name: Metric(f"{name} kept", f"the same of {name} alone", "", "higher", (-1.0, 1.0))
    for name in ATTRIBUTES
}
OTHER_WEIGHT = Metric(
    "weight of another noise",
    "the same correlation of the weights of two letters from different noises",
    "",
    "",
    (-1.0, 1.0),
)
REAL_STYLE = Metric(
    "style of real letters",
    "the same correlation of two test letters of one typeface: a limit to what the "
    "classifier can see",
    "",
    "",
    (-1.0, 1.0),
)
DIVERSITY = Metric(
    "diversity",
    "mean distance of two samples of one requested class, over that of two test images",
    "×",
)
REAL = Metric(
    "accuracy on real images",
    "share of the test images that the evaluation classifier classifies correctly",
    "%",
)
PARAMETERS = Metric("parameters", "trainable parameters of both networks", "", "lower")


def swapped(
    trained: Adversarial, config: Config, noises: int
) -> Float[Tensor, "Z K 1 S S"]:
    """Every class from each of so many noises: the noise stays, the class is swapped."""
    classes, size = len(config.letters), config.image_size
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(noises, config.noise_size, generator=rng)
    batch = GanBatch(
        torch.zeros(noises * classes, 1, size, size),
        torch.arange(classes).repeat(noises),
        noise.repeat_interleave(classes, 0),
    )
    with trained.evaluating() as network:
        return network(batch).float().cpu().view(noises, classes, 1, size, size)  # type: ignore[no-any-return]


def style_kept(
    style: Float[Tensor, "Z K A"], valid: Bool[Tensor, "Z K"], shift: int = 0
) -> Float[Tensor, " A"]:
    """Correlation over noises of A attributes of two classes, mean over pairs of classes.

    Args:
        style: attributes of the letter of each noise and class.
        valid: which letters count.
        shift: 0 to compare letters of one noise, else of noises so far apart.
    """
    found = []
    for one, other in combinations(range(style.shape[1]), 2):
        second, usable = (each[:, other].roll(shift, 0) for each in (style, valid))
        both = valid[:, one] & usable
        if int(both.sum()) < FEWEST:
            found.append(style.new_zeros(style.shape[2]))
            continue
        x, y = (each[both] - each[both].mean(0) for each in (style[:, one], second))
        # Where nothing varies, nothing of the noise is kept: 0, not NaN.
        scale = (x.square().sum(0) * y.square().sum(0)).sqrt().clamp_min(1e-12)
        found.append((x * y).sum(0) / scale)
    return torch.stack(found).mean(0)


def evaluate(trained: Adversarial, config: Config) -> Measurement:
    """Class, style, distance from real letters, and diversity of every class from every noise."""
    splits, noises, classes = (
        config.splits,
        config.samples_per_class,
        len(config.letters),
    )
    classifier, test = splits.classifier(config.classifier_steps), splits.test
    images = swapped(trained, config, noises).flatten(0, 1)
    labels = torch.arange(classes).repeat(noises)

    def seen(real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features, predicted classes and attributes."""
        with torch.no_grad():
            parts = torch.split(real, 500)
            features = torch.cat([classifier.features(part) for part in parts])
            attributes = classifier.attribute_head(features)
            return features, classifier.letter_head(features).argmax(1), attributes

    features, found, attributes = seen(images)
    real, real_found, real_attributes = seen(test.ink)
    right = found == labels
    table, valid = attributes.view(noises, classes, -1), right.view(noises, classes)
    kept = style_kept(table, valid)
    real_kept = style_kept(
        real_attributes.view(-1, classes, len(ATTRIBUTES)),
        (real_found == test.labels).view(-1, classes),
    )
    size = sum(p.numel() for net in trained.networks.values() for p in net.parameters())
    return Measurement.of(
        Proportion.of(right, torch.arange(noises).repeat_interleave(classes)),
        {
            FRECHET: frechet_distance(features, real),
            REAL_FRECHET: frechet_distance(seen(splits.train.ink)[0], real),
            STYLE: float(kept.mean()),
            **{STYLES[name]: float(kept[i]) for i, name in enumerate(ATTRIBUTES)},
            OTHER_WEIGHT: float(style_kept(table, valid, shift=1)[0]),
            REAL_STYLE: float(real_kept.mean()),
            DIVERSITY: diversity(images, labels) / diversity(test.ink, test.labels),
            REAL: float(classifier.real_accuracy),
            PARAMETERS: float(size),
        },
    )


def draw(trained: Adversarial, config: Config) -> Image.Image:
    """A row for each noise, a column for each class."""
    return sheet(swapped(trained, config, ROWS), zoom=3)
