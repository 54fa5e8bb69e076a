"""Squeeze-and-excitation against the paper's equations; arms; cuts of the self-path; gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from featurewise.analysis import dependence
from featurewise.study.results import Proportion
from featurewise.systems.recognition.squeeze_excite import SYSTEM, experiment
from featurewise.systems.recognition.squeeze_excite.experiment import (
    correct,
    evaluated_images,
    gates,
)
from featurewise.systems.recognition.squeeze_excite.method import Batch, SqueezeExciteNetwork
from featurewise.training.randomness import seed_everything
from featurewise.worlds.glyphs.labelled import FASHION_FOLDER
from featurewise.worlds.small import DigitSource, digits

TINY = SYSTEM.preset("tiny")


def built(arm: str, preset: str = "tiny") -> SqueezeExciteNetwork:
    """An arm whose gates do read their input and whose norms have statistics, in eval mode."""
    seed_everything(0)
    network = cast(SqueezeExciteNetwork, SYSTEM.build(SYSTEM.config(preset, arm)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    for name, parameter in network.named_parameters():
        if "generator" in name:
            nn.init.normal_(parameter, std=3.0)
    return network.eval()


@torch.enable_grad()
def trained() -> SqueezeExciteNetwork:
    """The system after a few steps, its gates made to differ more."""
    seed_everything(0)
    config = SYSTEM.config("tiny", "squeeze_excite")
    stepper, source = SYSTEM.stepper(SYSTEM.build(config), config), SYSTEM.data(config, 0)
    for index in range(config.steps):
        stepper.step(source.batch(index))
    network = cast(SqueezeExciteNetwork, stepper.network)
    for head in network.trunk.generator.excite:
        nn.init.normal_(head.weight, std=10.0)
    return network.eval()


def batch(count: int = 6) -> Batch:
    found = DigitSource(1, count, "test").batch(0)
    return Batch(found.images.double(), found.images.roll(1, 0).double(), found.labels)


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """Batch norm of one image by running statistics, channel by channel."""
    channels = [
        (row - mean) / (var + 1e-5) ** 0.5 * weight + bias
        for row, mean, var, weight, bias in zip(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, strict=True
        )
    ]
    return torch.stack(channels)


def convolved(convolution: nn.Module, x: Tensor) -> Tensor:
    stride, padding = convolution.stride, convolution.padding
    return nn.functional.conv2d(x[None], convolution.weight, None, stride, padding)[0]


def paper(
    network: SqueezeExciteNetwork, image: Tensor, read: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Logits of one image whose gates read another, and its gates: equations 2 to 4."""
    trunk: Any = network.trunk
    backbone, generator = trunk.backbone, trunk.generator
    streams = [image, read]
    streams = [normed(backbone.stem[1], convolved(backbone.stem[0], x)).relu() for x in streams]
    found = []
    for index, block in enumerate(backbone.blocks):
        ends = []
        for x in streams:
            inner = normed(block.branch[1], convolved(block.branch[0], x)).relu()
            ends.append(normed(block.branch[4], convolved(block.branch[3], inner)))
        z = torch.tensor([float(channel.mean()) for channel in ends[1]], dtype=torch.float64)
        squeeze, head = generator.squeeze[index], generator.excite[index]
        hidden = (squeeze.weight @ z + squeeze.bias).clamp_min(0)
        s = 1 / (1 + (-(head.weight @ hidden + head.bias)).exp())
        found.append(s)
        sums = []
        for x, end in zip(streams, ends, strict=True):
            shortcut = x
            if isinstance(block.shortcut, nn.Sequential):
                shortcut = normed(block.shortcut[1], convolved(block.shortcut[0], x))
            sums.append((end * s[:, None, None] + shortcut).relu())
        streams = sums
    vector = streams[0].mean((1, 2))
    return network.classify.weight @ vector + network.classify.bias, found


@torch.no_grad()
@pytest.mark.parametrize("arm", ["squeeze_excite", "shuffled"])
def test_the_network_is_the_equations_image_by_image(arm: str) -> None:
    network, given = built(arm).double(), batch()
    logits, by_block = network(given), gates(network, given)
    read = given.images if arm == "squeeze_excite" else given.squeezed
    for i, image in enumerate(given.images):
        expected, expected_gates = paper(network, image, read[i])
        torch.testing.assert_close(logits[i], expected)
        for found, each in zip(by_block, expected_gates, strict=True):
            torch.testing.assert_close(found[i], each)
    assert all(found.std(0).max() > 1e-3 for found in by_block)


@torch.no_grad()
def test_gates_of_the_mean_are_those_of_the_mean_of_the_features() -> None:
    network, given = built("squeeze_excite").double(), batch()
    mean = experiment.with_excitation(network, TINY, "mean").double()
    mean.load_state_dict(network.state_dict())
    found = gates(mean, given)
    backbone, generator = network.trunk.backbone, network.trunk.generator
    x = backbone.stem(given.images)
    for index, block in enumerate(backbone.blocks):
        branch = block.branch(x)
        z = branch.mean((0, 2, 3))
        hidden = generator.squeeze[index](z).relu()
        s = generator.excite[index](hidden).sigmoid()
        torch.testing.assert_close(found[index], s.expand(len(x), -1))
        x = (branch * s[:, None, None] + block.shortcut(x)).relu()


def test_gates_differ_from_the_start() -> None:
    """W2 is random, as in the paper, and biases are zero; constant gates start at a half."""
    seed_everything(0)
    network = SYSTEM.build(SYSTEM.config("small", "squeeze_excite"))
    for head in network.trunk.generator.excite:
        deviation = (2 / head.weight.shape[1]) ** 0.5
        assert head.weight.detach().std().item() == pytest.approx(deviation, rel=0.5)
        assert not head.bias.any()
    constant = SYSTEM.build(SYSTEM.config("tiny", "constant")).eval()
    for each in gates(constant, evaluated_images(TINY)):
        torch.testing.assert_close(each, torch.full_like(each, 0.5))


def test_the_wider_network_has_about_as_many_parameters() -> None:
    def count(arm: str) -> int:
        return sum(p.numel() for p in built(arm, "small").parameters())

    assert 0 <= count("widened") / count("squeeze_excite") - 1 < 0.005
    assert count("plain") < count("constant") < count("squeeze_excite") == count("shuffled")


def test_only_the_control_reads_other_images() -> None:
    for arm in SYSTEM.arms:
        found = SYSTEM.data(SYSTEM.config("tiny", arm.name), 3).batch(2)
        plain = DigitSource(3, TINY.batch_size, "train").batch(2)
        assert torch.equal(found.images, plain.images)
        assert torch.equal(found.labels, plain.labels)
        expected = plain.images.roll(1, 0) if arm.is_control else plain.images
        assert torch.equal(found.squeezed, expected)
    network, given = built("shuffled").double(), batch()
    changed = replace(given, squeezed=given.squeezed.roll(1, 0))
    assert not torch.allclose(network(given), network(changed))
    network = built("squeeze_excite").double()
    assert torch.equal(network(given), network(changed))


def test_gates_that_read_nothing_are_the_same_for_all_images() -> None:
    network = built("constant")
    found = gates(network, evaluated_images(TINY))
    assert all((each == each[0]).all() for each in found)
    assert not torch.allclose(found[0][0], torch.full_like(found[0][0], 0.5))


@torch.no_grad()
def test_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of 100, against a direct computation."""
    monkeypatch.setattr(experiment, "_EVALUATED", 100)
    config, network = SYSTEM.config("tiny", "squeeze_excite"), trained()
    measured = SYSTEM.evaluate(SYSTEM.stepper(network, config), config)
    test = digits("test")
    given = Batch(test.images, test.images.roll(1, 0), test.labels)
    right = network(given).argmax(1) == test.labels
    assert measured.accuracy == Proportion.of(right)
    other = built("shuffled")
    other.load_state_dict(network.state_dict())
    other_right = other(given).argmax(1) == test.labels
    assert measured.by_type["accuracy, other gates"] == Proportion.of(other_right)
    mean = experiment.with_excitation(network, config, "mean")
    assert not mean.training
    mean_right = 0
    for start in range(0, 277, 100):
        rows = slice(start, start + 100)
        part = Batch(given.images[rows], given.squeezed[rows], given.labels[rows])
        mean_right += int((mean(part).argmax(1) == part.labels).sum())
    assert measured.by_type["accuracy, mean gates"] == Proportion(mean_right, 277)
    assert len({int(right.sum()), int(other_right.sum()), mean_right}) == 3
    by_block = gates(network, given)
    assert measured.values == pytest.approx(
        {
            "over images": dependence(torch.cat(by_block, 1), test.labels).over_samples,
            "over classes, first block": dependence(by_block[0], test.labels).over_classes,
            "over classes, last block": dependence(by_block[-1], test.labels).over_classes,
        }
    )
    assert bool((correct(network, given) == right).all())


@pytest.mark.parametrize("arm", ["squeeze_excite", "plain", "constant", "shuffled"])
def test_every_arm_has_a_figure(arm: str) -> None:
    config = SYSTEM.config("tiny", arm)
    assert SYSTEM.draw is not None
    image = SYSTEM.draw(SYSTEM.stepper(built(arm), config), config)
    assert image.width >= 600


def test_fashion_is_trained_on_and_tested_on_other_images() -> None:
    if not Path(FASHION_FOLDER).is_dir():
        pytest.skip("Fashion-MNIST is not installed: apt-get install dataset-fashion-mnist")
    config = SYSTEM.preset("small")
    found = SYSTEM.data(config, 0).batch(0)
    assert found.images.shape == (64, 1, 16, 16)
    test = evaluated_images(config)
    assert len(test.labels) == 10_000
    assert torch.equal(test.labels.bincount(), torch.full((10,), 1000))
    assert torch.equal(test.squeezed[1:], test.images[:-1])
    assert not (test.images.flatten(1)[:, None] == found.images.flatten(1)[:2]).all(2).any()
