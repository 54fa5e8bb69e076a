"""Experiment of the ablations: maps of scenes, questions, accuracy by group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.ablations.method import Config
from featurewise.systems.reasoning.film.training import (
    half_a_batch_on,
    shuffle_questions,
)
from featurewise.training.batch import to_device
from featurewise.training.shuffled import ShuffledCondition
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.clevr import Batch
from featurewise.worlds.clevr.maps import object_maps, pool_maps
from featurewise.worlds.clevr.metrics import GROUPS, questions_by_type
from featurewise.worlds.clevr.splits import (
    held_out_batches,
    training_batches,
)


def data(config: Config, seed: int) -> Source[Batch]:
    """Maps of scenes and questions about them, stage by stage."""

    def maps(pool: Path) -> Tensor:
        return pool_maps(pool, *config.map_size)

    source: Source[Batch] = training_batches(
        config.curriculum,
        None,
        images_per_batch=config.scenes_per_batch,
        questions_per_image=4,
        seed=seed,
        features=maps,
    )
    if config.shuffled_questions:
        return ShuffledCondition(source, ("questions", "lengths"), half_a_batch_on)
    return source


BY_GROUP = {
    group: Metric(group, f"accuracy on questions of the group {group}", "%")
    for group in GROUPS
}


def test_batches(config: Config) -> Iterator[Batch]:
    """Scenes that no trial is trained on, as maps, with ten questions each."""
    recipe = config.curriculum[-1].recipe
    for batch in held_out_batches(recipe, config.test_scenes):
        if batch.objects is not None:
            yield replace(batch, images=object_maps(batch.objects, *config.map_size))


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy, also by the groups of the published tables."""
    right, answers, types, scenes = [], [], [], []
    seen = 0
    with trained.evaluating() as network, torch.no_grad():
        for batch in test_batches(config):
            given = shuffle_questions(batch) if config.shuffled_questions else batch
            logits = network(to_device(given, trained.learner.device))
            right.append(logits.argmax(1).cpu() == batch.answers)
            answers.append(batch.answers)
            types.append(batch.types)
            scenes.append(seen + batch.image_index)
            seen += len(batch.images)
    hits, groups = torch.cat(right), torch.cat(scenes)
    by_type = questions_by_type(torch.cat(answers), torch.cat(types))
    found = {}
    for group, names in GROUPS.items():
        rows = [by_type[name] for name in names if name in by_type]
        if rows:
            which = torch.stack(rows).any(0)
            found[BY_GROUP[group]] = Proportion.of(hits[which], groups=groups[which])
    return Measurement.of(Proportion.of(hits, groups=groups), found)
