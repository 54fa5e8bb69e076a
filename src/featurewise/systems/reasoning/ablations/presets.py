"""Presets of the ablations: scenes, stages, sizes."""

from __future__ import annotations

from dataclasses import replace

from featurewise.study.system import Intervals
from featurewise.systems.reasoning.ablations.method import Config
from featurewise.worlds.clevr.splits import (
    ALL_QUESTIONS,
    NO_RELATIONS,
    CurriculumStage,
)

SCENES = replace(
    ALL_QUESTIONS, seed=2310, width=30, height=20, samples=1, questions_per_image=40
)
"""Scenes whose images are not used, hence small."""


def stage(
    seed: int, objects: tuple[int, int], steps: int, families: tuple[int, ...]
) -> CurriculumStage:
    """A stage on scenes of ``objects`` (fewest, most) objects."""
    fewest, most = objects
    recipe = replace(
        SCENES, seed=seed, min_objects=fewest, max_objects=most, families=families
    )
    return CurriculumStage(recipe=recipe, images=3_000, steps=steps)


ZERO_RELATIONS = NO_RELATIONS.families or ()
UP_TO_ONE_RELATION = (*range(25, 31), *ZERO_RELATIONS)

PRESETS = {
    "tiny": Config(
        steps=20,
        intervals=Intervals(log=10, save=10),
        curriculum=(
            CurriculumStage(
                recipe=replace(SCENES, questions_per_image=6), images=32, steps=20
            ),
        ),
        test_scenes=12,
        scenes_per_batch=4,
        channels=8,
        blocks=4,
        embedding=8,
        hidden=16,
        features=16,
        learning_rate=4e-3,
    ),
    "small": Config(
        steps=1_200,
        intervals=Intervals(log=100, evaluate=1_200, save=400),
        curriculum=(
            stage(2310, (1, 3), 700, ZERO_RELATIONS),
            stage(2330, (2, 4), 500, UP_TO_ONE_RELATION),
        ),
        scenes_per_batch=64,
        map_size=(4, 6),
        channels=32,
        hidden=96,
        learning_rate=2e-3,
    ),
    "paper": Config(
        steps=800_000,
        intervals=Intervals(log=100, evaluate=20_000, save=5_000, save_seconds=600.0),
        curriculum=(CurriculumStage(recipe=SCENES, images=70_000, steps=800_000),),
        test_scenes=15_000,
        scenes_per_batch=64,
        map_size=(14, 14),
        channels=128,
        embedding=200,
        hidden=4_096,
        features=512,
        learning_rate=3e-4,
    ),
}
