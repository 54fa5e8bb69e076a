"""How FiLM and its baselines are trained and measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.generators import parameter_groups
from featurewise.study.results import Measurement
from featurewise.study.system import Arm
from featurewise.systems.reasoning.film.counting import CountsByNumber
from featurewise.systems.reasoning.film.perception import Answers, naming_loss
from featurewise.systems.reasoning.film.settings import Reasoning
from featurewise.systems.reasoning.film.study import (
    Lessons,
    Shuffled,
    Unlabelled,
    folder_source,
    held_out,
    measure,
    shuffled,
)
from featurewise.systems.reasoning.film.twins import measure_twins, rendered
from featurewise.training.optim import cosine
from featurewise.training.source import Source
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.clevr import Batch, PoolSource
from featurewise.worlds.clevr.cache import cached_pool


def objective(network: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the answers, and of the names of things where a network looks."""
    answers: Answers = network(batch)
    logits = answers.logits.float()
    loss = F.cross_entropy(logits, batch.answers)
    metrics = {"accuracy": (logits.argmax(1) == batch.answers).float().mean()}
    if answers.names is not None and batch.objects is not None:
        height, width = batch.images.shape[2:]
        loss = loss + 0.1 * naming_loss(answers.names, batch.objects, (width, height))
    return loss, metrics


def stepper(network: nn.Module, s: Reasoning, arm: Arm) -> Supervised:
    """Adam with a cosine schedule; the reader and the generator's head learn at their own rates."""
    groups = parameter_groups(network, s.weight_decay)
    words = {id(p) for name, p in network.named_parameters() if "encoder" in name or "read" in name}
    split = [part for group in groups for part in _parts(group, words, s)]
    return Supervised(
        network,
        objective,
        torch.optim.Adam(split, lr=s.learning_rate, fused=True),
        schedule=cosine(s.steps, warmup=min(300, s.steps // 10), floor=0.02),
        clip=5.0,
        average=0.999,
        bfloat16=s.bfloat16,
    )


def _parts(group: dict[str, Any], words: set[int], s: Reasoning) -> list[dict[str, Any]]:
    """A group cut into words and the rest, each with its learning rate."""
    rest = s.head_rate if group["name"] == "heads" else 1.0
    parts = [
        ([p for p in group["params"] if id(p) in words], s.reader_rate),
        ([p for p in group["params"] if id(p) not in words], rest),
    ]
    return [{**group, "params": ps, "lr": rate * s.learning_rate} for ps, rate in parts if ps]


def data(s: Reasoning, arm: Arm, seed: int) -> Source[Batch]:
    """Batches that an arm is trained on; those of the control have the questions of others."""
    source = _source(s, seed)
    return Shuffled(source) if arm.name == "shuffled" else source


def _source(s: Reasoning, seed: int) -> Source[Batch]:
    """Batches of the folder, or of one lesson after the other from pools that are kept."""
    if s.folder is not None:
        return Unlabelled(folder_source(s, s.folder, seed=seed))
    pools = [
        PoolSource(
            cached_pool(lesson.recipe, lesson.images),
            seed=seed,
            images_per_batch=s.pictures,
            questions_per_image=s.questions,
        )
        for lesson in s.lessons
    ]
    return Lessons(pools, [lesson.steps for lesson in s.lessons])


def evaluate(trained: Supervised, s: Reasoning, arm: Arm) -> Measurement:
    """Accuracy on images that no run is trained on, of counts by number and of the twin test.

    Also whether another question about an image gets its own answer. Twins are asked about where
    relations were learnt in the built-in world, and not under the control.
    """
    numbers = CountsByNumber()
    control = arm.name == "shuffled"
    with trained.evaluating() as network:
        found = measure(network, held_out(s), shuffled if control else None, numbers.add)
        relations = s.folder is None and s.lessons[-1].recipe.families is None
        twins = measure_twins(network, rendered(s)) if relations and not control else {}
    return replace(found, by_type={**found.by_type, **numbers.by_type(), **twins})
