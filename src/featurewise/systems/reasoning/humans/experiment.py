"""Experiment: questions in a made language, before and after fine-tuning on it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, get_args

import torch
from torch import Tensor, nn

from featurewise.common.rng import derive_seed
from featurewise.study.metric import PERCENT, Metric
from featurewise.study.results import Measurement, Proportion
from featurewise.systems.reasoning.ablations import experiment as ablations
from featurewise.systems.reasoning.cogent.experiment import Hits, tested
from featurewise.systems.reasoning.cogent.parts import PARTS
from featurewise.systems.reasoning.film.training import shuffle_questions
from featurewise.systems.reasoning.humans.method import (
    Config,
    Method,
    fine_tune,
    visual_state,
    with_new_generator,
    with_new_words,
)
from featurewise.training.errors import ExperimentError
from featurewise.training.source import Source
from featurewise.training.steppers import Supervised
from featurewise.worlds.clevr import Batch
from featurewise.worlds.clevr.paraphrases import (
    NEW_WORDS,
    Paraphrased,
    known_words_only,
    paraphrased,
)

METHODS: Final = get_args(Method)
SHARES: Final = {"1/16": PARTS, "1/4": 4, "all": 1}
"""Name -> the scenes that a copy is fine-tuned on are divided by this number."""

NEW_SEED: Final = 50
"""What is added to the seed of scenes to fine-tune on."""

_TRAIN, _TEST = 1, 2
"""Seeds of the words and frames of the made language."""


def _share(name: str, what: str) -> Metric:
    return Metric(name, what, PERCENT, "higher")


ACCURACY = _share(
    "accuracy",
    "share of questions in the language of the training that are answered correctly; its "
    "interval treats the questions about one scene as dependent",
)
BEFORE = _share(
    "made language",
    "the same of the same questions in the made language, before fine-tuning; words that "
    "the network does not know are read as one unknown word",
)
_WHAT: Final[Mapping[str, str]] = {
    "generator": "the FiLM generator alone changes",
    "no new words": "the generator alone changes; all new words are one unknown word",
    "all": "all weights change",
    "new generator": "the generator alone changes, and begins with random weights",
}
AFTER: Final = {
    (language, method, share): _share(
        f"{language}, {method}, {share}",
        f"accuracy on questions in the {language} language after fine-tuning on the made "
        f"one: {share} of the scenes; {_WHAT[method]}",
    )
    for language in ("made", "first")
    for method in METHODS
    for share in SHARES
}
METRICS = (ACCURACY, BEFORE, *AFTER.values())


def data(config: Config, seed: int) -> Source[Batch]:
    """Maps of scenes and questions about them, in the first language."""
    return ablations.data(config, seed)


def test_batches(config: Config) -> dict[str, list[Batch]]:
    """Scenes that no trial is trained on; the same questions in both languages."""
    first = list(ablations.test_batches(config))
    made = [paraphrased(batch, _TEST, index) for index, batch in enumerate(first)]
    return {
        name: [shuffle_questions(b) if config.shuffled_questions else b for b in some]
        for name, some in (("first", first), ("made", made))
    }


def new_batches(config: Config) -> Iterable[Batch]:
    """Other scenes with questions in the made language; the same for all seeds."""
    steps = config.new_scenes // config.scenes_per_step
    stage = config.curriculum[-1]
    recipe = replace(stage.recipe, seed=stage.recipe.seed + NEW_SEED)
    stage = replace(stage, recipe=recipe, images=steps * config.scenes_per_step)
    new = replace(config, curriculum=(stage,), scenes_per_batch=config.scenes_per_step)
    source = Paraphrased(ablations.data(new, 0), _TRAIN)
    return (source.batch(step) for step in range(steps))


def without_new_words(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Batches in which every word that the first language has not is the unknown one."""
    return (replace(b, questions=known_words_only(b.questions)) for b in batches)


def require_same(before: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise unless everything outside the generator is the same, bit for bit.

    Raises:
        ExperimentError: the message names what changed.
    """
    for name, each in visual_state(network).items():
        if not torch.equal(each, before[name]):
            raise ExperimentError(
                f"{name} changed while the generator alone was fine-tuned; it must stay"
            )


def prepared(network: nn.Module, method: Method, config: Config) -> nn.Module:
    """A copy of a network that fine-tuning begins with."""
    copied = copy.deepcopy(network)
    if method == "new generator":
        with_new_generator(copied, config, derive_seed(0, "new generator"))
    return copied if method == "no new words" else with_new_words(copied, len(NEW_WORDS))


def fine_tuned(
    network: nn.Module, config: Config, tests: Mapping[str, Sequence[Batch]]
) -> dict[Metric, Proportion | float]:
    """Accuracy in both languages while copies of the network are fine-tuned."""
    steps = config.new_scenes // config.scenes_per_step
    measured_at = {steps // part: share for share, part in SHARES.items()}
    numbers: dict[Metric, Proportion | float] = {}
    for method in METHODS:
        copied, batches, given = (
            prepared(network, method, config),
            new_batches(config),
            tests,
        )
        if method == "no new words":
            batches = without_new_words(batches)
            given = {name: list(without_new_words(some)) for name, some in tests.items()}
        before = visual_state(copied)
        for step in fine_tune(
            copied,
            "all" if method == "all" else "generator",
            batches,
            learning_rate=config.fine_tuning_rate,
        ):
            if (share := measured_at.get(step)) is not None:
                for language, some in given.items():
                    numbers[AFTER[language, method, share]] = tested(copied, some).of()
        if method != "all":
            require_same(before, copied)
    return numbers


def evaluate(trained: Supervised, config: Config) -> Measurement:
    """Accuracy in both languages; where wanted, also after fine-tuning."""
    with trained.evaluating() as averaged:
        network = copy.deepcopy(averaged)
    tests = test_batches(config)
    first: Hits = tested(network, tests["first"])
    made = tested(network, list(without_new_words(tests["made"])))
    numbers: dict[Metric, Proportion | float] = {BEFORE: made.of()}
    if config.fine_tuned:
        numbers |= fine_tuned(network, config, tests)
    return Measurement.of(first.of(), numbers)
