"""Experiment with AdaBN: accuracy in shifted domains, and how many target images it takes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final, Literal

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn

from featurewise.common.rng import seeded_rng
from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.recognition.adabn.method import (
    Config,
    Images,
    Recogniser,
    adapt,
)
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.glyphs.labelled import ImageBatch, ImageSource, fashion_images
from featurewise.worlds.glyphs.shifts import SHIFTS, Shift
from featurewise.worlds.small import DigitSource, digits

SIZE: Final = 16
"""Height and width of the images of Fashion-MNIST here."""

TESTED_PER_CLASS: Final = 200
COUNTS: Final = (1, 4, 16, 64, 256)
"""Numbers of target images."""

REPEATS: Final = 5
"""So many sets of each number of target images."""

_EVALUATED: Final = 500


def data(config: Config, seed: int) -> Source[Images]:
    """Training images of the source domain, unchanged."""
    if config.data == "fashion":
        return ImageSource(fashion_images(size=SIZE).train, config.batch_size, seed)
    return DigitSource(seed, config.batch_size, "train")


def evaluated_images(config: Config, split: Literal["validation", "test"]) -> Images:
    """Unchanged images: of the test, or those whose shifted versions are adapted to."""
    if config.data == "digits":
        return digits(split)
    splits = fashion_images(size=SIZE)
    if split == "test":
        found = splits.test.first(TESTED_PER_CLASS)
        return ImageBatch(found.ink, found.labels)
    return ImageBatch(splits.validation.ink, splits.validation.labels)


ACCURACY = Metric(
    "accuracy",
    "share of test images that are classified correctly, over the four shifts of "
    "statistics: contrast, ink, blur, noise",
    PERCENT,
    "higher",
)
GEOMETRY = Metric(
    "accuracy, geometry",
    "the same over the two shifts of geometry: rotated, upside down",
    PERCENT,
    "higher",
)
UNSHIFTED = Metric(
    "accuracy, source",
    "the same on images that are not shifted; where norms are adapted, to images that are "
    "not shifted either",
    PERCENT,
    "higher",
)
BY_SHIFT: Final[Mapping[str, Metric]] = {
    shift.name: Metric(
        f"accuracy, {shift.name}",
        f"share of test images of shift {shift.name} that are classified correctly",
        PERCENT,
        "higher",
    )
    for shift in SHIFTS
}
BY_COUNT: Final[Mapping[int, Metric]] = {
    count: Metric(
        f"accuracy, {count} target image{'s' if count > 1 else ''}",
        f"accuracy over the four shifts of statistics, where so many images are adapted to; "
        f"over {REPEATS} sets of them",
        PERCENT,
        "higher",
    )
    for count in COUNTS
}
SOURCE: Final = Shift("source", "geometry", lambda images, rng: images)


def target_images(
    config: Config, shift: Shift, count: int, repeat: int = 0
) -> Float[Tensor, "N 1 S S"]:
    """Images of a shifted domain to adapt to; none of them is tested on.

    Args:
        config: says of which data set.
        shift: of the domain.
        count: number of images, or all where there are fewer.
        repeat: number of the set of images.
    """
    images = evaluated_images(config, "validation").images
    rng = seeded_rng(0, "target", count, repeat)
    chosen = images[torch.randperm(len(images), generator=rng)[:count]]
    return shift.change(chosen, rng)


def shifted_test(config: Config, shift: Shift) -> Images:
    """The test images in a shifted domain."""
    test = evaluated_images(config, "test")
    return ImageBatch(shift.change(test.images, seeded_rng(0, "test")), test.labels)


@torch.no_grad()
def correct(network: nn.Module, batch: Images) -> Bool[Tensor, " N"]:
    """Which images are classified correctly."""
    right = []
    for start in range(0, len(batch.labels), _EVALUATED):
        rows = slice(start, start + _EVALUATED)
        part = ImageBatch(batch.images[rows], batch.labels[rows])
        right.append(network(part).argmax(1) == part.labels)
    return torch.cat(right)


def adapted(
    network: Recogniser, config: Config, shift: Shift, count: int, repeat: int = 0
) -> Recogniser:
    """A copy of a network that is adapted to images of a domain."""
    found = copy.deepcopy(network)
    images = target_images(config, shift, count, repeat)
    adapt(found, images, first_only=config.norms == "first")
    return found


def tested(network: Recogniser, config: Config, shift: Shift) -> Bool[Tensor, " N"]:
    """Which images of a domain are right, with the statistics that the config names."""
    batch = shifted_test(config, shift)
    if config.statistics == "source":
        return correct(network, batch)
    read = shift
    if config.statistics == "other" and shift in SHIFTS:
        read = SHIFTS[SHIFTS.index(shift) - 1]
    return correct(adapted(network, config, read, config.target_images), batch)


def by_count(network: Recogniser, config: Config, count: int) -> float:
    """Accuracy over the shifts of statistics, each adapted to by sets of so many images."""
    right = [
        correct(
            adapted(network, config, shift, count, repeat), shifted_test(config, shift)
        )
        for shift in SHIFTS
        if shift.kind == "statistics"
        for repeat in range(REPEATS)
    ]
    return torch.stack(right).double().mean().item()


def over(shifts: Mapping[Shift, Tensor], kind: str) -> Proportion:
    """Accuracy over all shifts of a kind; each image is in all of them, and counts once."""
    right = torch.stack([each for shift, each in shifts.items() if shift.kind == kind])
    return Proportion.of(right, torch.arange(right.shape[1]).expand_as(right))


def trained_network(trained: Supervised) -> Recogniser:
    """A copy of the trained network, in eval mode."""
    with trained.evaluating() as network:
        found: Recogniser = copy.deepcopy(network)  # type: ignore[assignment]
    return found


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy in each domain; of AdaBN also by the number of target images."""
    network = trained_network(trained)
    shifts = {shift: tested(network, config, shift) for shift in SHIFTS}
    numbers: dict[Metric, Proportion | float] = {
        GEOMETRY: over(shifts, "geometry"),
        UNSHIFTED: Proportion.of(tested(network, config, SOURCE)),
        **{BY_SHIFT[shift.name]: Proportion.of(each) for shift, each in shifts.items()},
    }
    if config.statistics == "target" and config.norms == "all":
        for count, metric in BY_COUNT.items():
            numbers[metric] = by_count(network, config, count)
    return Measurement.of(over(shifts, "statistics"), numbers)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """An image in each domain, and the accuracy there."""
    network, domains = trained_network(trained), (SOURCE, *SHIFTS)
    plot = figure(8.0, 3.6)
    grid = plot.add_gridspec(2, len(domains), height_ratios=(1, 2))
    for column, shift in enumerate(domains):
        axes = plot.add_subplot(grid[0, column])
        axes.imshow(
            shifted_test(config, shift).images[0, 0].numpy(),
            cmap="gray_r",
            vmin=0,
            vmax=1,
        )
        axes.set_axis_off()
    axes = plot.add_subplot(grid[1, :])
    shares = [
        100 * tested(network, config, shift).double().mean().item() for shift in domains
    ]
    axes.bar([shift.name for shift in domains], shares, color=BAR)
    axes.set(ylabel="accuracy (%)", ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
