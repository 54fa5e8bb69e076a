"""Conditional DCGAN: bias is concatenation, the losses of the paper, controls that control."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from featurewise.layers.concat import ConcatConv, ConcatLinear
from featurewise.study.results import Proportion
from featurewise.systems.generation import dcgan
from featurewise.systems.generation.dcgan import (
    SYSTEM,
    ConditionalStages,
    discriminator_loss,
    draw,
    evaluate,
    generator_loss,
    stepper,
)
from featurewise.training.steppers import Adversarial
from featurewise.worlds.glyphs.drawn import Drawn
from featurewise.worlds.glyphs.material import material
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


def batch(count: int = 6) -> Drawn:
    rng = torch.Generator().manual_seed(1)
    return Drawn(
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
                if "generator" in name:  # of a new condition, which starts at the identity
                    weight.normal_()
        one = network(batch())
        other = network(replace(batch(), letters=(batch().letters + 1) % 4))
        assert torch.equal(one, other) is (arm == "unconditional")


def test_losses_are_those_of_the_paper() -> None:
    generator, discriminator = networks("concat")
    drawn = replace(batch(), images=generator(batch()))
    real, fake = (discriminator(each).detach().double() for each in (batch(), drawn))
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
        assert torch.equal(found.letters, truth.letters) is (arm != "shuffled")
        assert torch.equal(found.letters.sort().values, truth.letters.sort().values)


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


def requests(letters: list[int]) -> Drawn:
    """A sample of each letter; neither images nor noise are given."""
    count = len(letters)
    return Drawn(torch.zeros(count, 1, 16, 16), torch.tensor(letters), torch.zeros(count, 8))


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


def test_all_letters_are_sampled_and_compared_with_the_training_letters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, known = untrained(), material(TINY.typefaces, TINY.letters, 16)
    config, given = replace(TINY, samples_per_class=3, classifier_steps=1), []

    def compare(*what: object) -> dict[str, float]:
        given.extend(what)
        return {"correct": 7.0, "total": 12.0, "covered": 0.5}

    monkeypatch.setattr(dcgan, "compare", compare)
    measured = evaluate(trained, config)
    images, letters, _, real = given
    assert letters.tolist() == [0, 1, 2, 3] * 3
    assert torch.equal(images, trained.sample(requests([0, 1, 2, 3] * 3)))
    assert real is known.train
    weights = [p.numel() for net in trained.networks.values() for p in net.parameters()]
    assert len(trained.networks) == 2
    assert measured.accuracy == Proportion(7, 12)
    assert measured.values == {"mode coverage": 0.5, "parameters": sum(weights)}


def test_the_sheet_has_a_row_for_each_letter() -> None:
    trained = untrained()
    letters = [letter for letter in range(4) for _ in range(12)]
    images = trained.sample(requests(letters)).view(4, 12, 1, 16, 16)
    page = draw(trained, TINY)
    assert page.tobytes() == sheet(images, rows=TINY.letters).tobytes()
