"""Experiment with the operations: accuracy by task."""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from PIL import Image

from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.mechanisms.operations.method import Config, by_task
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition, previous_sample
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.small import TASKS, Questions, Tasks, TaskSource


def questions(config: Config, source: TaskSource) -> Source[Tasks]:
    """Questions of a source, with the z of other questions where the config says so."""
    if config.shuffled_condition:
        fields = tuple(f"{task}.condition" for task in TASKS)
        return ShuffledCondition(source, fields, previous_sample)
    return source


def data(config: Config, seed: int) -> Source[Tasks]:
    """Training questions."""
    return questions(config, TaskSource(seed, config.batch_size, config.features))


MATCH = Metric(
    "match", "accuracy: do the signs of x and z agree, feature by feature", "%"
)
DETECT = Metric("detect", "accuracy: is x or z positive, feature by feature", "%")
PARITY = Metric(
    "parity", "accuracy: do the two features of x that z selects have one sign", "%"
)
FALLBACK = Metric(
    "fallback", "accuracy: is x, or where x is zero z, positive, feature by feature", "%"
)
BY_TASK = dict(zip(TASKS, (MATCH, DETECT, PARITY, FALLBACK), strict=True))


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy by task, and over the answers of all tasks."""
    test = TaskSource(0, config.test_questions, config.features, split=config.split)
    batch = to_device(questions(config, test).batch(0), trained.learner.device)
    with trained.evaluating() as network:
        found = {
            BY_TASK[task]: Proportion.of((logits > 0) == labels)
            for task, (logits, labels) in by_task(network(batch), batch).items()
        }
    return Measurement.of(reduce(add, found.values()), found)


def draw(trained: Supervised, config: Config) -> Image.Image:
    """Mean probability of yes (white) over x (across) and z (up), the same in all features.

    For parity over the two features of x that z selects, all others zero.
    """
    line = torch.linspace(-1.5, 1.5, 96)
    plane = torch.stack(torch.meshgrid(line, line.flip(0), indexing="xy"), 2).view(-1, 2)
    x, z = (plane[:, i : i + 1].repeat(1, config.features) for i in (0, 1))
    two = F.pad(plane, (0, config.features - 2))
    labels = torch.zeros(len(x), config.features, dtype=torch.bool)
    signs = Questions(x, z, labels)
    selected = Questions(two, (two != 0).float(), labels[:, :1])
    batch = to_device(Tasks(signs, signs, selected, signs), trained.learner.device)
    with trained.evaluating() as network:
        parts = by_task(network(batch).float().sigmoid(), batch).values()
    yes = torch.cat([part.mean(1).view(96, 96) for part, _ in parts], 1)
    return Image.fromarray((255 * yes).byte().cpu().numpy()).resize((1152, 288))
