"""Experiment: both conditions of CLEVR-CoGenT, zero-shot sums, and fine-tuning on B."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from featurewise.analysis.bootstrap import clustered_bootstrap
from featurewise.common.rng import seeded_rng
from featurewise.core import TaskRepresentation
from featurewise.study.metric import Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.ablations import experiment as ablations
from featurewise.systems.reasoning.cogent.measures import (
    APPLICABLE,
    BY_METHOD,
    DIRECT,
    GAIN,
    GAIN_LOW,
    METHODS,
    ON_A,
    OVERALL_SUM,
    RANDOM_ALL,
    RANDOM_C,
    SHARES,
    SUM,
    THERE,
    THERE_SUM,
)
from featurewise.systems.reasoning.cogent.method import (
    Config,
    analogy,
    answers,
    fine_tune,
    fisher,
)
from featurewise.systems.reasoning.film.training import shuffle_questions
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.clevr import ANSWERS, Batch
from featurewise.worlds.clevr.combinations import swaps

FINE_TUNING_SEED: Final = 50
"""What is added to the seed of scenes to fine-tune on."""

NOTHING: Final = torch.tensor([ANSWERS.index("no"), ANSWERS.index("0")])


def on_scenes_of(config: Config, combinations: Literal["A", "B", "all"]) -> Config:
    """The config with scenes of other combinations of color and shape."""
    cogent = None if combinations == "all" else combinations
    stages = tuple(
        replace(stage, recipe=replace(stage.recipe, cogent=cogent))
        for stage in config.curriculum
    )
    return replace(config, curriculum=stages)


def data(config: Config, seed: int) -> Source[Batch]:
    """Maps of scenes and questions about them, with the combinations of the config."""
    return ablations.data(on_scenes_of(config, config.combinations), seed)


def test_batches(config: Config, condition: Literal["A", "B"]) -> list[Batch]:
    """Scenes of a condition that no trial is trained on."""
    found = ablations.test_batches(on_scenes_of(config, condition))
    return [shuffle_questions(b) if config.shuffled_questions else b for b in found]


def fine_tuning_batches(config: Config) -> Iterable[Batch]:
    """Scenes of B with questions, each scene once; the same for all seeds."""
    scenes = config.scenes_per_step
    steps = config.scenes_of_b // scenes
    stage = config.curriculum[-1]
    recipe = replace(stage.recipe, seed=stage.recipe.seed + FINE_TUNING_SEED)
    stage = replace(stage, recipe=recipe, images=steps * scenes)
    new = replace(config, curriculum=(stage,), scenes_per_batch=scenes)
    source = ablations.data(on_scenes_of(new, "B"), 0)
    return (source.batch(step) for step in range(steps))


def fisher_batch(config: Config) -> Batch:
    """Training scenes of A with questions."""
    new = replace(config, scenes_per_batch=config.fisher_scenes)
    last = replace(new, curriculum=new.curriculum[-1:])
    return ablations.data(on_scenes_of(last, "A"), 0).batch(0)


@dataclass(frozen=True)
class Hits:
    """Which questions are answered correctly, and the scene that each is about.

    Attributes:
        right: for each question.
        scenes: number of its scene, over all batches.
    """

    right: Bool[Tensor, "Q"]
    scenes: Int64[Tensor, "Q"]

    def of(self, rows: Tensor | None = None) -> Proportion:
        """The share that is right, of all or of some of the questions."""
        if rows is None:
            return Proportion.of(self.right, groups=self.scenes)
        return Proportion.of(self.right[rows], groups=self.scenes[rows])


def scene_numbers(batches: Sequence[Batch]) -> Int64[Tensor, "Q"]:
    """Number of the scene of each question, counted over all batches."""
    found, before = [], 0
    for batch in batches:
        found.append(before + batch.image_index)
        before += len(batch.images)
    return torch.cat(found)


@torch.no_grad()
def tested(network: nn.Module, batches: Sequence[Batch]) -> Hits:
    """The answers to all questions, with the network in eval mode."""
    network.eval()
    right = [network(batch).argmax(1) == batch.answers for batch in batches]
    return Hits(torch.cat(right), scene_numbers(batches))


def sums(
    parts: tuple[TaskRepresentation, TaskRepresentation, TaskRepresentation],
    rng: torch.Generator,
) -> dict[Metric, TaskRepresentation]:
    """The sum a + b - c, and the same with c, or all three, of other questions."""
    a, b, c = parts
    order = [torch.randperm(len(a), generator=rng) for _ in range(4)]
    return {
        SUM: a + b - c,
        RANDOM_C: a + b - c[order[0]],
        RANDOM_ALL: a[order[1]] + b[order[2]] - c[order[3]],
    }


@torch.no_grad()
def zero_shot(
    network: nn.Module, batches: Sequence[Batch], direct: Hits
) -> dict[Metric, Proportion | float]:
    """Unknown combinations by sums of parameters, with their controls.

    Args:
        network: FiLM, in eval mode.
        batches: scenes of B.
        direct: what the network answers with the parameters of each question itself.
    """
    right: dict[Metric, list[Tensor]] = {SUM: [], RANDOM_C: [], RANDOM_ALL: []}
    numbers, before = [], 0
    for index, batch in enumerate(batches):
        found = swaps(batch.questions)
        chosen = selected(batch, found.rows)
        parts = analogy(network, found, chosen.lengths)
        for metric, task in sums(parts, seeded_rng(0, "random parts", index)).items():
            predicted = answers(network, chosen, task).argmax(1)
            right[metric].append(predicted == chosen.answers)
        numbers.append(before + found.rows)
        before += len(batch.lengths)
    rows = torch.cat(numbers)
    hits = {metric: torch.cat(each) for metric, each in right.items()}
    truth = torch.cat([batch.answers for batch in batches])
    there = ~torch.isin(truth[rows], NOTHING)
    by_sum = Hits(direct.right.index_copy(0, rows, hits[SUM]), direct.scenes)
    gains = hits[SUM].double() - direct.right[rows].double()
    low, _ = clustered_bootstrap(gains, direct.scenes[rows])
    return {
        DIRECT: direct.of(rows),
        THERE: direct.of(rows[there]),
        THERE_SUM: by_sum.of(rows[there]),
        OVERALL_SUM: by_sum.of(),
        APPLICABLE: len(rows) / len(truth),
        GAIN: 100 * gains.mean().item(),
        GAIN_LOW: 100 * low,
        **{m: Proportion.of(h, groups=direct.scenes[rows]) for m, h in hits.items()},
    }


def selected(batch: Batch, rows: Int64[Tensor, " P"]) -> Batch:
    """A batch of some of the questions, with all the scenes."""
    names = ("image_index", "questions", "lengths", "answers", "types")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in names})


def fine_tuned(
    network: nn.Module, config: Config, tests: dict[str, list[Batch]]
) -> dict[Metric, Proportion | float]:
    """Accuracy on both conditions while copies of the network are fine-tuned on B."""
    steps = config.scenes_of_b // config.scenes_per_step
    measured_at = {steps // part: share for share, part in SHARES.items()}
    held = fisher(
        copy.deepcopy(network).eval(), fisher_batch(config), seeded_rng(0, "y")
    )
    numbers: dict[Metric, Proportion | float] = {}
    for method in METHODS:
        copied = copy.deepcopy(network)
        progress = fine_tune(
            copied,
            method,
            fine_tuning_batches(config),
            learning_rate=config.fine_tuning_rate,
            held=held,
            strength=config.strength,
        )
        for step in progress:
            if (share := measured_at.get(step)) is not None:
                for condition, batches in tests.items():
                    metric = BY_METHOD[condition, method, share]
                    numbers[metric] = tested(copied, batches).of()
    return numbers


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy on both conditions; of FiLM also by sums; where wanted, after fine-tuning."""
    with trained.evaluating() as averaged:
        network = copy.deepcopy(averaged)
    tests = {"A": test_batches(config, "A"), "B": test_batches(config, "B")}
    on_b = tested(network, tests["B"])
    numbers: dict[Metric, Proportion | float] = {ON_A: tested(network, tests["A"]).of()}
    if config.network == "film" and not config.shuffled_questions:
        numbers |= zero_shot(network, tests["B"], on_b)
    if config.fine_tuned:
        numbers |= fine_tuned(network, config, tests)
    return Measurement.of(on_b.of(), numbers)
