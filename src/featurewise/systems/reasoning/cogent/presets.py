"""Presets of CoGenT: scenes of condition A, stages, sizes."""

from __future__ import annotations

from dataclasses import fields, replace

from featurewise.study.system import Intervals
from featurewise.systems.reasoning.ablations.presets import (
    PRESETS as ABLATIONS,
)
from featurewise.systems.reasoning.ablations.presets import (
    ZERO_RELATIONS,
    stage,
)
from featurewise.systems.reasoning.cogent.method import Config


def _preset(name: str) -> Config:
    """Sizes of the ablations."""
    same = ABLATIONS[name]
    return Config(**{each.name: getattr(same, each.name) for each in fields(same)})


_TINY = _preset("tiny")
_ONLY = _TINY.curriculum[0]

PRESETS = {
    "tiny": replace(
        _TINY,
        curriculum=(
            replace(_ONLY, recipe=replace(_ONLY.recipe, families=ZERO_RELATIONS)),
        ),
        scenes_of_b=32,
        scenes_per_step=2,
        fisher_scenes=2,
    ),
    "small": replace(
        _preset("small"),
        steps=1_200,
        intervals=Intervals(log=50, evaluate=1_200, save=200),
        curriculum=(stage(2410, (1, 3), 1_200, ZERO_RELATIONS),),
        test_scenes=1_000,
        scenes_per_batch=32,
        coordinates=False,
        blocks=2,
        hidden=64,
        features=64,
        learning_rate=3e-3,
    ),
    "paper": replace(_preset("paper"), scenes_of_b=7_504, scenes_per_step=16),
}
