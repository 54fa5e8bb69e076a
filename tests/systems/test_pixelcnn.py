"""Conditional PixelCNN: its two kinds of bias by hand, causality with both, controls."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import featurewise as fw
from featurewise.models.autoregressive import GatedUnit
from featurewise.study.results import Measurement, Results, Trial
from featurewise.systems.generation.pixelcnn import (
    CONDITIONS,
    NATS_WHAT,
    NATS_WHERE,
    SYSTEM,
    PixelCNN,
    nats,
    objective,
)
from featurewise.worlds.glyphs.placed import Pixels

TINY = SYSTEM.preset("tiny")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREWISE_CACHE", str(tmp_path_factory.getbasetemp() / "generation"))


def network(arm: str) -> PixelCNN:
    """An arm whose conditioning is not at its start any more."""
    torch.manual_seed(0)
    made = SYSTEM.build(SYSTEM.config("tiny", arm)).double().eval()
    assert isinstance(made, PixelCNN)
    nn.init.normal_(made.net.generator.head.weight)
    return made


def batch(rows: int = 2) -> Pixels:
    chance = torch.Generator().manual_seed(1)
    images = (torch.rand(rows, 1, 16, 16, generator=chance) > 0.5).double()
    told = torch.eye(CONDITIONS, dtype=torch.float64)[torch.arange(rows) * 7 % CONDITIONS]
    return Pixels(images, told, torch.arange(rows) < rows // 2)


def gates(made: PixelCNN) -> dict[str, tuple[Tensor, Tensor]]:
    """What went into the tanh and the σ of every gate, and what it gave."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in made.net.backbone.named_modules():
        if isinstance(module, GatedUnit):
            module.register_forward_hook(
                lambda _, given, made, name=name: seen.__setitem__(name, (given[0], made))
            )
    return seen


@pytest.mark.parametrize("arm", ["feature", "location"])
def test_a_gate_is_equation_4_or_5(arm: str) -> None:
    made, told = network(arm), batch()
    seen = gates(made)
    made(told)
    head = made.net.generator.head
    start = 0
    for name in made.net.layout.names:
        x, y = seen[name.removesuffix(".shift")]
        width = x.shape[1]
        rows = slice(start, start + width)
        start += width
        if arm == "feature":  # V h, with the bias of the head as a row of its own
            bias = (told.told @ head.weight[rows].T + head.bias[rows])[:, :, None, None]
        else:  # V * m(h)
            placed = made.net.generator.encoder(told.told)
            assert placed.shape[2:] == (16, 16)
            bias = torch.einsum("of,nfhw->nohw", head.weight[rows], placed)
            bias = bias + head.bias[rows][:, None, None]
        half = width // 2
        expected = torch.tanh(x + bias)[:, :half] / (1 + torch.exp(-(x + bias)[:, half:]))
        torch.testing.assert_close(y, expected)
    assert start == made.net.layout.size


@pytest.mark.parametrize("arm", ["feature", "location"])
def test_no_pixel_sees_itself_or_a_later_one(arm: str) -> None:
    made, told = network(arm), batch(1)
    before = made(told).flatten()
    for pixel in range(256):
        images = told.images.clone()
        images.view(-1)[pixel] = 1 - images.view(-1)[pixel]
        changed = (made(replace(told, images=images)).flatten() != before).nonzero().flatten()
        assert (changed > pixel).all(), pixel
        if pixel < 255:
            assert pixel + 1 in changed or (pixel + 1) % 16 == 0, pixel


def test_only_the_location_dependent_bias_varies_over_places() -> None:
    biases = {arm: network(arm).net.represent(batch().told).flat for arm in ("feature", "location")}
    assert biases["feature"].ndim == 2
    assert biases["location"].shape[2:] == (16, 16)
    assert biases["location"].std((2, 3)).min() > 0


def test_objective_is_nats_per_pixel() -> None:
    made, told = network("feature"), batch()
    chance = torch.sigmoid(made(told))
    costs = []
    for n in range(2):
        cost = 0.0
        for pixel, ink in zip(
            chance[n].flatten().tolist(), told.images[n].flatten().tolist(), strict=True
        ):
            cost -= math.log(pixel if ink else 1 - pixel)
        costs.append(cost)
    torch.testing.assert_close(nats(made, told), torch.tensor(costs, dtype=torch.float64))
    assert objective(made, told)[0].item() == pytest.approx(sum(costs) / 2 / 256)


@pytest.mark.parametrize("arm", ["feature", "location", "unconditional"])
def test_samples_are_those_of_the_plain_loop(arm: str) -> None:
    torch.manual_seed(0)
    made = SYSTEM.build(SYSTEM.config("tiny", arm))
    for parameter in made.parameters():  # so that chances are far from one half
        nn.init.normal_(parameter)
    stepper = SYSTEM.stepper(made, SYSTEM.config("tiny", arm))
    asked = Pixels(torch.zeros(3, 1, 16, 16), torch.eye(CONDITIONS)[:3], torch.ones(3).bool())
    found = stepper.sample(asked, seed=5)  # type: ignore[attr-defined]
    lots = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    images = torch.zeros(3, 1, 16, 16)
    with torch.no_grad():
        for row in range(16):
            for column in range(16):
                logit = made(replace(asked, images=images))[..., row, column]
                images[..., row, column] = (lots[..., row, column] < logit.sigmoid()).float()
    assert (found != images).float().mean() < 0.01  # a lot next to a chance may fall either way


def test_conditions_of_controls_say_nothing_of_the_image() -> None:
    arms = [arm.name for arm in SYSTEM.arms]
    data = {arm: SYSTEM.data(SYSTEM.config("tiny", arm), 0).batch(3) for arm in arms}
    truth = data["feature"]
    for arm in data:
        assert torch.equal(data[arm].images, truth.images), arm
    assert torch.equal(data["location"].told, truth.told)
    assert (data["unconditional"].told == data["unconditional"].told[0, 0]).all()
    dealt = data["shuffled"].told
    assert torch.equal(dealt.sum(0), truth.told.sum(0))
    assert (dealt.argmax(1) == truth.told.argmax(1)).float().mean() < 0.5


def test_arms_have_as_many_parameters_within_a_tenth() -> None:
    built = [SYSTEM.build(SYSTEM.config("small", arm.name)) for arm in SYSTEM.arms]
    sizes = [sum(p.numel() for p in network.parameters()) for network in built]
    assert max(sizes) < 1.1 * min(sizes), sizes


def test_it_is_the_hosts_own_condition() -> None:
    made = network("feature")
    assert isinstance(made.net, fw.Conditioned)
    assert {str(site.operation) for site in made.net.layout} == {"Shift()"}
    assert len(made.net.layout) == 2 * TINY.layers - 1


@pytest.mark.parametrize("index", [-2, -1])
def test_a_gain_is_measured_against_what_the_condition_can_carry(index: int) -> None:
    """Halves of the images are conditioned on one of 10 digits, or on one of 9 positions."""
    claim, bound = SYSTEM.claims[index], math.log({-2: 20, -1: 18}[index])
    names = [NATS_WHAT.name, NATS_WHERE.name]

    def outcome(gain: float) -> str:
        trials = [
            Trial(arm, seed, 1, 1.0, 1, Measurement(values=dict.fromkeys(names, nats)))
            for arm, nats in (("unconditional", 30.0 + gain), ("feature", 30.0))
            for seed in range(3)
        ]
        verdict = claim.check(Results("pixelcnn", "small", tuple(trials)))
        assert verdict is not None
        return verdict.outcome

    assert outcome(bound - 0.01) == "supported"
    assert outcome(bound + 0.01) == "refuted"
    assert f"{bound:.2f} nats" in claim.criterion.sentence
