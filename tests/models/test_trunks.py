"""Unconditioned networks: each against its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from featurewise.models.trunks import CoordinateConv, PoolingTrunk, coordinates


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


def test_maps_that_are_kept_have_values() -> None:
    size, cpu = (6, 7), torch.device("cpu")
    with FakeTensorMode():
        assert isinstance(coordinates(*size, torch.float32, cpu), FakeTensor)
    found = coordinates(*size, torch.float32, cpu)
    assert not isinstance(found, FakeTensor)
    torch.testing.assert_close(found, maps(1, *size).float())


def test_maps_that_are_kept_can_be_trained_with() -> None:
    layer, x = CoordinateConv(2, 3), torch.randn(1, 2, 7, 6)
    with torch.inference_mode():
        layer(x)
    layer(x).sum().backward()
    assert layer.place.weight.grad is not None


def test_maps_within_a_transform_are_not_kept() -> None:
    layer = CoordinateConv(2, 3)
    many = torch.func.vmap(layer)(torch.randn(4, 1, 2, 8, 6))
    assert many.shape == (4, 1, 3, 8, 6)
    found = coordinates(8, 6, torch.float32, torch.device("cpu"))
    torch.testing.assert_close(found, maps(1, 8, 6).float())
