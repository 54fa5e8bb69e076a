"""TADAM against its equations in a loop; what each arm changes; the decay of multipliers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import featurewise as fw
from featurewise.generators import GatedGenerator
from featurewise.systems.episodes import sampled_episodes
from featurewise.systems.few_shot.tadam import SYSTEM
from featurewise.systems.few_shot.tadam.experiment import data
from featurewise.systems.few_shot.tadam.method import Tadam, auxiliary_loss, build, stepper

TINY = SYSTEM.preset("tiny")
CONDITIONED = ("tadam", "conditioned", "shuffled")
CO_TRAINED = ("tadam", "auxiliary")


def with_multipliers(arm: str = "tadam") -> Tadam:
    """The network of an arm with multipliers that are not zero, and running statistics."""
    torch.manual_seed(4)
    network = build(SYSTEM.config("tiny", arm))
    assert isinstance(network, Tadam) and isinstance(network.embed, fw.Conditioned)
    generator = network.embed.generator
    assert isinstance(generator, GatedGenerator) and generator.multipliers is not None
    with torch.no_grad():
        generator.multipliers.copy_(0.3 * torch.randn(8))
        for block in network.embed.backbone.blocks:  # type: ignore[union-attr]
            block.norm.running_mean.normal_(std=0.1)  # type: ignore[union-attr, operator]
            block.norm.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return network.double().eval()


def embedded(network: Tadam, image: Tensor, c: Tensor | None) -> Tensor:
    """Block after block by hand: 3x3, norm, (1 + γ0 h) x + β0 g, ReLU, pool."""
    embed = network.embed
    assert isinstance(embed, fw.Conditioned) and isinstance(embed.generator, GatedGenerator)
    inner, layout = embed.generator.generator, embed.layout
    multipliers = embed.generator.multipliers
    assert multipliers is not None
    x = image[None]
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
    network = with_multipliers(arm)
    batch = data(SYSTEM.config("tiny", arm), 0).batch(2)
    assert batch.condition is not None
    images = {name: getattr(batch, name).double() for name in ("support", "query", "condition")}
    batch = replace(batch, **images)
    with torch.no_grad():
        logits = network(batch)
        for e in (0, 3):
            other = (e + 1) % TINY.batch_size if arm == "shuffled" else e
            first = [embedded(network, image, None) for image in batch.support[other]]
            c = torch.stack(first).mean(0)
            centres = [embedded(network, image, c) for image in batch.support[e]]
            for q in (0, 8):
                x = embedded(network, batch.query[e, q], c)
                distances = torch.stack([(x - centre).square().sum() for centre in centres])
                assert torch.allclose(logits[e, q], -network.scale * distances, rtol=1e-6)


@pytest.mark.parametrize("arm", [arm.name for arm in SYSTEM.arms])
def test_what_an_arm_has_and_is_conditioned_on(arm: str) -> None:
    config = SYSTEM.config("tiny", arm)
    network = build(config)
    assert isinstance(network.embed, fw.Conditioned) == (arm in CONDITIONED)
    assert (network.name is not None) == (arm in CO_TRAINED)
    batch = data(config, 0).batch(0)
    assert (batch.auxiliary_images is not None) == (arm in CO_TRAINED)
    assert batch.condition is not None
    others = batch.support.roll(-1, 0)
    assert torch.equal(batch.condition, others if arm == "shuffled" else batch.support)
    trained = stepper(network, config)
    assert (trained.auxiliary is not None) == (arm in CO_TRAINED)
    groups = {group["name"]: group for group in trained.learner.optimizer.param_groups}
    assert ("multipliers" in groups) == (arm in CONDITIONED)
    if arm in CONDITIONED:
        assert groups["multipliers"]["weight_decay"] == config.multiplier_weight_decay
        assert groups["multipliers"]["initial_lr"] == config.multiplier_learning_rate
    assert groups["weights"]["weight_decay"] == config.weight_decay
    assert groups["weights"]["initial_lr"] == config.learning_rate


def test_it_starts_as_its_base() -> None:
    """γ0 and β0 are zero: before training, the condition changes nothing."""
    config = SYSTEM.config("tiny", "conditioned")
    network = build(config).eval()
    batch = data(config, 0).batch(0)
    with torch.no_grad():
        assert torch.equal(network(batch), network(replace(batch, condition=None)))


def test_the_condition_matters_once_multipliers_are_not_zero() -> None:
    network = with_multipliers().float()
    batch = data(TINY, 0).batch(0)
    with torch.no_grad():
        logits = network(batch)
        other = replace(batch, condition=batch.support.roll(-1, 0))
        assert not torch.allclose(logits, network(other))
        assert not torch.allclose(logits, network(replace(batch, condition=None)))


def test_the_auxiliary_task_has_all_classes_and_no_condition() -> None:
    network = with_multipliers().float()
    batch = data(TINY, 0).batch(0)
    assert batch.auxiliary_images is not None and batch.auxiliary_labels is not None
    assert network.name is not None
    loss, _ = auxiliary_loss(network, batch)
    logits = torch.stack(
        [
            network.name(embedded(network, image, None))
            for row in batch.auxiliary_images
            for image in row
        ]
    )
    expected = F.cross_entropy(logits, batch.auxiliary_labels.flatten())
    assert torch.allclose(loss, expected, rtol=1e-4)
    loss.backward()
    multipliers = network.embed.generator.multipliers  # type: ignore[union-attr]
    assert multipliers.grad is None  # type: ignore[union-attr]


def test_auxiliary_steps_become_rarer_in_twenty_stages() -> None:
    trained = stepper(build(TINY), replace(TINY, steps=2000))
    assert trained.auxiliary is not None
    found = [trained.auxiliary.probability(step) for step in (0, 99, 100, 1999)]
    assert found == pytest.approx([1.0, 1.0, 0.9, 0.9**19])


def test_running_statistics_are_those_of_the_second_pass_alone() -> None:
    """Neither the first pass nor the auxiliary task, which are not conditioned, changes them."""
    batch = data(TINY, 0).batch(0)
    assert batch.condition is not None
    network = with_multipliers().float().train()
    before = {key: value.clone() for key, value in network.named_buffers()}
    network(batch, auxiliary=True)
    network.embed_unconditioned(batch.condition)
    assert all(torch.equal(value, before[key]) for key, value in network.named_buffers())
    network(batch)
    changed = [key for key, value in network.named_buffers() if not torch.equal(value, before[key])]
    assert len([key for key in changed if key.endswith("running_mean")]) == 4


def test_the_first_pass_is_the_same_in_training_and_in_evaluation() -> None:
    network = with_multipliers().float()
    condition = data(TINY, 0).batch(0).condition
    assert condition is not None
    found = network.eval().embed_unconditioned(condition)
    assert torch.equal(network.train().embed_unconditioned(condition), found)


def test_the_auxiliary_task_trains_by_the_statistics_of_its_batch() -> None:
    config = SYSTEM.config("tiny", "auxiliary")
    batch = data(config, 0).batch(0)
    assert batch.auxiliary_images is not None
    network = build(config).train()
    assert network.name is not None
    expected = network.name(network.embed(batch.auxiliary_images.flatten(0, 1)))
    found = network(batch, auxiliary=True).flatten(0, 1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_episodes_are_in_domains() -> None:
    plain = sampled_episodes(TINY, "train", 0, auxiliary_images=TINY.auxiliary_images)
    found, before = data(TINY, 0).batch(0), plain.batch(0)
    same = [torch.equal(a, b) for a, b in zip(found.support, before.support, strict=True)]
    assert not all(same)
    assert torch.equal(found.query_labels, before.query_labels)
