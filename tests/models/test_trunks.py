"""Unconditioned networks: each against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.models.trunks import (
    CoordinateConv,
    PixelStem,
    PooledClassifier,
    PoolingTrunk,
    ResidualBlock,
    ResidualTrunk,
    coordinates,
)


def maps(count: int, height: int, width: int) -> Tensor:
    """Coordinate maps (N, 2, H, W), element by element."""
    both = torch.empty(count, 2, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            both[:, 0, row, column] = -1 + 2 * column / (width - 1)
            both[:, 1, row, column] = -1 + 2 * row / (height - 1)
    return both


def concatenated(layer: CoordinateConv, x: Tensor) -> Tensor:
    """The same layer as one convolution of the concatenated features and maps."""
    weight = torch.cat((layer.project.weight, layer.place.weight), dim=1)
    both = torch.cat((x, maps(len(x), x.shape[2], x.shape[3]).to(x.dtype)), dim=1)
    return F.conv2d(both, weight, layer.project.bias)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 2)])
def test_coordinate_conv_is_concatenation(height: int, width: int) -> None:
    layer = CoordinateConv(3, 7).double()
    x = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), concatenated(layer, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = [x, *layer.parameters()]
    towards = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad(found, weights, towards),
        torch.autograd.grad(expected, weights, towards),
        rtol=0,
        atol=1e-12,
    )


def test_coordinates_run_from_corner_to_corner() -> None:
    found = coordinates(3, 5, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(found, maps(1, 3, 5))
    assert found[0, :, 0, 0].tolist() == [-1, -1]
    assert found[0, :, -1, -1].tolist() == [1, 1]
    assert found[0, :, 0, -1].tolist() == [1, -1]


def test_coordinates_are_cached_by_size_and_dtype() -> None:
    device = torch.device("cpu")
    assert coordinates(2, 3, torch.float32, device).shape == (1, 2, 2, 3)
    assert coordinates(3, 2, torch.float32, device).shape == (1, 2, 3, 2)
    assert coordinates(2, 3, torch.float64, device).dtype == torch.float64
    assert coordinates(2, 3, torch.float32, device).dtype == torch.float32


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


@pytest.mark.parametrize(("blocks", "size", "features"), [(4, 20, 5), (3, 17, 20)])
def test_pooling_trunk(blocks: int, size: int, features: int) -> None:
    trunk = PoolingTrunk(5, blocks, inputs=2).double().eval()
    x = expected = torch.randn(3, 2, size, size, dtype=torch.float64)
    for block in trunk.blocks:
        norm, kernel = block.norm, block.convolve.weight
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        y = F.conv2d(expected, kernel, padding=1)
        mean, std = norm.running_mean, (norm.running_var + norm.eps).sqrt()
        y = ((y - mean[:, None, None]) / std[:, None, None]).clamp(min=0)
        half = y.shape[2] // 2
        expected = torch.stack(
            [
                torch.stack(
                    [
                        y[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((2, 3))
                        for j in range(half)
                    ],
                    dim=2,
                )
                for i in range(half)
            ],
            dim=2,
        )
    assert expected[0].numel() == features
    torch.testing.assert_close(trunk(x), expected.flatten(1))
