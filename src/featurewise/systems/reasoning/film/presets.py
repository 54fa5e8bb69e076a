"""Curricula and presets: which scenes and questions, in which order, for how many steps."""

from __future__ import annotations

from dataclasses import replace

from featurewise.study.system import Intervals
from featurewise.systems.reasoning.film.config import Config
from featurewise.systems.reasoning.film.perception import Perception
from featurewise.worlds.clevr.splits import (
    ALL_QUESTIONS,
    NO_RELATIONS,
    PAPER_SIZE,
    SMALL_IMAGES,
    TINY_IMAGES,
    CurriculumStage,
)

QUESTIONS = replace(ALL_QUESTIONS, seed=2100, questions_per_image=60)
"""Scenes of 3 to 10 objects, 60 questions of all kinds about each."""

ZERO_RELATIONS = NO_RELATIONS.families or ()
UP_TO_ONE_RELATION = (*range(25, 31), *ZERO_RELATIONS)


def stage(
    seed: int,
    objects: tuple[int, int],
    images: int,
    questions: int,
    per_image: int,
    families: tuple[int, ...] | None = None,
) -> CurriculumStage:
    """A stage of so many questions, on scenes of ``objects`` (fewest, most) objects."""
    fewest, most = objects
    recipe = replace(
        QUESTIONS, seed=seed, min_objects=fewest, max_objects=most, families=families
    )
    steps = questions // (16 * per_image)
    return CurriculumStage(
        recipe=recipe, images=images, steps=steps, questions_per_image=per_image
    )


CURRICULUM = (
    stage(2110, (1, 3), 3_000, 256_000, 4, ZERO_RELATIONS),
    stage(2120, (2, 5), 3_000, 192_000, 4, ZERO_RELATIONS),
    stage(2130, (3, 10), 6_000, 256_000, 8, ZERO_RELATIONS),
    stage(2140, (3, 10), 6_000, 384_000, 8, UP_TO_ONE_RELATION),
    stage(2150, (2, 4), 4_000, 448_000, 8),
    stage(2160, (3, 6), 6_000, 640_000, 16),
    stage(2100, (3, 10), 70_000, 10_752_000, 16),
)
"""Easy scenes and questions first."""

PERCEPTION = Perception(
    recipe=replace(QUESTIONS, seed=2200, questions_per_image=1),
    images=40_000,
    steps=19_000,
)

FULL = Config(
    steps=sum(part.steps for part in CURRICULUM),
    intervals=Intervals(log=200, evaluate=8_000, save=2_000, save_seconds=120.0),
    perception=PERCEPTION,
    curriculum=CURRICULUM,
    test_images=1_000,
    questions_per_image=16,
    counts_every=32,
    dilations=(1, 2, 1, 2),
    embedding=128,
    hidden=256,
    features=128,
    classifier=256,
    head_std=0.5,
    learning_rate=1e-3,
    schedule="linear",
    adam_beta2=0.99,
    clip=1.0,
    head_learning_rate=4.0,
    encoder_learning_rate=1.0,
)

FIRST_STAGES = CURRICULUM[:4]
"""To questions with one relation about scenes of 3 to 10 objects."""

PRESETS = {
    "tiny": Config(
        steps=30,
        intervals=Intervals(log=10, save=10),
        curriculum=(CurriculumStage(recipe=TINY_IMAGES, images=64, steps=30),),
        test_images=16,
        images_per_batch=8,
        stem=(8,),
        channels=8,
        blocks=2,
        embedding=8,
        hidden=16,
        features=16,
    ),
    "demo": Config(
        steps=3_000,
        intervals=Intervals(log=50, evaluate=1_000, save=1_000),
        curriculum=(CurriculumStage(recipe=SMALL_IMAGES, images=3_000, steps=3_000),),
        test_images=300,
        stem=(32,),
        channels=48,
        blocks=3,
    ),
    "small": Config(
        steps=9_000,
        intervals=Intervals(log=100, evaluate=3_000, save=3_000, save_seconds=120.0),
        curriculum=(
            CurriculumStage(recipe=NO_RELATIONS, images=3_000, steps=3_000),
            CurriculumStage(recipe=ALL_QUESTIONS, images=4_000, steps=6_000),
        ),
        test_images=1_000,
    ),
    "hour": Config(
        steps=40_000,
        intervals=Intervals(log=100, evaluate=2_000, save=2_000, save_seconds=300.0),
        curriculum=(
            CurriculumStage(recipe=NO_RELATIONS, images=4_000, steps=4_000),
            CurriculumStage(recipe=ALL_QUESTIONS, images=12_000, steps=36_000),
        ),
        test_images=1_000,
    ),
    "relations": replace(
        FULL,
        steps=sum(part.steps for part in FIRST_STAGES),
        curriculum=FIRST_STAGES,
    ),
    "full": FULL,
    "paper": Config(
        steps=800_000,
        intervals=Intervals(log=100, evaluate=10_000, save=5_000, save_seconds=600.0),
        workers=8,
        curriculum=(CurriculumStage(recipe=PAPER_SIZE, images=70_000, steps=800_000),),
        test_images=15_000,
        images_per_batch=64,
        questions_per_image=1,
        stem=(128, 128, 128),
        channels=128,
        embedding=200,
        hidden=4_096,
        features=512,
        learning_rate=3e-4,
        head_learning_rate=1.0,
        encoder_learning_rate=1.0,
    ),
}
