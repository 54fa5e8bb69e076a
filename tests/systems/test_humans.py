"""Another language for FiLM: new words, the visual network that stays, and what is measured."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import cast, get_args

import pytest
import torch
from torch import Tensor, nn

from featurewise.systems.reasoning.ablations.method import AblatedNetwork
from featurewise.systems.reasoning.humans import PRESETS, SYSTEM
from featurewise.systems.reasoning.humans import experiment as measured
from featurewise.systems.reasoning.humans.method import (
    Config,
    Method,
    build,
    fine_tune,
    generator_of,
    visual_state,
    with_new_generator,
    with_new_words,
)
from featurewise.training.errors import ExperimentError
from featurewise.worlds.clevr import VOCABULARY, Batch, collate, encode
from featurewise.worlds.clevr.maps import MAP_CHANNELS
from featurewise.worlds.clevr.paraphrases import NEW_WORDS, paraphrased
from featurewise.worlds.clevr.words import UNKNOWN_INDEX

QUESTIONS = ("How many cyan cubes are there?", "Is there a red thing?", "What size is the ball?")
TINY = replace(PRESETS["tiny"], map_size=(3, 4))


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def batch(seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, MAP_CHANNELS, 3, 4, generator=rng).bfloat16()
    return collate(maps, [0, 1, 1], [encode(q) for q in QUESTIONS], [5, 0, 21], [1, 0, 5])


def network(config: Config = TINY) -> AblatedNetwork:
    torch.manual_seed(1)
    return cast("AblatedNetwork", build(config)).eval()


def embedding(net: nn.Module) -> nn.Embedding:
    return cast("nn.Embedding", generator_of(net).encoder.embedding)  # type: ignore[union-attr]


def test_new_words_change_no_answer_and_begin_as_the_unknown_one() -> None:
    net, given = network(), batch()
    other = with_new_words(copy.deepcopy(net), 7)
    assert torch.equal(other(given), net(given))
    assert embedding(other).num_embeddings == len(VOCABULARY) + 7
    new = replace(
        given, questions=torch.where(given.questions > 40, len(VOCABULARY) + 3, given.questions)
    )
    unknown = replace(
        given, questions=torch.where(given.questions > 40, UNKNOWN_INDEX, given.questions)
    )
    assert torch.equal(other(new), net(unknown))
    assert not torch.equal(net(unknown), net(given))


def test_new_words_learn_vectors_of_their_own() -> None:
    net = with_new_words(network(), len(NEW_WORDS))
    before = embedding(net).weight.detach().clone()
    given = paraphrased(batch(), 1, 0)
    list(fine_tune(net, "generator", [given], learning_rate=0.01))
    moved = (embedding(net).weight != before).any(1)
    assert set(moved.nonzero().flatten().tolist()) == set(given.questions.unique().tolist()) - {0}


def test_a_new_generator_leaves_the_visual_network() -> None:
    net = network()
    before, old = visual_state(net), generator_of(net).head.weight.detach().clone()  # type: ignore[union-attr]
    state = torch.get_rng_state()
    with_new_generator(net, TINY, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    measured.require_same(before, net)
    assert not torch.equal(generator_of(net).head.weight, old)  # type: ignore[union-attr]
    again = with_new_generator(network(), TINY, seed=3)
    assert torch.equal(generator_of(again).head.weight, generator_of(net).head.weight)  # type: ignore[union-attr]


def test_the_visual_state_is_all_but_the_generator() -> None:
    net = network()
    names = {n for n in net.state_dict() if not n.startswith("trunk.generator.")}
    assert set(visual_state(net)) == names
    assert any("running_mean" in name for name in names)


def test_the_generator_alone_leaves_the_visual_network_bit_for_bit() -> None:
    for method, same in (("generator", True), ("all", False)):
        net = network()
        before = visual_state(net)
        list(fine_tune(net, method, [batch(0), batch(1)], learning_rate=0.01))  # type: ignore[arg-type]
        if same:
            measured.require_same(before, net)
        else:
            with pytest.raises(ExperimentError, match="must stay"):
                measured.require_same(before, net)


def test_one_bit_is_enough_to_be_refused() -> None:
    net = network()
    before = visual_state(net)
    with torch.no_grad():
        weight = next(each for name, each in net.named_parameters() if "generator" not in name)
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(9.0))
    with pytest.raises(ExperimentError, match="changed while the generator alone"):
        measured.require_same(before, net)


@pytest.mark.parametrize("method", get_args(Method))
def test_what_fine_tuning_begins_with(method: Method) -> None:
    net, given = network(), batch()
    begun = measured.prepared(net, method, TINY).eval()
    assert torch.equal(begun(given), net(given)) is (method != "new generator")
    more = len(NEW_WORDS) if method != "no new words" else 0
    assert embedding(begun).num_embeddings == len(VOCABULARY) + more
    assert embedding(net).num_embeddings == len(VOCABULARY)


def test_both_languages_test_the_same() -> None:
    tests = measured.test_batches(TINY)
    for first, made in zip(tests["first"], tests["made"], strict=True):
        assert torch.equal(first.images, made.images)
        assert torch.equal(first.answers, made.answers)
        assert int(made.questions.max()) >= len(VOCABULARY)
        assert int(first.questions.max()) < len(VOCABULARY)


def test_scenes_to_fine_tune_on_are_others_and_read_once() -> None:
    def maps(batches: list[Batch]) -> list[Tensor]:
        return [tuple(m.float().flatten().tolist()) for b in batches for m in b.images]  # type: ignore[misc]

    new = maps(list(measured.new_batches(TINY)))
    assert len(new) == len(set(new)) == TINY.new_scenes
    source = measured.data(TINY, 0)
    trained = maps([source.batch(index) for index in range(20)])
    tests = maps(measured.test_batches(TINY)["first"])
    assert not set(new) & set(tests)
    assert not set(trained) & set(tests)


def test_without_new_words_every_one_is_unknown() -> None:
    made = measured.test_batches(TINY)["made"]
    for one, other in zip(made, measured.without_new_words(made), strict=True):
        assert int(other.questions.max()) < len(VOCABULARY)
        assert torch.equal(other.lengths, one.lengths)


def test_evaluation_of_each_arm() -> None:
    for arm in SYSTEM.arms:
        config = SYSTEM.config("tiny", arm.name)
        torch.manual_seed(0)
        net = SYSTEM.build(config)
        found = SYSTEM.evaluate(SYSTEM.stepper(net, config), config)
        names = {*found.by_type, *found.values}
        tuned = {metric.name for metric in measured.AFTER.values()}
        assert tuned & names == (tuned if arm.name == "film" else set())
        assert measured.BEFORE.name in names
