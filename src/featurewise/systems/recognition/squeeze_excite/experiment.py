"""Experiment with squeeze-and-excitation: accuracy, cuts of the self-path, gates by class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from featurewise.analysis import dependence
from featurewise.study.figures import as_image, bars, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.recognition.squeeze_excite.method import (
    CLASSES,
    Batch,
    Config,
    Excitation,
    SqueezeExciteNetwork,
)
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.labelled import (
    FASHION_CLASSES,
    ImageBatch,
    ImageSource,
    fashion_images,
)
from featurewise.worlds.small import Digits, DigitSource, digits

SIZE = 16
"""Height and width of the images of Fashion-MNIST here."""

PLOTTED = (1, 7, 8)
"""Classes in the figure: trouser, sneaker, bag."""

_EVALUATED = 500
"""Test images at a time."""


@dataclass(frozen=True)
class OwnFeatures:
    """Batches of images, whose gates read the images themselves.

    Attributes:
        source: images and their labels.
    """

    source: Source[Any]

    def batch(self, index: int, /) -> Batch:
        """The batch of this index."""
        found = self.source.batch(index)
        return Batch(found.images, found.images, found.labels)


def data(config: Config, seed: int) -> Source[Batch]:
    """Training images in random order; in the control each with the one before it."""
    own = OwnFeatures(
        ImageSource(fashion_images(size=SIZE).train, config.batch_size, seed)
        if config.data == "fashion"
        else DigitSource(seed, config.batch_size, "train")
    )
    if config.excitation == "other":
        return ShuffledCondition(own, ("squeezed",), previous_sample)
    return own


def evaluated_images(config: Config) -> Batch:
    """All test images, each with the one before it."""
    found: Digits | ImageBatch = digits("test")
    if config.data == "fashion":
        test = fashion_images(size=SIZE).test
        found = ImageBatch(test.ink, test.labels)
    return Batch(found.images, found.images.roll(1, 0), found.labels)


def parts(batch: Batch) -> Iterator[Batch]:
    """A batch in parts of a size that fits in memory."""
    for start in range(0, len(batch.labels), _EVALUATED):
        rows = slice(start, start + _EVALUATED)
        yield Batch(batch.images[rows], batch.squeezed[rows], batch.labels[rows])


OTHER = Metric(
    "accuracy, other gates",
    "accuracy of the trained network where the gates of each test image read the features "
    "of another one",
    PERCENT,
    "higher",
)
MEAN = Metric(
    "accuracy, mean gates",
    f"accuracy of the trained network where all gates read the mean of the features of "
    f"{_EVALUATED} test images",
    PERCENT,
    "higher",
)
OVER_INPUTS = Metric(
    "over images", "share of the gates' variance that is between test images", PERCENT
)
FIRST = Metric(
    "over classes, first block",
    "share of the variance of gates between test images that is between the ten classes, "
    "in the first block",
    PERCENT,
)
LAST = Metric("over classes, last block", "the same in the last block", PERCENT)


@torch.no_grad()
def correct(network: nn.Module, batch: Batch) -> Tensor:
    """Which images of a batch are classified correctly."""
    return torch.cat([network(part).argmax(1) == part.labels for part in parts(batch)])


def with_excitation(network: nn.Module, config: Config, reads: Excitation) -> nn.Module:
    """A copy of a trained network in eval mode, whose gates read something else."""
    other = SqueezeExciteNetwork(replace(config, excitation=reads))
    other.load_state_dict(network.state_dict())
    return other.eval()


@torch.no_grad()
def gates(network: Any, batch: Batch) -> list[Float[Tensor, "B C"]]:
    """The gates s of each block, one row for each image."""
    found: list[list[Tensor]] = []
    for part in parts(batch):
        recorded: dict[str, dict[str, Tensor]] = {}
        with network.trunk.using(record=recorded):
            network(part)
        count = len(part.labels)
        rows = [values["gamma"].sigmoid() for values in recorded.values()]
        found.append(
            [each.expand(count, -1) if each.ndim < 2 else each[:count] for each in rows]
        )
    return [torch.cat(blocks) for blocks in zip(*found, strict=True)]


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on the test images; of the system also with its self-path cut, and its gates."""
    batch = evaluated_images(config)
    with trained.evaluating() as network:
        accuracy = Proportion.of(correct(network, batch))
        if config.excitation != "own":
            return Measurement(accuracy)
        by_block = gates(network, batch)
        first, last = (
            dependence(each, batch.labels) for each in (by_block[0], by_block[-1])
        )
        return Measurement.of(
            accuracy,
            {
                OTHER: Proportion.of(
                    correct(with_excitation(network, config, "other"), batch)
                ),
                MEAN: Proportion.of(
                    correct(with_excitation(network, config, "mean"), batch)
                ),
                OVER_INPUTS: dependence(
                    torch.cat(by_block, 1), batch.labels
                ).over_samples,
                FIRST: first.over_classes,
                LAST: last.over_classes,
            },
        )


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Mean gates by class; of networks without gates, accuracy by class."""
    batch = evaluated_images(config)
    with trained.evaluating() as network:
        if config.excitation == "none":
            right = correct(network, batch)
            shares = [
                100 * right[batch.labels == label].double().mean().item()
                for label in range(CLASSES)
            ]
            return bars(shares, "class", "accuracy (%)", first=0)
        by_block = gates(network, batch)
    plot = figure(8.0, 2.8)
    for number, (axes, values) in enumerate(
        zip(plot.subplots(1, len(by_block), sharey=True), by_block, strict=True), start=1
    ):
        order = values.mean(0).argsort()
        for label in PLOTTED:
            mean = values[batch.labels == label].mean(0)[order]
            name = FASHION_CLASSES[label] if config.data == "fashion" else str(label)
            axes.plot(mean.tolist(), label=name)
        axes.set(title=f"block {number}", xlabel="channel")
        axes.spines[["top", "right"]].set_visible(False)
        if number == 1:
            axes.set(ylabel="mean gate", ylim=(0, 1))
            axes.legend(frameon=False, fontsize="small")
    return as_image(plot)
