"""The twin test, with networks that answer correctly, wrongly, or ignore the relation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film import SYSTEM
from featurewise.systems.reasoning.film.experiment import METRICS
from featurewise.systems.reasoning.film.experiment import measure_twins as measure_batches
from featurewise.systems.reasoning.film.network import Answers
from featurewise.worlds.clevr import ANSWERS, Batch, Scene, sample_scenes
from featurewise.worlds.clevr.metrics import TWINS
from featurewise.worlds.clevr.twins import TwinPair, twin_batches, twin_pairs

SCENES = sample_scenes(60, seed=2)
PAIRS = [pair for scene in SCENES for pair in twin_pairs(scene)]
IMAGES = torch.zeros(len(SCENES), 3, 4, 6, dtype=torch.uint8)


def measure_twins(
    network: nn.Module, shown: list[tuple[Tensor, list[Scene]]]
) -> dict[str, Proportion]:
    return measure_batches(network, twin_batches(shown))


class Fixed(nn.Module):
    """Gives the answers of a rule, pair after pair, whatever the image."""

    def __init__(self, rule: Callable[[TwinPair], tuple[str, str]]) -> None:
        super().__init__()
        self.left = [ANSWERS.index(answer) for pair in PAIRS for answer in rule(pair)]
        self.seen: list[int] = []

    def forward(self, batch: Batch) -> Answers:
        self.seen += batch.image_index.tolist()
        given = [self.left.pop(0) for _ in batch.lengths]
        return Answers(F.one_hot(torch.tensor(given), len(ANSWERS)).float(), None)


def value(found: dict[str, Proportion], name: str) -> float:
    return found[name].value


def count(relation: str) -> int:
    return sum(relation in pair.relations for pair in PAIRS)


def test_a_network_that_uses_relations_is_correct() -> None:
    found = measure_twins(Fixed(lambda pair: pair.answers), [(IMAGES, SCENES)])
    assert found.keys() == TWINS.keys() <= {metric.name for metric in METRICS}
    for name, proportion in found.items():
        assert proportion.value == (0 if "mirrored" in name else 1)
    assert found["twin left"].total == found["twin pair left right"].total == count("left")
    assert found["twin mirrored front behind"].total == 2 * count("front")


def test_mirrored_answers_are_counted_apart() -> None:
    found = measure_twins(Fixed(lambda pair: pair.answers[::-1]), [(IMAGES, SCENES)])
    assert value(found, "twin mirrored left right") == value(found, "twin changed left right") == 1
    assert value(found, "twin left") == value(found, "twin pair left right") == 0


def test_a_network_that_ignores_the_relation_has_half_of_the_questions_and_no_pair() -> None:
    found = measure_twins(Fixed(lambda pair: (pair.answers[0],) * 2), [(IMAGES, SCENES)])
    assert value(found, "twin left") == value(found, "twin front") == 1
    assert value(found, "twin right") == value(found, "twin behind") == 0
    assert value(found, "twin pair left right") == value(found, "twin changed left right") == 0
    assert value(found, "twin mirrored left right") == 0.5


def test_each_question_is_about_its_own_image() -> None:
    network = Fixed(lambda pair: pair.answers)
    measure_twins(network, [(IMAGES[[i]], [scene]) for i, scene in enumerate(SCENES)])
    assert set(network.seen) == {0}
    network = Fixed(lambda pair: pair.answers)
    shown: list[Tensor] = []
    network.register_forward_pre_hook(
        lambda module, inputs: shown.append(inputs[0].images[inputs[0].image_index])
    )
    numbered = torch.arange(len(SCENES), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 6)
    measure_twins(network, [(numbered, SCENES)])
    expected = [i for i, scene in enumerate(SCENES) for _ in range(2 * len(twin_pairs(scene)))]
    assert torch.cat(shown)[:, 0, 0, 0].tolist() == expected


def test_without_pairs_there_is_nothing_to_measure() -> None:
    assert measure_twins(Fixed(lambda pair: pair.answers), []) == {}


def test_the_interval_counts_images_not_questions() -> None:
    found = measure_twins(Fixed(lambda pair: (pair.answers[0],) * 2), [(IMAGES, SCENES)])
    halves = found["twin mirrored left right"]
    images = sum(any(p.relations[0] == "left" for p in twin_pairs(scene)) for scene in SCENES)
    assert halves.effective is None or halves.effective >= images


@pytest.mark.parametrize(("arm", "twins"), [("film", True), ("shuffled", False)])
def test_networks_that_were_trained_on_relations_are_tested_on_them(
    arm: str, twins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurewise.systems.reasoning.film import experiment

    tiny = SYSTEM.preset("tiny")
    stage = replace(tiny.curriculum[0], recipe=replace(tiny.curriculum[0].recipe, families=None))
    shown = [(IMAGES, SCENES[:4])]
    monkeypatch.setattr(experiment, "held_out_batches", lambda *arguments: [])
    monkeypatch.setattr(experiment, "twin_test", lambda recipe: twin_batches(shown))
    for preset, expected in ((replace(tiny, curriculum=(stage,)), twins), (tiny, False)):
        config = SYSTEM.config(preset, arm)
        stepper = SYSTEM.stepper(SYSTEM.build(config), config)
        found = SYSTEM.evaluate(stepper, config)
        assert ("twin left" in found.by_type) is expected
