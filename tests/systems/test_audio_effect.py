"""The audio effect against its equation, sample by sample; arms; live; measures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from featurewise.systems.sound.audio_effect import SYSTEM
from featurewise.systems.sound.audio_effect.experiment import (
    SIZES,
    evaluated,
    outputs,
    spectral_distance,
    tracks,
)
from featurewise.systems.sound.audio_effect.live import Live, latency
from featurewise.systems.sound.audio_effect.method import EffectNetwork, objective
from featurewise.training.randomness import seed_everything
from featurewise.worlds.sound.effects import BLOCK, EffectBatch, EffectSource, rendered

TINY = SYSTEM.preset("tiny")
ARMS = [arm.name for arm in SYSTEM.arms]


def built(arm: str, preset: str = "tiny") -> EffectNetwork:
    seed_everything(0)
    return cast(EffectNetwork, SYSTEM.build(SYSTEM.config(preset, arm)))


def perturbed(arm: str) -> EffectNetwork:
    """Weights that are not those of the start, so that each of them matters."""
    network = built(arm)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=rng))
    return network.double().eval()


def batch(count: int = 2, blocks: int = 4) -> EffectBatch:
    found = rendered(tracks(TINY, "test"), 5, 1).segments(
        blocks * BLOCK, [(n, 10 * n) for n in range(count)]
    )
    return EffectBatch(found.dry.double(), found.knobs.double(), found.wet.double())


def modulation(network: Any, knobs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(γ, β) of each block for one position of the knobs, by hand."""
    x = knobs
    for layer in network.trunk.generator.encoder.layers:
        x = torch.relu(layer.weight @ x + layer.bias) if hasattr(layer, "weight") else x
    head = network.trunk.generator.head
    flat = head.weight @ x + head.bias
    channels = len(network.trunk.backbone.blocks[0].convolution.bias)
    if network.knobs == "shift":
        return [(torch.ones(channels), beta) for beta in flat.split(channels)]
    pairs = [each.split(channels) for each in flat.split(2 * channels)]
    return [(1 + gamma, beta) for gamma, beta in pairs]


def paper(network: Any, dry: Tensor, knobs: Tensor) -> Tensor:
    """Sound after the effect, sample by sample: y = PReLU(γ (W * x) + β) + s x, from silence."""
    film = network.knobs in ("frames", "mean", "shift")
    trunk = network.trunk.backbone if film else network.trunk
    rows = [[sample] for sample in dry.unbind()]
    if network.knobs == "input":
        rows = [[s, *knobs[:, t // BLOCK].unbind()] for t, s in enumerate(dry.unbind())]
    x = torch.tensor([[float(each) for each in row] for row in rows], dtype=torch.float64)
    for number, block in enumerate(trunk.blocks):
        weight, dilation = block.convolution.weight, block.convolution.dilation[0]
        y = []
        for t in range(len(x)):
            total = block.convolution.bias.clone()
            for tap in range(weight.shape[2]):
                earlier = t - (weight.shape[2] - 1 - tap) * dilation
                if earlier >= 0:
                    total = total + weight[:, :, tap] @ x[earlier]
            if film:
                own = knobs.mean(1) if network.knobs == "mean" else knobs[:, t // BLOCK]
                gamma, beta = modulation(network, own)[number]
                total = gamma * total + beta
            total = torch.where(total > 0, total, block.activation.weight * total)
            straight = block.residual.weight[:, :, 0]
            if straight.shape[1] == 1 and x.shape[1] == len(straight):
                y.append(total + straight[:, 0] * x[t])
            else:
                y.append(total + straight @ x[t])
        x = torch.stack(y)
    return torch.tanh(x @ trunk.last.weight[0, :, 0] + trunk.last.bias)


@torch.no_grad()
@pytest.mark.parametrize("arm", ["frames", "mean", "shift", "input", "none"])
def test_the_network_is_the_equation_sample_by_sample(arm: str) -> None:
    network, given = perturbed(arm), batch()
    found = network(given)
    for n in range(len(found)):
        torch.testing.assert_close(found[n], paper(network, given.dry[n], given.knobs[n]))


@torch.no_grad()
@pytest.mark.parametrize("arm", ARMS)
def test_nothing_later_is_read(arm: str) -> None:
    network, given = perturbed(arm), batch()
    dry = given.dry.clone()
    dry[:, 70:] += 1
    found = network(replace(given, dry=dry))
    assert torch.equal(found[:, :70], network(given)[:, :70])
    assert not torch.allclose(found[:, 70:], network(given)[:, 70:])


@torch.no_grad()
def test_a_moving_knob_is_heard_at_its_block() -> None:
    given = batch()
    knobs = given.knobs.clone()
    knobs[:, :, 2] = 1 - knobs[:, :, 2]
    for arm in ("frames", "shift", "input"):
        network = perturbed(arm)
        same = network(given).isclose(network(replace(given, knobs=knobs))).all(0)
        assert same[: 2 * BLOCK].all() and not same[2 * BLOCK]
    network = perturbed("mean")
    swapped = replace(given, knobs=given.knobs.flip(2))
    torch.testing.assert_close(network(given), network(swapped))
    assert not torch.allclose(network(given), network(replace(given, knobs=knobs)))
    network = perturbed("none")
    assert torch.equal(network(given), network(replace(given, knobs=knobs)))


@torch.no_grad()
@pytest.mark.parametrize("arm", ["frames", "shift", "input", "none"])
def test_live_parts_give_what_the_whole_gives(arm: str) -> None:
    network, given = perturbed(arm), batch(1)
    live = Live(network)
    parts = [
        live.process(given.dry[0, start : start + 16], given.knobs[0, :, start // BLOCK].tolist())
        for start in range(0, 4 * BLOCK, 16)
    ]
    torch.testing.assert_close(torch.cat(parts), network(given)[0])


def test_latency_is_measured_on_one_core() -> None:
    threads = torch.get_num_threads()
    median, late = latency(built("frames").eval(), 64, repeats=5)
    assert 0 < median <= late
    assert torch.get_num_threads() == threads


def test_only_the_control_has_the_knobs_of_other_segments() -> None:
    length = TINY.warmup + TINY.length
    plain = EffectSource(rendered(tracks(TINY, "train"), 3, 2), 6, length, 3).batch(2)
    for arm in SYSTEM.arms:
        config = SYSTEM.config("tiny", arm.name)
        found = SYSTEM.data(config, 3).batch(2)
        assert torch.equal(found.dry, plain.dry) and torch.equal(found.wet, plain.wet)
        assert torch.equal(found.knobs, plain.knobs.roll(1, 0) if arm.is_control else plain.knobs)
        own, given = evaluated(TINY), evaluated(config)
        assert torch.equal(given.wet, own.wet)
        assert torch.equal(given.knobs, own.knobs.roll(1, 0) if arm.is_control else own.knobs)


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_wide_network_has_about_as_many_parameters(preset: str) -> None:
    def count(arm: str) -> int:
        with torch.device("meta"):
            network = SYSTEM.build(SYSTEM.config(preset, arm))
        return sum(p.numel() for p in network.parameters())

    assert abs(count("input") / count("frames") - 1) < (0.06 if preset == "tiny" else 0.04)
    assert count("none") < count("shift") < count("frames") == count("mean") == count("shuffled")


def test_the_warm_up_is_what_a_sample_depends_on() -> None:
    assert SYSTEM.preset("small").warmup == 960 >= 6 * 156
    assert TINY.warmup == BLOCK >= 2 * 13


def test_test_segments_are_those_of_the_tracks() -> None:
    found = evaluated(TINY)
    whole = rendered(tracks(TINY, "test"), 10**6, 1)
    assert found.dry.shape == (3 * 15, 32 + 256)
    assert torch.equal(found.wet[4], whole.wet[1, 256 : 256 + 288])
    counted = torch.cat(found.wet[::3, 32:].unbind())
    assert torch.equal(counted, whole.wet[0, 32 : 32 + 15 * 256])
    assert torch.equal(found.knobs[4], whole.knobs[1, :, 8:17])
    assert (evaluated(TINY, moving=False).knobs.diff(dim=2) == 0).all()


@torch.no_grad()
def test_what_is_measured() -> None:
    config = SYSTEM.config("tiny", "frames")
    network = perturbed("frames").float()
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, config), config).values
    for name, moving in (("error", True), ("error, standing knobs", False)):
        given = evaluated(config, moving=moving)
        made = torch.cat([network(EffectBatch(*row)) for row in rows(given)])
        error, signal = 0.0, 0.0
        for one, other in zip(
            made[:, 32:].flatten().tolist(), given.wet[:, 32:].flatten().tolist(), strict=True
        ):
            error, signal = error + (one - other) ** 2, signal + other**2
        assert measured[name] == pytest.approx(10 * math.log10(error / signal), rel=1e-3)
    given = evaluated(config)
    made, wet = outputs(network, given)[:, 32:], given.wet[:, 32:]
    by_track = [torch.stack([each[n::3].flatten() for n in range(3)]) for each in (made, wet)]
    assert measured["spectral distance"] == pytest.approx(spectral_distance(*by_track))
    dry = given.dry[:, 32:]
    least = min(
        float((s / 100 * dry - wet).square().sum() / wet.square().sum()) for s in range(600)
    )
    assert measured["error, dry"] == pytest.approx(10 * math.log10(least), abs=0.01)


def rows(given: EffectBatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [
        (given.dry[n : n + 1], given.knobs[n : n + 1], given.wet[n : n + 1])
        for n in range(len(given.dry))
    ]


def test_the_spectral_distance_is_the_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    one, other = 0.1 * torch.randn(2, 1, 1100, generator=rng)
    total = 0.0
    for size in SIZES:
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(size) / size)
        differences = []
        for start in range(0, 1100 - size + 1, size // 4):
            logs = [
                torch.fft.rfft(each[0, start : start + size] * window)
                .abs()
                .clamp_min(1e-3 * size / 4)
                .log()
                for each in (one, other)
            ]
            differences.append((logs[0] - logs[1]).abs())
        total += torch.stack(differences).mean().item()
    assert spectral_distance(one, other) == pytest.approx(total / 3, rel=1e-4)
    assert spectral_distance(one, one) == 0


@torch.no_grad()
def test_the_loss_is_the_ratio_behind_the_warm_up() -> None:
    network, given = perturbed("none"), batch()
    error = (network(given) - given.wet)[:, 40:].square().sum()
    loss, _ = objective(network, given, 40)
    expected = error / (given.wet[:, 40:].square().sum() + 1e-3)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-7, check_dtype=False)


def test_the_figure() -> None:
    config = SYSTEM.config("tiny", "input")
    assert SYSTEM.draw is not None
    assert SYSTEM.draw(SYSTEM.stepper(built("input"), config), config).size == (800, 360)
