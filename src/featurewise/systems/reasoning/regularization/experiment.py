"""Experiment: few scenes to train on, accuracy on these and on others."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

import torch
from torch import Tensor, nn

from featurewise.generators import deviation
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement
from featurewise.systems.reasoning.ablations import experiment as ablations
from featurewise.systems.reasoning.cogent.experiment import tested
from featurewise.systems.reasoning.cogent.method import conditioned_trunk
from featurewise.systems.reasoning.film.training import shuffle_questions
from featurewise.systems.reasoning.regularization.method import Config
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.clevr import Batch

TRAINING: Final = Metric(
    "training accuracy",
    "accuracy on scenes of training, as many readings as scenes are tested on, some of a scene "
    "twice, with four questions each",
    "%",
)
GAP: Final = Metric("gap", "training accuracy minus accuracy", "points", "lower")
DEVIATION: Final = Metric(
    "deviation",
    "mean squared distance of γ from 1 and of β from 0, over questions of the test",
    "",
)
METRICS: Final = (TRAINING, GAP, DEVIATION)


def data(config: Config, seed: int) -> Source[Batch]:
    """Maps of few scenes and questions about them."""
    stages = tuple(
        replace(stage, images=config.training_scenes) for stage in config.curriculum
    )
    return ablations.data(replace(config, curriculum=stages), seed)


def training_batches(config: Config) -> list[Batch]:
    """As many scenes of training as are tested on, with questions; the same for all seeds."""
    source = data(config, 0)
    first = config.steps - 1  # of the last stage
    count = -(-config.test_scenes // config.scenes_per_batch)
    return [source.batch(first - i) for i in range(min(count, config.steps))]


def test_batches(config: Config) -> list[Batch]:
    """Scenes that no trial is trained on."""
    found = list(ablations.test_batches(config))
    return [shuffle_questions(b) if config.shuffled_questions else b for b in found]


def mean_deviation(network: nn.Module, batches: Sequence[Batch]) -> float:
    """Of the parameters of all questions."""
    trunk, parts = conditioned_trunk(network), []
    for batch in batches:
        task = trunk.represent((batch.questions, batch.lengths))
        parts.append((float(cast("Tensor", deviation(task))), len(batch.lengths)))
    return sum(each * count for each, count in parts) / sum(n for _, n in parts)


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on new scenes and on scenes of training, and how far γ and β go."""
    with trained.evaluating() as averaged:
        network = copy.deepcopy(averaged)
    new, known = test_batches(config), training_batches(config)
    found, learned = tested(network, new).of(), tested(network, known).of()
    with torch.no_grad():
        far = mean_deviation(network, new)
    return Measurement.of(
        found,
        {
            TRAINING: learned,
            GAP: 100 * (learned.value - found.value),
            DEVIATION: far,
        },
    )
