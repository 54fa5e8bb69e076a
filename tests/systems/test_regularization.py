"""Generators of several kinds against their formulas, and the penalty in the loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import pytest
import torch
import torch.nn.functional as F

from featurewise.cli import discovery
from featurewise.core import LayoutError
from featurewise.generators import deviation
from featurewise.retrofit import Conditioned
from featurewise.systems.reasoning.ablations.method import AblatedNetwork
from featurewise.systems.reasoning.regularization import PRESETS, SYSTEM, experiment
from featurewise.systems.reasoning.regularization.experiment import (
    DEVIATION,
    GAP,
    TRAINING,
    data,
    evaluate,
    training_batches,
)
from featurewise.systems.reasoning.regularization.method import (
    Decoder,
    build,
    generator,
    objective,
    stepper,
)
from featurewise.training.errors import ExperimentError
from featurewise.worlds.clevr import Batch

TINY = PRESETS["tiny"]
QUESTIONS = torch.tensor([[3, 4, 5, 0], [6, 2, 0, 0]]), torch.tensor([3, 2])


def trunk(network: AblatedNetwork) -> Conditioned:
    return cast("Conditioned", network.trunk)


def test_a_decoder_goes_from_site_to_site() -> None:
    network = build(replace(TINY, generator="decoder"))
    made = trunk(network).generator
    assert isinstance(made, Decoder) and len(made.heads) == TINY.blocks
    encoder, cell = cast("torch.nn.Module", made.encoder), made.cell
    state, before, parts = encoder(QUESTIONS), torch.zeros(2, TINY.hidden), []
    for head in made.heads:
        r, z = (
            torch.sigmoid(
                before @ cell.weight_ih[rows].T
                + cell.bias_ih[rows]
                + state @ cell.weight_hh[rows].T
                + cell.bias_hh[rows]
            )
            for rows in (slice(0, TINY.hidden), slice(TINY.hidden, 2 * TINY.hidden))
        )
        last = slice(2 * TINY.hidden, 3 * TINY.hidden)
        n = torch.tanh(
            before @ cell.weight_ih[last].T
            + cell.bias_ih[last]
            + r * (state @ cell.weight_hh[last].T + cell.bias_hh[last])
        )
        before, state = state, (1 - z) * n + z * state
        parts.append(F.linear(state, head.weight, head.bias))
    torch.testing.assert_close(made(QUESTIONS), torch.cat(parts, 1), rtol=1e-5, atol=1e-6)


def test_a_decoder_without_sites_is_refused() -> None:
    with pytest.raises(LayoutError, match="no layout"):
        generator(replace(TINY, generator="decoder"))(QUESTIONS)


def test_the_deep_generator_has_its_layers() -> None:
    made = trunk(build(replace(TINY, generator="deep", layers=2))).generator
    linear = [each for each in made.modules() if type(each) is torch.nn.Linear]
    assert [each.out_features for each in linear] == [TINY.hidden] * 2


@pytest.mark.parametrize("kind", ["linear", "deep", "decoder"])
def test_the_penalty_is_added_to_the_same_loss(kind: str) -> None:
    torch.manual_seed(0)
    config = replace(TINY, generator=kind)
    network = build(config).eval()
    batch = data(config, 0).batch(0)
    plain, _ = objective(0.0, network, batch)
    found, metrics = objective(0.5, network, batch)
    task = trunk(network).represent((batch.questions, batch.lengths))
    torch.testing.assert_close(found, plain + 0.5 * deviation(task))
    assert float(metrics["deviation"].detach()) > 0


def test_the_weight_decay_of_a_config_is_that_of_matrices() -> None:
    config = replace(TINY, weight_decay=0.03)
    groups = stepper(build(config), config).learner.optimizer.param_groups
    found = {group["name"]: group["weight_decay"] for group in groups}
    assert found == {"weights": 0.03, "heads": 0.03, "plain": 0.0}


def scenes(batches: Iterable[Batch]) -> set[bytes]:
    """The maps of all scenes."""
    return {m.float().numpy().tobytes() for batch in batches for m in batch.images}


def test_training_scenes_are_few_and_none_is_tested_on() -> None:
    config = replace(TINY, training_scenes=8)
    known = {
        m.float().numpy().tobytes() for i in range(20) for m in data(config, i % 2).batch(i).images
    }
    again = {m.float().numpy().tobytes() for b in training_batches(config) for m in b.images}
    assert again <= known
    new = {m.float().numpy().tobytes() for b in experiment.test_batches(config) for m in b.images}
    assert len(new - known) > len(new) // 2  # maps of other scenes may be the same


def test_the_gap_is_the_difference_of_two_accuracies() -> None:
    torch.manual_seed(0)
    network = build(TINY)
    trained = stepper(network, TINY)
    for i in range(3):
        trained.step(data(TINY, 0).batch(i))
    found = evaluate(trained, TINY)
    assert found.accuracy is not None
    both = 100 * (found.number(TRAINING) - found.accuracy.value)
    assert found.number(GAP) == pytest.approx(both)
    assert found.number(DEVIATION) > 0


def test_shuffled_questions_are_shuffled_in_training_and_in_the_test() -> None:
    config = SYSTEM.config("tiny", "shuffled")
    plain = replace(config, shuffled_questions=False)
    for one, other in (
        (data(config, 0).batch(0), data(plain, 0).batch(0)),
        (experiment.test_batches(config)[0], experiment.test_batches(plain)[0]),
    ):
        assert torch.equal(one.images, other.images) and torch.equal(one.answers, other.answers)
        assert not torch.equal(one.questions, other.questions)


@pytest.mark.parametrize("name", ["regularization", "cogent", "humans"])
def test_without_conditioned_blocks_there_is_no_generator(name: str) -> None:
    config = discovery.load(name).preset("tiny")
    with pytest.raises(ExperimentError, match="conditioned must be 1 or more"):
        replace(config, conditioned=0)


def test_parameters_of_all_generators_are_as_large_at_first() -> None:
    found = {}
    for kind in ("linear", "deep", "decoder"):
        torch.manual_seed(0)
        config = replace(PRESETS["small"], generator=kind)
        made = trunk(build(config)).generator(QUESTIONS)
        found[kind] = float(made.detach().std())
    assert found["deep"] > 0.4 * found["linear"] and found["decoder"] > 0.3 * found["linear"]
