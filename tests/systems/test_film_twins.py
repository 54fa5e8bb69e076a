"""The twin test of a network, with networks that are known to be right, wrong or deaf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.study.results import Proportion
from featurewise.systems.reasoning.film import SYSTEM
from featurewise.systems.reasoning.film.counting import CountsByNumber
from featurewise.systems.reasoning.film.perception import Answers
from featurewise.systems.reasoning.film.study import MEASURES
from featurewise.systems.reasoning.film.twins import TWINS, measure_twins
from featurewise.worlds.clevr import ANSWERS, QUESTION_TYPES, Batch, collate, sample_scenes
from featurewise.worlds.clevr.twins import TwinPair, twin_pairs

SCENES = sample_scenes(60, seed=2)
PAIRS = [pair for scene in SCENES for pair in twin_pairs(scene)]
IMAGES = torch.zeros(len(SCENES), 3, 4, 6, dtype=torch.uint8)


class Says(nn.Module):
    """Answers pair after pair, whatever it is shown."""

    def __init__(self, say: Callable[[TwinPair], tuple[str, str]]) -> None:
        super().__init__()
        self.said = [ANSWERS.index(answer) for pair in PAIRS for answer in say(pair)]
        self.seen: list[int] = []

    def forward(self, batch: Batch) -> Answers:
        self.seen += batch.image_index.tolist()
        said = [self.said.pop(0) for _ in batch.lengths]
        return Answers(F.one_hot(torch.tensor(said), len(ANSWERS)).float(), None)


def value(found: dict[str, Proportion], name: str) -> float:
    return found[name].value


def count(relation: str) -> int:
    return sum(relation in pair.relations for pair in PAIRS)


def test_a_reader_of_relations_is_right() -> None:
    found = measure_twins(Says(lambda pair: pair.answers), [(IMAGES, SCENES)])
    assert found.keys() == TWINS.keys() <= MEASURES.keys()
    for name, proportion in found.items():
        assert proportion.value == (0 if "mirrored" in name else 1)
    assert found["twin_left"].total == found["twin_pair_left_right"].total == count("left")
    assert found["twin_mirrored_front_behind"].total == 2 * count("front")


def test_mirrored_answers_are_told_apart() -> None:
    found = measure_twins(Says(lambda pair: pair.answers[::-1]), [(IMAGES, SCENES)])
    assert value(found, "twin_mirrored_left_right") == value(found, "twin_changed_left_right") == 1
    assert value(found, "twin_left") == value(found, "twin_pair_left_right") == 0


def test_who_ignores_the_relation_has_half_and_no_pair() -> None:
    found = measure_twins(Says(lambda pair: (pair.answers[0],) * 2), [(IMAGES, SCENES)])
    assert value(found, "twin_left") == value(found, "twin_front") == 1
    assert value(found, "twin_right") == value(found, "twin_behind") == 0
    assert value(found, "twin_pair_left_right") == value(found, "twin_changed_left_right") == 0
    assert value(found, "twin_mirrored_left_right") == 0.5


def test_each_question_is_about_its_own_image() -> None:
    network = Says(lambda pair: pair.answers)
    measure_twins(network, [(IMAGES[[i]], [scene]) for i, scene in enumerate(SCENES)])
    assert set(network.seen) == {0}
    network = Says(lambda pair: pair.answers)
    shown: list[Tensor] = []
    network.register_forward_pre_hook(
        lambda module, inputs: shown.append(inputs[0].images[inputs[0].image_index])
    )
    numbered = torch.arange(len(SCENES), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 6)
    measure_twins(network, [(numbered, SCENES)])
    expected = [i for i, scene in enumerate(SCENES) for _ in range(2 * len(twin_pairs(scene)))]
    assert torch.cat(shown)[:, 0, 0, 0].tolist() == expected


def test_without_pairs_there_is_nothing_to_measure() -> None:
    assert measure_twins(Says(lambda pair: pair.answers), []) == {}


def test_counts_are_told_by_their_true_number() -> None:
    kinds = [QUESTION_TYPES.index(name) for name in ("count", "count", "count", "exist", "count")]
    truth = [ANSWERS.index(answer) for answer in ("4", "4", "0", "yes", "10")]
    said = [ANSWERS.index(answer) for answer in ("4", "3", "0", "yes", "9")]
    batch = collate(IMAGES[:1], [0] * 5, [[2]] * 5, truth, kinds)
    numbers = CountsByNumber()
    for _ in range(2):
        numbers.add(batch, torch.tensor(said))
    numbers.add(replace(batch, answers=torch.full((5,), -1)), torch.tensor(said))
    found = {name: (p.correct, p.total) for name, p in numbers.by_type().items()}
    assert found == {"count_0": (2, 2), "count_4": (2, 4), "count_7_up": (0, 2)}
    assert numbers.by_type().keys() <= MEASURES.keys()


@pytest.mark.parametrize(("arm", "twins"), [("film", True), ("shuffled", False)])
def test_what_learnt_relations_is_tested_for_them(
    arm: str, twins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurewise.systems.reasoning.film import training

    tiny = SYSTEM.preset("tiny")
    lesson = replace(tiny.lessons[0], recipe=replace(tiny.lessons[0].recipe, families=None))
    monkeypatch.setattr(training, "held_out", lambda s: [])
    monkeypatch.setattr(training, "rendered", lambda s: [(IMAGES[:, :, :, :], SCENES[:4])])
    for settings, expected in ((replace(tiny, lessons=(lesson,)), twins), (tiny, False)):
        network = SYSTEM.build(settings, SYSTEM.arm(arm))
        stepper = SYSTEM.stepper(network, settings, SYSTEM.arm(arm))
        found = SYSTEM.evaluate(stepper, settings, SYSTEM.arm(arm))
        assert ("twin_left" in found.by_type) is expected
