"""TADAM against its equations in a loop; what each arm has and is told; the penalty's place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import featurewise as fw
from featurewise.generators import GatedGenerator
from featurewise.systems.few_shot.tadam import SYSTEM, Tadam, build, data, naming, stepper

TINY = SYSTEM.preset("tiny")
CONDITIONED = ("tadam", "conditioned", "free", "light", "heavy", "shuffled")
COTRAINED = ("tadam", "auxiliary", "free", "light", "heavy", "shuffled")


def woken(arm: str = "tadam") -> Tadam:
    """The network of an arm with multipliers that are not zero and statistics of its own."""
    torch.manual_seed(4)
    network = build(TINY, SYSTEM.arm(arm))
    assert isinstance(network, Tadam) and isinstance(network.embed, fw.Conditioned)
    generator = network.embed.generator
    assert isinstance(generator, GatedGenerator) and generator.multipliers is not None
    with torch.no_grad():
        generator.multipliers.copy_(0.3 * torch.randn(8))
        for block in network.embed.backbone.blocks:  # type: ignore[union-attr]
            block.norm.running_mean.normal_(std=0.1)  # type: ignore[union-attr, operator]
            block.norm.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return network.double().eval()


def embedded(network: Tadam, picture: Tensor, c: Tensor | None) -> Tensor:
    """Block after block by hand: 3x3, norm, (1 + γ0 h) x + β0 g, ReLU, pool."""
    embed = network.embed
    assert isinstance(embed, fw.Conditioned) and isinstance(embed.generator, GatedGenerator)
    inner, layout = embed.generator.generator, embed.layout
    multipliers = embed.generator.multipliers
    assert multipliers is not None
    x = picture[None]
    for place, block in enumerate(embed.backbone.blocks):  # type: ignore[arg-type]
        x = block.norm(F.conv2d(x, block.convolve.weight, padding=1))  # type: ignore
        if c is not None:
            one, _, two, _ = inner.encoder.layers  # type: ignore
            h = F.elu(two.weight @ F.elu(one.weight @ c + one.bias) + two.bias)
            raw = inner.head(h[None])[0]  # type: ignore[union-attr, operator]
            own = layout.split_site(raw[None], layout.names[place])
            gamma = 1 + multipliers[2 * place] * own["gamma"][0]
            beta = multipliers[2 * place + 1] * own["beta"][0]
            x = gamma[None, :, None, None] * x + beta[None, :, None, None]
        x = F.max_pool2d(F.relu(x), 2)
    return x.flatten()


@pytest.mark.parametrize("arm", ["tadam", "shuffled"])
def test_the_equations_in_a_loop(arm: str) -> None:
    network = woken(arm)
    batch = data(TINY, SYSTEM.arm(arm), 0).batch(2)
    assert batch.condition is not None
    pictures = {name: getattr(batch, name).double() for name in ("support", "query", "condition")}
    batch = replace(batch, **pictures)
    with torch.no_grad():
        logits = network(batch)
        for e in (0, 3):
            other = (e + 1) % TINY.episodes if arm == "shuffled" else e
            first = [embedded(network, picture, None) for picture in batch.support[other]]
            c = torch.stack(first).mean(0)
            centres = [embedded(network, picture, c) for picture in batch.support[e]]
            for q in (0, 8):
                x = embedded(network, batch.query[e, q], c)
                far = torch.stack([(x - centre).square().sum() for centre in centres])
                assert torch.allclose(logits[e, q], -network.scale * far, rtol=1e-6)


@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_what_an_arm_has_and_is_told(arm: str) -> None:
    network = build(TINY, SYSTEM.arm(arm))
    assert isinstance(network, Tadam)
    assert isinstance(network.embed, fw.Conditioned) == (arm in CONDITIONED)
    assert (network.name is not None) == (arm in COTRAINED)
    batch = data(TINY, SYSTEM.arm(arm), 0).batch(0)
    assert (batch.auxiliary_images is not None) == (arm in COTRAINED)
    assert batch.condition is not None
    others = batch.support.roll(-1, 0)
    assert torch.equal(batch.condition, others if arm == "shuffled" else batch.support)
    made = stepper(network, TINY, SYSTEM.arm(arm))
    assert (made.auxiliary is not None) == (arm in COTRAINED)
    decays = {group["name"]: group["weight_decay"] for group in made.learner.optimizer.param_groups}
    wanted = {"free": 0.0, "light": 0.001, "heavy": 0.1}.get(arm, 0.01)
    assert decays.get("multipliers", wanted) == wanted
    assert ("multipliers" in decays) == (arm in CONDITIONED)


def test_it_starts_as_its_base() -> None:
    """γ0 and β0 are zero: before training, conditioned and not are one function."""
    network = build(TINY, SYSTEM.arm("conditioned")).eval()
    batch = data(TINY, SYSTEM.arm("conditioned"), 0).batch(0)
    with torch.no_grad():
        assert torch.equal(network(batch), network(replace(batch, condition=None)))


def test_the_task_matters_once_multipliers_are_not_zero() -> None:
    network = woken().float()
    batch = data(TINY, SYSTEM.arm("tadam"), 0).batch(0)
    with torch.no_grad():
        told = network(batch)
        assert not torch.allclose(
            told, network(replace(batch, condition=batch.support.roll(-1, 0)))
        )
        assert not torch.allclose(told, network(replace(batch, condition=None)))


def test_the_second_task_is_named_without_conditioning_by_all_classes() -> None:
    network = woken().float()
    batch = data(TINY, SYSTEM.arm("tadam"), 0).batch(0)
    assert batch.auxiliary_images is not None and batch.auxiliary_labels is not None
    assert network.name is not None
    loss, _ = naming(network, batch)
    logits = torch.stack(
        [
            network.name(embedded(network, picture, None))
            for row in batch.auxiliary_images
            for picture in row
        ]
    )
    expected = F.cross_entropy(logits, batch.auxiliary_labels.flatten())
    assert torch.allclose(loss, expected, rtol=1e-4)
    loss.backward()
    multipliers = network.embed.generator.multipliers  # type: ignore[union-attr]
    assert multipliers.grad is None  # type: ignore[union-attr]


def test_the_second_task_grows_rare_in_twenty_stairs() -> None:
    made = stepper(build(TINY, SYSTEM.arm("tadam")), replace(TINY, steps=2000), SYSTEM.arm("tadam"))
    assert made.auxiliary is not None
    chances = [made.auxiliary.probability(step) for step in (0, 99, 100, 1999)]
    assert chances == pytest.approx([1.0, 1.0, 0.9, 0.9**19])
