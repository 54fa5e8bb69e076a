"""Experiment of the decoder: new pairs of typeface and letter, made and classified."""

from __future__ import annotations

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.mechanisms.decoder.method import Config
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.contrast import Contrasted, ContrastSource
from featurewise.worlds.glyphs.sheets import sheet


def data(config: Config, seed: int) -> Source[Contrasted]:
    """Letters of all typefaces, but for the pairs of the test."""
    source = ContrastSource(config.splits.train, config.batch_size, seed)
    if config.shuffled_condition:
        return ShuffledCondition(source, ("letters", "contrasts"), previous_sample)
    return source


ACCURACY = Metric(
    "accuracy",
    "share of generated images that the evaluation classifier assigns to the requested "
    "letter, at full contrast",
    "%",
    "higher",
)
CONTRAST = Metric(
    "contrast",
    "share of generated images whose nearest image, among the true ones at all "
    "contrasts, has the requested contrast",
    "%",
    "higher",
)
BOTH = Metric(
    "both",
    "share of generated images where letter and contrast are right",
    "%",
    "higher",
)
ERROR = Metric(
    "error",
    "root mean squared difference from the true image, of grey values from 0 to 1",
    better="lower",
)
REAL = Metric(
    "accuracy on real images",
    "share of the true images that the evaluation classifier classifies correctly",
    "%",
)
PARAMETERS = Metric(
    "parameters", "trainable parameters of the decoder, without its codes"
)


def generated(trained: Supervised, batch: Contrasted) -> Float[Tensor, "B 1 S S"]:
    """The images that a batch requests."""
    with trained.evaluating() as network:
        return network(to_device(batch, trained.learner.device)).float().cpu()  # type: ignore[no-any-return]


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Letter and contrast of all pairs of the test, as classified."""
    splits = config.splits
    source, classifier = (
        ContrastSource(splits.train, 1),
        splits.classifier(config.classifier_steps),
    )
    batch = source.whole()
    images = generated(trained, batch)
    right = source.correct(images, batch, classifier)
    real = source.correct(batch.images, batch, classifier)["letter"]
    families = [typeface.superfamily for typeface in splits.train.typefaces]
    numbers = torch.tensor([sorted(set(families)).index(family) for family in families])
    groups = numbers[batch.typefaces]  # related families are one group
    weights = trained.network.get_submodule("net").parameters()
    return Measurement.of(
        Proportion.of(right["letter"], groups),
        {
            CONTRAST: Proportion.of(right["contrast"], groups),
            BOTH: Proportion.of(right["both"], groups),
            ERROR: float((images - batch.images).square().mean().sqrt()),
            REAL: float(real.double().mean()),
            PARAMETERS: float(sum(p.numel() for p in weights)),
        },
    )


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Pairs of the test, a row for each letter; every other image is the true one."""
    batch = ContrastSource(config.splits.train, 1).whole()
    images = torch.stack((generated(trained, batch), batch.images), 1)
    rows = [
        images[batch.letters == k][:6].flatten(0, 1) for k in range(len(config.letters))
    ]
    return sheet(nn.utils.rnn.pad_sequence(rows, batch_first=True), config.letters)
