"""Experiment with adaptive convolution: accuracy at levels of noise, trained on and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor, nn

from featurewise.common.rng import seeded_rng
from featurewise.study.figures import BAR, as_image, figure
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.recognition.adaptive_convolution.method import Config
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.small import DigitSource, digits
from featurewise.worlds.small.noisy import NoisyImages, NoisySource, at_level

TRAINED: Final = (0, 30, 60)
"""Levels of noise in training, in percent of the pixels."""

BETWEEN: Final = (15, 45)
BEYOND: Final = (75, 90)
LEVELS: Final = tuple(sorted((*TRAINED, *BETWEEN, *BEYOND)))

REPEATS: Final = 4
"""So many times each digit is tested at each level, with different noise."""


def data(config: Config, seed: int) -> Source[NoisyImages]:
    """Training digits, each at a random one of the levels of training."""
    plain = DigitSource(seed, config.batch_size)
    source = NoisySource(plain, tuple(level / 100 for level in TRAINED))
    if config.shuffled_condition:
        return ShuffledCondition(source, ("condition",), previous_sample)
    return source


def _share(name: str, what: str) -> Metric:
    text = f"share of test digits that are classified correctly, {what}"
    return Metric(name, text, PERCENT, "higher")


SEEN = _share("accuracy", "over the levels of noise in training: 0, 30 and 60 %")
AT_BETWEEN = _share("accuracy between", "over the levels between them: 15 and 45 %")
AT_BEYOND = _share("accuracy beyond", "over the levels beyond them: 75 and 90 %")
BY_LEVEL: Final[Mapping[int, Metric]] = {
    level: _share(f"accuracy, noise {level} %", f"with {level} % noise")
    for level in LEVELS
}
NEXT = _share(
    "accuracy between, next level",
    "over the levels between, where the trained network reads a level of training next to "
    "that of the noise; the mean of both",
)
OTHER = _share(
    "accuracy, other level",
    "over the levels of training, where the trained network reads another one of them: 30 "
    "for 0 %, 60 for 30 %, 0 for 60 %",
)


MISLED: Final[Mapping[Metric, tuple[tuple[int, int], ...]]] = {
    OTHER: ((0, 30), (30, 60), (60, 0)),
    NEXT: ((15, 0), (15, 30), (45, 30), (45, 60)),
}
"""Pairs of the level of the noise and the level that the network reads."""


def at(config: Config, level: int, given: int | None = None) -> NoisyImages:
    """Every test digit, several times, at a level of noise.

    Args:
        config: says of which split, and whether conditions are shuffled: then each digit has
            that of another digit, which is any level of training.
        level: of the noise, in percent.
        given: level that the network reads instead.
    """
    found = at_level(digits(config.split), level / 100, REPEATS)
    if config.shuffled_condition:
        rng = seeded_rng(0, "shuffled", level)
        chosen = torch.randint(len(TRAINED), (len(found.labels),), generator=rng)
        return replace(found, condition=torch.tensor(TRAINED)[chosen, None] / 100)
    if given is None:
        return found
    return replace(found, condition=torch.full_like(found.condition, given / 100))


@torch.no_grad()
def correct(network: nn.Module, batch: NoisyImages) -> Bool[Tensor, " N"]:
    """Which digits are classified correctly."""
    return network(batch).argmax(1) == batch.labels  # type: ignore[no-any-return]


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy at each level of noise; of networks that read it, with other levels, too."""
    with trained.evaluating() as network:
        right = {level: correct(network, at(config, level)) for level in LEVELS}
        numbers: dict[Metric, Proportion | float] = {
            AT_BETWEEN: _together([right[level] for level in BETWEEN]),
            AT_BEYOND: _together([right[level] for level in BEYOND]),
            **{BY_LEVEL[level]: _together([right[level]]) for level in LEVELS},
        }
        if config.reads != "none" and not config.shuffled_condition:
            numbers |= {
                metric: _together(
                    [correct(network, at(config, *pair)) for pair in pairs]
                )
                for metric, pairs in MISLED.items()
            }
    return Measurement.of(_together([right[level] for level in TRAINED]), numbers)


def _together(right: Sequence[Bool[Tensor, " N"]]) -> Proportion:
    """A share over several levels; a digit counts once, however often it was tested."""
    stacked = torch.stack(list(right))
    digit = torch.arange(stacked.shape[1]) // REPEATS
    return Proportion.of(stacked, groups=digit.expand_as(stacked))


def draw(trained: Supervised, config: Config) -> Image.Image:
    """A digit at each level of noise, and the accuracy there."""
    with trained.evaluating() as network:
        shares = [
            100 * correct(network, at(config, level)).double().mean().item()
            for level in LEVELS
        ]
    plot = figure(8.0, 3.6)
    grid = plot.add_gridspec(2, len(LEVELS), height_ratios=(1, 2))
    for column, level in enumerate(LEVELS):
        axes = plot.add_subplot(grid[0, column])
        image = at(config, level).images[0, 0]
        axes.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=1)
        axes.set_axis_off()
    axes = plot.add_subplot(grid[1, :])
    axes.plot(LEVELS, shares, color=BAR)
    for levels, fill, label in (
        (TRAINED, BAR, "trained on"),
        ((*BETWEEN, *BEYOND), "white", "not trained on"),
    ):
        heights = [shares[LEVELS.index(level)] for level in levels]
        axes.plot(levels, heights, "o", color=BAR, markerfacecolor=fill, label=label)
    axes.set(xlabel="noise (% of the pixels)", ylabel="accuracy (%)", ylim=(0, 100))
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return as_image(plot)
