"""Conditional DCGAN: bias is concatenation, the losses of the paper, controls that control."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from featurewise.layers.concat import ConcatConv, ConcatLinear
from featurewise.systems.generation.dcgan import SYSTEM, experiment
from featurewise.systems.generation.dcgan.experiment import draw, evaluate
from featurewise.systems.generation.dcgan.method import (
    ConditionalStages,
    SummedTaps,
    discriminator_loss,
    generator_loss,
    stepper,
)
from featurewise.training.steppers import Adversarial
from featurewise.worlds.glyphs.gan import GanBatch
from featurewise.worlds.glyphs.labelled import class_frequencies
from featurewise.worlds.glyphs.sheets import sheet

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "dcgan"))


def networks(arm: str) -> tuple[ConditionalStages, ConditionalStages]:
    torch.manual_seed(0)
    network = SYSTEM.build(SYSTEM.config("tiny", arm))
    generator, discriminator = network["generator"], network["discriminator"]
    assert isinstance(generator, ConditionalStages)
    assert isinstance(discriminator, ConditionalStages)
    return generator.eval(), discriminator.eval()


def batch(count: int = 6) -> GanBatch:
    rng = torch.Generator().manual_seed(1)
    return GanBatch(
        torch.rand(count, 1, 16, 16, generator=rng),
        torch.arange(count) % 4,
        torch.randn(count, TINY.noise_size, generator=rng),
    )


@pytest.mark.parametrize("stage", range(4))
@torch.no_grad()
def test_a_bias_is_a_concatenation_away_from_the_border(stage: int) -> None:
    """Weights of concat taken over: equal where no kernel reaches into padding, else not."""
    concat, bias = (networks(arm)[1].stages for arm in ("concat", "bias"))
    one = concat.get_submodule(f"stages.{stage}.layer")
    conditioned = bias.get_submodule(f"backbone.stages.{stage}.layer")
    assert isinstance(one, ConcatLinear | ConcatConv)
    joined = one.linear if isinstance(one, ConcatLinear) else one.convolve
    conditioned.weight.copy_(joined.weight[:, : one.in_features])
    conditioned.bias.copy_(joined.bias)
    places = (16, 16) if isinstance(one, ConcatConv) else ()
    x, label = torch.randn(4, one.in_features, *places), torch.eye(4)
    shift = one.conditional_bias(label)
    gap = conditioned(x) + shift.view(*shift.shape, *(1 for _ in places)) - one(x, label)
    if places:
        assert gap[..., 0, :].abs().max() > 1e-2
        assert gap[..., :, -1].abs().max() > 1e-2
        gap = gap[..., 1:-1, 1:-1]
    torch.testing.assert_close(gap, torch.zeros_like(gap), rtol=0, atol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_only_conditioned_networks_depend_on_the_letter(arm: str) -> None:
    for network in networks(arm):
        with torch.no_grad():
            for name, weight in network.named_parameters():
                # New conditions, and labels of arm summed_zero, start at the identity.
                if "generator" in name or arm == "summed_zero":
                    weight.normal_()
        one = network(batch())
        other = network(replace(batch(), labels=(batch().labels + 1) % 4))
        assert torch.equal(one, other) is (arm == "unconditional")


def test_losses_are_those_of_the_paper() -> None:
    generator, discriminator = networks("concat")
    generated = replace(batch(), images=generator(batch()))
    real, fake = (discriminator(each).detach().double() for each in (batch(), generated))
    rows = range(len(real))
    theirs = sum(
        -math.log(1 / (1 + math.exp(-real[i]))) - math.log(1 - 1 / (1 + math.exp(-fake[i])))
        for i in rows
    ) / len(rows)
    ours = sum(-math.log(1 / (1 + math.exp(-fake[i]))) for i in rows) / len(rows)
    assert discriminator_loss(generator, discriminator, batch())[0].item() == pytest.approx(theirs)
    assert generator_loss(generator, discriminator, batch())[0].item() == pytest.approx(ours)


def test_the_discriminators_loss_leaves_the_generator_alone() -> None:
    generator, discriminator = networks("concat")
    discriminator_loss(generator, discriminator, batch())[0].backward()
    assert all(weight.grad is None for weight in generator.parameters())


def test_only_the_shuffled_arm_permutes_labels_and_changes_nothing_else() -> None:
    batches = {arm: SYSTEM.data(SYSTEM.config("tiny", arm), 0).batch(2) for arm in ARMS}
    truth = batches["concat"]
    for arm, found in batches.items():
        assert torch.equal(found.images, truth.images)
        assert torch.equal(found.noise, truth.noise)
        assert torch.equal(found.labels, truth.labels) is (arm != "shuffled")
        assert torch.equal(found.labels.sort().values, truth.labels.sort().values)


def test_film_scales_the_generators_norms_which_have_no_weights_of_their_own() -> None:
    generator, discriminator = networks("film")
    norms = [m for m in generator.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(norms) == 3 and all(norm.weight is None for norm in norms)
    assert {site.name for site in generator.stages.layout} == {f"stages.{i}.norm" for i in range(3)}
    assert {site.name for site in discriminator.stages.layout} == {
        f"stages.{i}.layer" for i in range(4)
    }


def untrained() -> Adversarial:
    torch.manual_seed(0)
    return stepper(SYSTEM.build(TINY), TINY)


def requests(letters: list[int]) -> GanBatch:
    """A sample of each letter; neither images nor noise are given."""
    count = len(letters)
    return GanBatch(torch.zeros(count, 1, 16, 16), torch.tensor(letters), torch.zeros(count, 8))


def test_each_network_has_its_own_optimizer_and_the_generator_an_average() -> None:
    trained = untrained()
    for learner in trained.learners:
        (group,) = learner.optimizer.param_groups
        own = list(learner.network.parameters())
        assert [id(weight) for weight in group["params"]] == [id(weight) for weight in own]
        assert (group["lr"], group["betas"]) == (TINY.learning_rate, (0.5, 0.999))
    ours, theirs = trained.learners
    assert ours.average is not None and ours.average.decay == TINY.ema_decay
    assert theirs.average is None


@torch.no_grad()
def test_samples_of_one_letter_differ_by_their_noise() -> None:
    trained = untrained()
    letters = [0, 0, 3]
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(7))
    with trained.evaluating() as network:
        expected = network(replace(requests(letters), noise=noise))
    assert torch.equal(trained.sample(requests(letters), seed=7), expected)
    assert not torch.equal(expected[0], expected[1])


def test_evaluation_is_its_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are replaced by test images, so that all numbers follow from the classifier."""
    config = replace(TINY, samples_per_class=4)
    test, requested = config.splits.test, []

    def real(_: object, __: object, labels: torch.Tensor) -> torch.Tensor:
        requested.append(labels)
        rows = [(test.labels == label).nonzero()[i % 4, 0] for i, label in enumerate(labels)]
        return test.ink[torch.stack(rows)]

    monkeypatch.setattr(experiment, "samples", real)
    trained = untrained()
    measured = evaluate(trained, config)
    assert requested[0].tolist() == [0, 1, 2, 3] * 4
    assert len(requested[1]) == 32
    classifier = config.splits.classifier(config.classifier_steps)
    classes = [classifier.letters(real(0, 0, each)).argmax(1) for each in requested[:2]]
    right = classes[0] == requested[0]
    assert measured.accuracy is not None
    assert measured.accuracy.correct == int(right.sum())
    assert (
        measured.number(experiment.RARE_ACCURACY) == right.view(4, 4)[:, 2:].double().mean().item()
    )
    shares = torch.bincount(classes[1], minlength=4) / 32
    wanted = class_frequencies(4, 1.0)
    assert measured.number(experiment.MODE_COVERAGE) == int((shares >= wanted / 2).sum()) / 4
    error = (shares - wanted).abs().sum().item() / 2
    assert measured.number(experiment.FREQUENCY_ERROR) == pytest.approx(error)
    weights = [p.numel() for net in trained.networks.values() for p in net.parameters()]
    assert measured.number(experiment.PARAMETERS) == sum(weights)


def test_training_labels_are_skewed() -> None:
    source = SYSTEM.data(TINY, 0)
    labels = torch.cat([source.batch(i).labels for i in range(40)])
    shares = torch.bincount(labels) / len(labels)
    torch.testing.assert_close(shares, class_frequencies(4, 1.0), atol=0.03, rtol=0)


def test_noise_is_normal_new_in_each_batch_and_independent_of_the_label() -> None:
    source = SYSTEM.data(TINY, 0)
    batches = [source.batch(i) for i in range(60)]
    noise = torch.cat([each.noise for each in batches])
    labels = torch.cat([each.labels for each in batches])
    means = torch.stack([noise[labels == k].mean(0) for k in range(4)])
    assert float(means.abs().max()) < 0.25
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert not torch.equal(batches[0].noise, batches[1].noise)


@torch.no_grad()
def test_summed_taps_are_concatenation_away_from_the_border() -> None:
    one, other = networks("concat")[1].stages, networks("summed")[1].stages
    for stage in (0, 1):
        whole = one.get_submodule(f"stages.{stage}.layer")
        summed = other.get_submodule(f"stages.{stage}.layer")
        assert isinstance(whole, ConcatConv) and isinstance(summed, SummedTaps)
        assert torch.equal(whole.convolve.weight, summed.layer.convolve.weight)
        x, label = torch.randn(4, whole.in_features, 16, 16), torch.eye(4)
        gap = whole(x, label) - summed(x, label)
        assert gap[..., 0, :].abs().max() > 1e-2
        inside = gap[..., 1:-1, 1:-1]
        torch.testing.assert_close(inside, torch.zeros_like(inside), rtol=0, atol=1e-5)


def test_labels_that_start_at_zero_change_nothing_at_first() -> None:
    for network in networks("summed_zero"):
        changed = replace(batch(), labels=(batch().labels + 1) % 4)
        assert torch.equal(network(batch()), network(changed))
    state = {arm: networks(arm)[0].state_dict() for arm in ("summed", "summed_zero")}
    for key, value in state["summed"].items():
        other = state["summed_zero"][key]
        assert (value == other).double().mean() >= 0.5, key


def test_the_sheet_has_a_row_for_each_letter() -> None:
    trained = untrained()
    letters = [letter for letter in range(4) for _ in range(12)]
    images = trained.sample(requests(letters)).view(4, 12, 1, 16, 16)
    page = draw(trained, TINY)
    assert page.tobytes() == sheet(images, rows=TINY.letters).tobytes()
