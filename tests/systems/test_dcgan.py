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
    Player,
    discriminator_loss,
    draw,
    evaluate,
    generator_loss,
    stepper,
)
from featurewise.training.steppers import Adversarial
from featurewise.worlds.glyphs.gan import GanBatch
from featurewise.worlds.glyphs.letter_data import letter_splits
from featurewise.worlds.glyphs.sheets import sheet

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "dcgan"))


def players(arm: str) -> tuple[Player, Player]:
    torch.manual_seed(0)
    network = SYSTEM.build(TINY, SYSTEM.arm(arm))
    generator, discriminator = network["generator"], network["discriminator"]
    assert isinstance(generator, Player) and isinstance(discriminator, Player)
    return generator.eval(), discriminator.eval()


def batch(rows: int = 6) -> GanBatch:
    chance = torch.Generator().manual_seed(1)
    return GanBatch(
        torch.rand(rows, 1, 16, 16, generator=chance),
        torch.arange(rows) % 4,
        torch.randn(rows, TINY.noise, generator=chance),
    )


@pytest.mark.parametrize("stage", range(4))
@torch.no_grad()
def test_a_bias_is_a_concatenation_away_from_the_border(stage: int) -> None:
    """Weights of concat taken over: equal where no kernel reaches into padding, else not."""
    concat, bias = (players(arm)[1].stages for arm in ("concat", "bias"))
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
def test_only_those_that_are_told_depend_on_the_letter(arm: str) -> None:
    for player in players(arm):
        with torch.no_grad():
            for name, weight in player.named_parameters():
                if "generator" in name:  # of a new condition, which starts at the identity
                    weight.normal_()
        one = player(batch())
        other = player(replace(batch(), letters=(batch().letters + 1) % 4))
        assert torch.equal(one, other) is (arm == "unconditional")


def test_losses_are_those_of_the_paper() -> None:
    generator, discriminator = players("concat")
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
    generator, discriminator = players("concat")
    discriminator_loss(generator, discriminator, batch())[0].backward()
    assert all(weight.grad is None for weight in generator.parameters())


def test_only_the_shuffled_arm_deals_labels_anew() -> None:
    for arm in SYSTEM.arms:
        assert SYSTEM.data(TINY, arm, 0).shuffled is (arm.name == "shuffled")  # type: ignore[attr-defined]


def test_film_scales_the_generators_norms_which_have_no_weights_of_their_own() -> None:
    generator, discriminator = players("film")
    norms = [m for m in generator.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(norms) == 3 and all(norm.weight is None for norm in norms)
    assert {site.name for site in generator.stages.layout} == {f"stages.{i}.norm" for i in range(3)}
    assert {site.name for site in discriminator.stages.layout} == {
        f"stages.{i}.layer" for i in range(4)
    }


def untrained() -> Adversarial:
    torch.manual_seed(0)
    return stepper(SYSTEM.build(TINY, SYSTEM.arm("concat")), TINY, SYSTEM.arm("concat"))


def asked(letters: list[int]) -> GanBatch:
    """Of each letter a drawing; neither pictures nor noise are given."""
    count = len(letters)
    return GanBatch(torch.zeros(count, 1, 16, 16), torch.tensor(letters), torch.zeros(count, 8))


def test_each_player_follows_its_own_gradient_and_the_average_draws() -> None:
    trained = untrained()
    for learner in trained.learners:
        (group,) = learner.optimizer.param_groups
        own = list(learner.network.parameters())
        assert [id(weight) for weight in group["params"]] == [id(weight) for weight in own]
        assert (group["lr"], group["betas"]) == (TINY.rate, (0.5, 0.999))
    ours, theirs = trained.learners
    assert ours.average is not None and ours.average.decay == TINY.average
    assert theirs.average is None


@torch.no_grad()
def test_drawings_of_one_letter_differ_by_their_noise() -> None:
    trained = untrained()
    letters = [0, 0, 3]
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(7))
    with trained.evaluating() as network:
        expected = network(replace(asked(letters), noise=noise))
    assert torch.equal(trained.sample(asked(letters), seed=7), expected)
    assert not torch.equal(expected[0], expected[1])


def test_all_letters_are_asked_and_compared_with_those_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, known = untrained(), letter_splits(TINY.where, TINY.letters, 16)
    s, given = replace(TINY, asked=3, judging=1), []

    def compare(*what: object) -> dict[str, float]:
        given.extend(what)
        return {"correct": 7.0, "total": 12.0, "mode_coverage": 0.5}

    monkeypatch.setattr(dcgan, "compare_with_real", compare)
    measured = evaluate(trained, s, SYSTEM.arm("concat"))
    images, letters, _, real = given
    assert letters.tolist() == [0, 1, 2, 3] * 3
    assert torch.equal(images, trained.sample(asked([0, 1, 2, 3] * 3)))
    assert real is known.train
    weights = [p.numel() for net in trained.networks.values() for p in net.parameters()]
    assert len(trained.networks) == 2
    assert measured.accuracy == Proportion(7, 12)
    assert measured.values == {"covered": 0.5, "parameters": sum(weights)}


def test_the_picture_has_a_row_for_each_letter() -> None:
    trained = untrained()
    letters = [letter for letter in range(4) for _ in range(12)]
    images = trained.sample(asked(letters)).view(4, 12, 1, 16, 16)
    page = draw(trained, TINY, SYSTEM.arm("concat"))
    assert page.tobytes() == sheet(images, rows=TINY.letters).tobytes()
