"""CoGenT: sums of parameters, Fisher information and EWC against loops, and what changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import cast, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.common.rng import seeded_rng
from featurewise.core import TaskRepresentation
from featurewise.study.results import Proportion
from featurewise.systems.reasoning.ablations.method import AblatedNetwork
from featurewise.systems.reasoning.cogent import PRESETS, SYSTEM, measures
from featurewise.systems.reasoning.cogent import experiment as measured
from featurewise.systems.reasoning.cogent.method import (
    Config,
    Importance,
    Method,
    analogy,
    answers,
    build,
    fine_tune,
    fisher,
    penalty,
    trained_part,
)
from featurewise.worlds.clevr import ANSWERS, Batch, collate, encode
from featurewise.worlds.clevr.combinations import swaps
from featurewise.worlds.clevr.maps import MAP_CHANNELS
from featurewise.worlds.clevr.vocabulary import ATTRIBUTES, COGENT_COLORS, COLORS, SHAPES

QUESTIONS = (
    "How many cyan cubes are there?",
    "Is there a red thing?",
    "What size is the blue cylinder?",
    "Is there a yellow cube?",
)
TINY = replace(PRESETS["tiny"], map_size=(3, 4))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    patch = pytest.MonkeyPatch()
    patch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def batch(seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, MAP_CHANNELS, 3, 4, generator=rng).bfloat16()
    return collate(maps, [0, 1, 1, 0], [encode(q) for q in QUESTIONS], [5, 0, 21, 1], [1, 0, 5, 0])


def network(config: Config = TINY) -> AblatedNetwork:
    torch.manual_seed(1)
    net = cast("AblatedNetwork", build(config))
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            part.running_mean.normal_()  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return net.eval()


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in net.state_dict().items()}


# --- zero-shot ---


def test_a_sum_of_parameters_is_that_of_the_three_questions() -> None:
    net, given = network().double(), batch()
    found = swaps(given.questions)
    assert found.rows.tolist() == [0, 2]
    a, b, c = analogy(net, found, given.lengths[found.rows])
    texts = {
        0: ("How many cyan spheres are there?", "How many yellow cubes are there?",
            "How many yellow spheres are there?"),
        1: ("What size is the blue sphere?", "What size is the green cylinder?",
            "What size is the green sphere?"),
    }  # fmt: skip
    generator = net.trunk.generator
    for row, three in texts.items():
        by_hand = []
        for text in three:  # without padding
            ids = torch.tensor([encode(text)])
            by_hand.append(generator((ids, torch.tensor([ids.shape[1]])))[0])
        wanted = by_hand[0] + by_hand[1] - by_hand[2]
        torch.testing.assert_close((a + b - c).flat[row], wanted)


def test_given_parameters_of_the_question_itself_give_its_answer() -> None:
    net, given = network(), batch()
    task = net.trunk.represent((given.questions, given.lengths))
    torch.testing.assert_close(answers(net, given, task), net(given))
    zero = TaskRepresentation.identity(task.layout, len(given.lengths))
    assert not torch.allclose(answers(net, given, zero), net(given))


def test_random_parts_are_those_of_other_questions() -> None:
    layout = network().trunk.layout
    rows = torch.arange(40).float()[:, None].expand(-1, layout.size)
    parts = tuple(TaskRepresentation(layout, (10.0**k) * rows) for k in (0, 2, 4))
    a, b, c = cast("tuple[TaskRepresentation, TaskRepresentation, TaskRepresentation]", parts)
    found = measured.sums((a, b, c), seeded_rng(0, "test"))
    assert torch.equal(found[measures.SUM].flat, (a + b - c).flat)
    rest = found[measures.RANDOM_C].flat[:, 0] - 101 * torch.arange(40)
    numbers = (-rest / 10_000).round().long()
    assert sorted(numbers.tolist()) == list(range(40))
    assert (numbers != torch.arange(40)).sum() > 30
    free = found[measures.RANDOM_ALL].flat[:, 0]
    assert not torch.allclose(free, found[measures.RANDOM_C].flat[:, 0])
    assert float(free.sum()) == pytest.approx(float(found[measures.SUM].flat[:, 0].sum()))


def test_zero_shot_numbers_by_hand() -> None:
    net = network()
    batches = [batch(0), batch(1)]
    direct = measured.tested(net, batches)
    found = measured.zero_shot(net, batches, direct)
    right, of_sum = [], []
    for given in batches:
        rows = swaps(given.questions)
        a, b, c = analogy(net, rows, given.lengths[rows.rows])
        chosen = measured.selected(given, rows.rows)
        of_sum += (answers(net, chosen, a + b - c).argmax(1) == chosen.answers).tolist()
        right += (net(given).argmax(1) == given.answers).tolist()
    plain = [right[i] for i in (0, 2, 4, 6)]

    def share(metric: object) -> float:
        value = found[metric]  # type: ignore[index]
        return value.value if isinstance(value, Proportion) else value

    assert share(measures.DIRECT) == sum(plain) / 4
    assert share(measures.SUM) == sum(of_sum) / 4
    gain = 100 * (sum(of_sum) - sum(plain)) / 4
    assert share(measures.GAIN) == pytest.approx(gain)
    assert share(measures.GAIN_LOW) <= gain + 1e-9
    assert share(measures.APPLICABLE) == 0.5
    overall = [*of_sum, *(right[i] for i in (1, 3, 5, 7))]
    assert share(measures.OVERALL_SUM) == sum(overall) / 8
    assert share(measures.THERE) == sum(plain) / 4  # no answer is "no" or 0


def test_scenes_are_numbered_over_batches() -> None:
    assert measured.scene_numbers([batch(), batch()]).tolist() == [0, 1, 1, 0, 2, 3, 3, 2]


# --- fine-tuning ---


def test_the_fisher_information_question_by_question() -> None:
    net, given = network(), batch()
    found = fisher(net, given, seeded_rng(3, "y"))
    rng = seeded_rng(3, "y")
    wanted = {name: torch.zeros_like(each) for name, each in net.named_parameters()}
    for row in range(4):
        p = F.softmax(net(given.rows(row, row + 1)).float(), 1)[0]
        answer = int(torch.multinomial(p.detach(), 1, generator=rng))
        net.zero_grad()
        F.cross_entropy(net(given.rows(row, row + 1)), torch.tensor([answer])).backward()
        for name, each in net.named_parameters():
            if each.grad is not None:
                wanted[name] += each.grad**2 / 4
    for name, each in wanted.items():
        torch.testing.assert_close(found.fisher[name], each, rtol=1e-3, atol=1e-9)
    assert max(float(each.detach().max()) for each in wanted.values()) > 0


def test_the_penalty_is_the_weighted_distance() -> None:
    net = nn.Linear(2, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0]]))
        net.bias.copy_(torch.tensor([3.0]))
    held = Importance(
        {"weight": torch.tensor([[0.0, 4.0]]).double(), "bias": torch.tensor([3.5]).double()},
        {"weight": torch.tensor([[2.0, 0.5]]).double(), "bias": torch.tensor([4.0]).double()},
    )
    # 10 / 2 · (2 · 1² + 0.5 · 2² + 4 · 0.5²)
    assert float(penalty(net, held, 10.0).detach()) == pytest.approx(25.0)


@pytest.mark.parametrize("method", get_args(Method))
def test_what_each_method_changes(method: Method) -> None:
    net = network()
    before = state(net)
    seen = list(fine_tune(net, method, [batch(0), batch(1)], learning_rate=0.01))
    assert seen == [1, 2]
    changed = {
        name for name, each in net.state_dict().items() if not torch.equal(each, before[name])
    }
    generator = {name for name in before if name.startswith("trunk.generator.")}
    assert changed & generator
    if method == "generator":
        assert changed <= generator  # norms too are the same, bit for bit
    else:
        assert any("running_mean" in name for name in changed)
        assert any(name.startswith("answer.") for name in changed)


def test_strong_consolidation_holds_what_matters() -> None:
    distances = []
    for strength in (0.0, 1e8):
        net = network()
        held = fisher(copy.deepcopy(net), batch(), seeded_rng(0, "y"))
        steps = [batch(index) for index in range(6)]
        list(fine_tune(net, "EWC", steps, learning_rate=1e-3, held=held, strength=strength))
        distances.append(float(penalty(net, held, 2.0).detach()))
    assert distances[1] < 0.5 * distances[0]


def test_without_strength_consolidation_is_plain_fine_tuning() -> None:
    states = []
    for method in ("all", "EWC"):
        net = network()
        held = fisher(copy.deepcopy(net), batch(), seeded_rng(0, "y"))
        list(fine_tune(net, method, [batch()], learning_rate=0.01, held=held, strength=0.0))  # type: ignore[arg-type]
        states.append(state(net))
    for name, each in states[0].items():
        torch.testing.assert_close(each, states[1][name])


def test_a_measurement_in_between_changes_nothing() -> None:
    states = []
    for look in (False, True):
        net = network()
        for _ in fine_tune(net, "generator", [batch(0), batch(1)], learning_rate=0.01):
            if look:
                measured.tested(net, [batch(2)])
        states.append(state(net))
    assert all(torch.equal(each, states[1][name]) for name, each in states[0].items())


def test_the_trained_part_needs_gradients_alone() -> None:
    net = network()
    part = trained_part(net, "generator")
    assert {id(p) for p in part} == {id(p) for p in net.trunk.generator.parameters()}
    assert len(trained_part(net, "all")) == len(list(net.parameters()))


# --- data ---


def colors_of(given: Batch) -> set[tuple[str, str]]:
    """Color and shape in every cell of maps that holds an object."""
    starts, first = {}, 1  # after the channel of "an object stands here"
    for name, each in ATTRIBUTES.items():
        starts[name], first = first, first + len(each)
    found = set()
    maps = given.images.float()
    for scene, row, column in (maps[:, 0] > 0).nonzero().tolist():
        cell = maps[scene, :, row, column]
        values = {
            name: ATTRIBUTES[name][int(cell[start : start + len(ATTRIBUTES[name])].argmax())]
            for name, start in starts.items()
        }
        found.add((values["color"], values["shape"]))
    return found


def allowed(condition: str) -> set[tuple[str, str]]:
    return {(color, shape) for shape in SHAPES for color in COGENT_COLORS[condition][shape]}


def test_each_part_of_the_data_has_its_combinations() -> None:
    everything = {(color, shape) for color in COLORS for shape in SHAPES}
    for arm, wanted in (("film", allowed("A")), ("both", everything)):
        source = measured.data(SYSTEM.config("tiny", arm), 0)
        found = set().union(*(colors_of(source.batch(index)) for index in range(8)))
        assert found <= wanted
        assert (found <= allowed("A")) is (arm == "film")
    config = SYSTEM.config("tiny", "film")
    for condition in ("A", "B"):
        tests = measured.test_batches(config, condition)  # type: ignore[arg-type]
        assert set().union(*map(colors_of, tests)) <= allowed(condition)
    assert set().union(*map(colors_of, measured.fine_tuning_batches(config))) <= allowed("B")
    assert colors_of(measured.fisher_batch(config)) <= allowed("A")


def test_fine_tuning_reads_each_scene_once_and_as_many_as_it_says() -> None:
    batches = list(measured.fine_tuning_batches(TINY))
    maps = [tuple(m.float().flatten().tolist()) for each in batches for m in each.images]
    assert len(maps) == len(set(maps)) == TINY.scenes_of_b
    assert {len(each.images) for each in batches} == {TINY.scenes_per_step}
    for each in batches:
        assert int(each.image_index.bincount().max()) <= 4


def test_evaluation_of_each_arm() -> None:
    for arm in SYSTEM.arms:
        config = SYSTEM.config("tiny", arm.name)
        torch.manual_seed(0)
        net = SYSTEM.build(config)
        found = SYSTEM.evaluate(SYSTEM.stepper(net, config), config)
        names = {*found.by_type, *found.values}
        sums = {measures.SUM.name, measures.GAIN_LOW.name, measures.OVERALL_SUM.name}
        assert sums & names == (sums if arm.name in ("film", "both") else set())
        tuned = {metric.name for metric in measures.BY_METHOD.values()}
        assert tuned & names == (tuned if arm.name == "film" else set())
        assert found.accuracy is not None
        assert found.accuracy.effective is not None  # questions of a scene are dependent


def test_the_control_gets_questions_of_other_scenes() -> None:
    plain = measured.test_batches(SYSTEM.config("tiny", "film"), "B")[0]
    other = measured.test_batches(SYSTEM.config("tiny", "shuffled"), "B")[0]
    assert torch.equal(plain.answers, other.answers)
    assert not torch.equal(plain.questions, other.questions)


def test_nothing_is_no_and_zero() -> None:
    assert [ANSWERS[index] for index in measured.NOTHING.tolist()] == ["no", "0"]
