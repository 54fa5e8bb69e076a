"""Layers of FiLM's network and of its baselines: each against its formula written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.models.trunks import CoordinateConv
from featurewise.systems.reasoning.film.baselines import StackedAttention
from featurewise.systems.reasoning.film.network import (
    PixelStem,
    PooledClassifier,
    ResidualBlock,
    ResidualTrunk,
)


def concatenated(layer: CoordinateConv, x: Tensor) -> Tensor:
    """The same layer as one convolution over features and coordinate maps side by side."""
    height, width = x.shape[2:]
    across = torch.linspace(-1, 1, width, dtype=x.dtype).expand(len(x), 1, height, width)
    down = torch.linspace(-1, 1, height, dtype=x.dtype).view(-1, 1).expand(len(x), 1, height, width)
    weight = torch.cat((layer.project.weight, layer.place.weight), dim=1)
    return F.conv2d(torch.cat((x, across, down), dim=1), weight, layer.project.bias)


@pytest.mark.parametrize("training", [True, False])
def test_residual_block_is_its_formula(training: bool) -> None:
    block = ResidualBlock(4).double().train(training)
    block.norm.running_mean.normal_()
    block.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    h = concatenated(block.project, x).clamp_min(0)
    y = F.conv2d(h, block.convolve.weight, padding=1)
    if training:
        mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
    else:
        mean, variance = block.norm.running_mean.clone(), block.norm.running_var.clone()
    shape = (1, 4, 1, 1)
    normed = (y - mean.view(shape)) / (variance.view(shape) + block.norm.eps).sqrt()
    torch.testing.assert_close(block(x), h + normed.clamp_min(0), rtol=0, atol=1e-12)


def test_the_norm_has_no_affine_part() -> None:
    assert list(ResidualBlock(4).norm.parameters()) == []


def test_trunk_is_the_sequence_of_its_blocks() -> None:
    trunk = ResidualTrunk(4, 3).eval()
    x = expected = torch.randn(2, 4, 5, 5)
    for block in trunk.blocks:
        expected = block(expected)
    assert len(trunk.blocks) == 3
    assert torch.equal(trunk(x), expected)
    sites = [name for name, each in trunk.named_modules() if isinstance(each, nn.BatchNorm2d)]
    assert sites == ["blocks.0.norm", "blocks.1.norm", "blocks.2.norm"]


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("widths", [(5,), (5, 6), (5, 6, 7)])
def test_stem_halves_with_every_convolution(widths: tuple[int, ...], kernel: int) -> None:
    stem = PixelStem(widths, kernel).eval()
    times = 2 ** len(widths)
    found = stem(torch.rand(2, 3, 3 * times, 4 * times))
    assert found.shape == (2, widths[-1], 3, 4)
    assert found.min() >= 0


def test_stem_of_the_paper() -> None:
    stem = PixelStem((128,) * 4)
    assert sum(p.numel() for p in stem.parameters()) == 16 * 128 * (3 + 3 * 128) + 4 * 2 * 128
    with torch.device("meta"):
        assert PixelStem((128,) * 4)(torch.empty(1, 3, 224, 224)).shape == (1, 128, 14, 14)


def test_stem_is_its_formula() -> None:
    stem = PixelStem((4,)).double().eval()
    x = torch.rand(2, 3, 8, 6, dtype=torch.float64)
    convolved = F.conv2d(4 * x - 2, stem.layers[0].weight, stride=2, padding=1)
    expected = (convolved / (1 + stem.layers[1].eps) ** 0.5).clamp_min(0)
    torch.testing.assert_close(stem(x), expected, rtol=0, atol=1e-12)


def test_classifier_takes_the_maximum_over_positions() -> None:
    classify = PooledClassifier(3, 5, 6, 4).double().eval()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    features = concatenated(classify.project, x).clamp_min(0)
    torch.testing.assert_close(classify.map(x), features, rtol=0, atol=1e-12)
    pooled = torch.stack([torch.stack([m.max() for m in row]) for row in features])
    torch.testing.assert_close(classify(x), classify.classify(pooled), rtol=0, atol=1e-12)


def test_only_positions_of_maxima_have_a_gradient() -> None:
    """Only positions that hold the maximum of a feature have a gradient: the argmax of the map."""
    classify = PooledClassifier(3, 5, 6, 4).eval()
    x = torch.randn(1, 3, 4, 5, requires_grad=True)
    features = classify.map(x)[0].flatten(1)
    used = {int(place) for values in features for place in values.nonzero() if values.max() > 0}
    largest = {int(values.argmax()) for values in features if values.max() > 0}
    (grad,) = torch.autograd.grad(classify(x).square().sum(), x)
    touched = {int(place) for place in grad[0].abs().sum(0).flatten().nonzero()}
    assert touched <= largest < used
    assert touched


@torch.no_grad()
def looped(attention: StackedAttention, x: Tensor, query: Tensor) -> Tensor:
    """Yang et al. 2016, eq. 15 to 19, one image and one position at a time."""
    answers = []
    for image, start in zip(x, query, strict=True):
        u = start
        features = [image[:, row, column] for row, column in positions(image)]
        for value, project, score in zip(
            attention.value, attention.query, attention.score, strict=True
        ):
            logits = [
                float(
                    score.weight.flatten()
                    @ torch.tanh(value.weight[:, :, 0, 0] @ v + value.bias + project.weight @ u)
                    + score.bias
                )
                for v in features
            ]
            exponents = [math.exp(logit - max(logits)) for logit in logits]
            shares = [each / sum(exponents) for each in exponents]
            u = u + torch.stack([p * v for p, v in zip(shares, features, strict=True)]).sum(0)
        answers.append(u)
    return torch.stack(answers)


def positions(image: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row in range(image.shape[1]) for column in range(image.shape[2])]


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_attention_equals_a_loop_over_positions(rounds: int) -> None:
    attention = StackedAttention(4, 6, rounds).double()
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64)
    query = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(attention(x, query), looped(attention, x, query), rtol=0, atol=1e-12)


def test_without_rounds_the_query_is_unchanged() -> None:
    query = torch.randn(2, 4)
    assert torch.equal(StackedAttention(4, 6, 0)(torch.randn(2, 4, 3, 3), query), query)


def test_permuting_positions_does_not_matter() -> None:
    attention = StackedAttention(4, 6).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    query = torch.randn(2, 4, dtype=torch.float64)
    moved = x.flatten(2)[:, :, torch.randperm(15)].view_as(x)
    torch.testing.assert_close(attention(moved, query), attention(x, query))


def test_every_parameter_has_a_gradient() -> None:
    attention = StackedAttention(4, 6).double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    attention(x, torch.randn(2, 4, dtype=torch.float64)).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        # A bias that is the same at all positions cancels in the softmax.
        assert (name.startswith("score") and name.endswith("bias")) or parameter.grad.any(), name
