"""Conditional DCGAN: bias is concatenation, the losses of the paper, controls that control."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from featurewise.layers.concat import ConcatLinear
from featurewise.systems.generation.dcgan import (
    SYSTEM,
    Drawn,
    Player,
    discriminator_loss,
    generator_loss,
)

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


def batch(rows: int = 6) -> Drawn:
    chance = torch.Generator().manual_seed(1)
    return Drawn(
        torch.rand(rows, 1, 16, 16, generator=chance),
        torch.arange(rows) % 4,
        torch.randn(rows, TINY.noise, generator=chance),
    )


def test_a_bias_is_a_concatenation_away_from_the_border() -> None:
    """Weights of concat taken over: equal logits where no kernel reaches into padding."""
    concat, bias = (players(arm)[1] for arm in ("concat", "bias"))
    ours, theirs = concat.stages.stages, bias.stages.backbone.stages  # type: ignore[union-attr]
    one, other = ours[2].layer, theirs[2].layer
    assert isinstance(one, ConcatLinear)
    x, label = torch.randn(4, one.in_features), torch.eye(4)
    with torch.no_grad():
        other.weight.copy_(one.linear.weight[:, : one.in_features])
        other.bias.copy_(one.linear.bias)
        expected = one(x, label)
        torch.testing.assert_close(other(x) + one.conditional_bias(label), expected)


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


def test_shuffled_deals_the_labels_of_a_batch_anew_and_nothing_else() -> None:
    plain, shuffled = (SYSTEM.data(TINY, SYSTEM.arm(arm), 0) for arm in ("concat", "shuffled"))
    moved = 0
    for i in range(20):
        one, other = plain.batch(i), shuffled.batch(i)
        assert torch.equal(one.images, other.images) and torch.equal(one.noise, other.noise)
        assert torch.equal(one.letters.sort().values, other.letters.sort().values)
        moved += int((one.letters != other.letters).sum())
    # Of 4 equally frequent letters a quarter stays by chance.
    assert moved / (20 * TINY.batch_size) == pytest.approx(0.75, abs=0.1)


def test_noise_does_not_tell_the_letter() -> None:
    """It is drawn by lots of its own: letters and the first noise of a row are independent."""
    data = SYSTEM.data(replace(TINY, batch_size=200), SYSTEM.arm("concat"), 0)
    batches = [data.batch(i) for i in range(20)]
    noise = torch.cat([each.noise for each in batches])
    letters = torch.cat([each.letters for each in batches])
    means = torch.stack([noise[letters == k].mean(0) for k in range(4)])
    assert float(means.abs().max()) < 5 / math.sqrt(1000)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    first: list[Tensor] = [each.noise for each in batches[:2]]
    assert not torch.equal(*first)


def test_film_scales_the_generators_norms_which_have_no_weights_of_their_own() -> None:
    generator, discriminator = players("film")
    norms = [m for m in generator.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(norms) == 3 and all(norm.weight is None for norm in norms)
    assert {site.name for site in generator.stages.layout} == {f"stages.{i}.norm" for i in range(3)}
    assert {site.name for site in discriminator.stages.layout} == {
        f"stages.{i}.layer" for i in range(4)
    }
