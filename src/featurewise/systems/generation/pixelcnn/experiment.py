"""Experiment of the PixelCNN: conditions *what* and *where*, nats, and samples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.generation.pixelcnn.method import Config, nats
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition, random_order
from featurewise.training.source import Source
from featurewise.training.steppers import Generative
from featurewise.worlds.glyphs.labelled import ImageSource, LabelledImages
from featurewise.worlds.glyphs.placed import Pixels, PlacedSource
from featurewise.worlds.glyphs.sheets import sheet


def data(config: Config, seed: int) -> Source[Pixels]:
    """Training images."""
    return conditioned(config.splits.train, config.batch_size, config, seed)


def conditioned(
    images: LabelledImages, batch_size: int, config: Config, seed: int
) -> Source[Pixels]:
    """Black and white images, and their conditions as the config has them."""
    plain = ImageSource(images, batch_size, seed, jitter=config.jitter)
    source = PlacedSource(plain, config.conditioned)
    if not config.shuffled_condition:
        return source

    def within_kind(index: int, batch: Pixels) -> Tensor:
        """A class for a class, a window for a window."""
        half = int(batch.what.sum())
        orders = [
            random_order(seed, 2 * index + k, n) for k, n in enumerate((half, half))
        ]
        return torch.cat((orders[0], orders[1] + half))

    return ShuffledCondition(source, ("condition",), within_kind)


ACCURACY = Metric(
    "accuracy",
    "share of samples that the evaluation classifier assigns to the requested class",
    "%",
    "higher",
)
INSIDE = Metric(
    "ink inside the window",
    "share of the ink of samples that lies within the requested window, over all "
    "samples",
    "%",
    "higher",
)
NATS = Metric(
    "nats per image", "negative log-likelihood of a test image", "nats", "lower"
)
VALIDATION = Metric("validation nats", "the same of a validation image", "nats", "lower")
TRAINING = Metric("training nats", "the same of a training image", "nats", "lower")
WHAT = Metric(
    "nats given the class",
    "of a test image that is conditioned on its class",
    "nats",
    "lower",
)
WHERE = Metric(
    "nats given the window",
    "of a test image at half the size that is conditioned on its window",
    "nats",
    "lower",
)
REAL = Metric(
    "accuracy on real images",
    "share of test images that the evaluation classifier classifies correctly",
    "%",
)


def samples(
    trained: Generative, config: Config, condition: Float[Tensor, "N K"]
) -> Float[Tensor, "N 1 S S"]:
    """An image under each condition."""
    size, layout = config.image_size, config.conditions
    blank = torch.zeros(len(condition), 1, size, size)
    given = condition if config.conditioned else layout.uninformative(condition)
    what = condition[:, : layout.classes].sum(1) > 0
    return trained.sample(Pixels(blank, given, what)).cpu()


def mean_nats(
    trained: Generative, config: Config, images: LabelledImages
) -> tuple[float, float, float]:
    """Nats of so many images of a part: of all, given the class, given the window."""
    batch = conditioned(images, config.test_images, config, 0).batch(0)
    with trained.evaluating() as network:
        cost = nats(network, to_device(batch, trained.learner.device)).double().cpu()
    return (
        float(cost.mean()),
        float(cost[batch.what].mean()),
        float(cost[~batch.what].mean()),
    )


def evaluate(trained: Generative, config: Config) -> Measurement:
    """Nats of all parts of the data; samples under classes, classified, and under windows."""
    splits, layout = config.splits, config.conditions
    classifier = splits.classifier(config.classifier_steps)
    test, what, where = mean_nats(trained, config, splits.test)
    labels = torch.arange(layout.classes).repeat(config.samples_per_class)
    images = samples(trained, config, layout.of_class(labels))
    with torch.no_grad():
        right = classifier.letters(images).argmax(1) == labels
    rng = torch.Generator().manual_seed(0)
    rows, columns = torch.randint(layout.positions, (2, len(labels)), generator=rng)
    windows = layout.of_window(rows, columns)
    ink = samples(trained, config, windows)
    return Measurement.of(
        Proportion.of(right),
        {
            INSIDE: float((ink * layout.mask(windows)).sum() / ink.sum().clamp_min(1)),
            NATS: test,
            WHAT: what,
            WHERE: where,
            VALIDATION: mean_nats(trained, config, splits.validation)[0],
            TRAINING: mean_nats(trained, config, splits.train)[0],
            REAL: float(classifier.real_accuracy),
        },
    )


def draw(trained: Generative, config: Config) -> Image.Image:
    """Rows of samples under each class; below them rows under five windows."""
    layout, size, last = (
        config.conditions,
        config.image_size,
        config.conditions.positions - 1,
    )
    classes = torch.arange(layout.classes).repeat_interleave(12)
    corners = {
        "upper left": (0, 0),
        "upper right": (0, last),
        "middle": (last // 2, last // 2),
        "lower left": (last, 0),
        "lower right": (last, last),
    }
    rows, columns = (
        torch.tensor(list(corners.values())).repeat_interleave(12, 0).unbind(1)
    )
    condition = torch.cat((layout.of_class(classes), layout.of_window(rows, columns)))
    images = samples(trained, config, condition).view(-1, 12, 1, size, size)
    return sheet(images, [*config.class_names, *corners])
