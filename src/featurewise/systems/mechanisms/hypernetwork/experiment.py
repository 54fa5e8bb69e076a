"""Experiment of the spectrum: rotated digits, at angles of training and at others."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import featurewise as fw
from featurewise.study.metric import ACCURACY, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.mechanisms.hypernetwork.method import Config
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.small.rotated import (
    Rotated,
    RotatedSource,
    cosine_and_sine,
    rotated_digits,
    seen_angles,
    unseen_angles,
)


def data(config: Config, seed: int) -> Source[Rotated]:
    """Training digits at random ones of the seen angles."""
    source = RotatedSource(config.batch_size, config.angles, seed)
    if config.shuffled_condition:
        return ShuffledCondition(source, ("condition",), previous_sample)
    return source


SEEN = Metric(
    ACCURACY.name,
    "share of test digits classified correctly, at the angles of training",
    "%",
    "higher",
)
UNSEEN = Metric(
    "accuracy at unseen angles",
    "share of test digits classified correctly, at the angles in the middle between "
    "those of training",
    "%",
    "higher",
)
INTERPOLATION = Metric(
    "gain of the angle",
    "accuracy at unseen angles, less the accuracy there with the angle of training next "
    "to it as condition, the mean of both neighbours",
    "points",
    "higher",
)
PREDICTED = Metric("predicted numbers", "numbers that are predicted from a condition")


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on every test digit at seen and at unseen angles, and with neighbouring angles."""
    seen, unseen = seen_angles(config.angles), unseen_angles(config.angles)
    step = (unseen[0] - seen[0]).item()

    def accuracy(angles: Tensor, condition: Tensor) -> Proportion:
        batch = rotated_digits(config.split, angles)
        count = len(batch.labels) // len(angles)
        batch = replace(batch, condition=cosine_and_sine(condition).repeat(count, 1))
        if config.shuffled_condition:
            batch = replace(batch, condition=batch.condition[previous_sample(0, batch)])
        right = (
            network(to_device(batch, trained.learner.device)).argmax(1).cpu()
            == batch.labels
        )
        digit = torch.arange(count).repeat_interleave(len(angles))
        return Proportion.of(right, groups=digit)

    with trained.evaluating() as network:
        found, at_unseen = accuracy(seen, seen), accuracy(unseen, unseen)
        neighbours = [accuracy(unseen, unseen + side * step).value for side in (-1, 1)]
        net = network.get_submodule("net")
    numbers: dict[Metric, Proportion | float] = {
        UNSEEN: at_unseen,
        INTERPOLATION: 100 * (at_unseen.value - sum(neighbours) / 2),
        PREDICTED: net.layout.size if isinstance(net, fw.Conditioned) else 0,
    }
    return Measurement.of(found, numbers)
