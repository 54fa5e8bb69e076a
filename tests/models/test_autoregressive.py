"""Causal convolutions and the gated PixelCNN: against masks and loops, and receptive fields."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import featurewise as fw
from featurewise.generators import GeneratorError
from featurewise.models.autoregressive import (
    CausalConv2d,
    GatedLayer,
    GatedPixelCNN,
    GatedUnit,
    sample_pixels,
)

STACKS = ("vertical", "horizontal")


def masked(layer: CausalConv2d, size: int, stack: str, strict: bool) -> Tensor:
    """The k×k kernel with zeros where the mask A or B has them, tap by tap."""
    middle = size // 2
    whole = torch.zeros(*layer.weight.shape[:2], size, size, dtype=layer.weight.dtype)
    for row in range(size):
        for column in range(size):
            if stack == "vertical":
                seen = row < middle or (row == middle and not strict)
                tap = (row, column)
            else:
                seen = row == middle and (column < middle or (column == middle and not strict))
                tap = (0, column)
            if seen:
                whole[:, :, row, column] = layer.weight[:, :, tap[0], tap[1]]
    return whole


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_causal_convolution_is_the_masked_one(stack: str, strict: bool, size: int) -> None:
    layer = CausalConv2d(2, 3, size, stack, strict).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    kernel = masked(layer, size, stack, strict)
    expected = F.conv2d(x, kernel, layer.bias, padding=size // 2)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "stack", "error"), [(4, "vertical", "odd"), (1, "vertical", "3"), (3, "both", "stack")]
)
def test_invalid_convolutions_raise(size: int, stack: str, error: str) -> None:
    with pytest.raises(GeneratorError, match=error):
        CausalConv2d(1, 1, size, stack)


def test_gated_unit_is_its_formula_with_the_bias_inside() -> None:
    unit = fw.condition(GatedUnit(2), at="shift", operation=fw.Shift(), generator=fw.Linear(3))
    unit.double()
    torch.nn.init.normal_(unit.generator.head.weight)
    x, h = torch.randn(2, 4, 3, 3).double(), torch.randn(2, 3).double()
    found = unit(x, condition=h)
    weight = unit.generator.head.weight
    for n in range(2):
        for c in range(2):
            signal = x[n, c] + (weight[c] * h[n]).sum()
            gate = x[n, 2 + c] + (weight[2 + c] * h[n]).sum()
            expected = torch.tanh(signal) / (1 + torch.exp(-gate))
            torch.testing.assert_close(found[n, c], expected)


@pytest.mark.parametrize("first", [True, False])
def test_layer_equals_figure_2(first: bool) -> None:
    layer = GatedLayer(3, 3, first=first).double()
    v, h = (torch.randn(2, 3, 4, 4, dtype=torch.float64) for _ in range(2))
    rows = F.conv2d(v, masked(layer.vertical, 3, "vertical", first), layer.vertical.bias, padding=1)
    own = F.conv2d(
        h, masked(layer.horizontal, 3, "horizontal", first), layer.horizontal.bias, padding=1
    )
    own = own + torch.einsum("dc,nchw->ndhw", layer.across.weight[:, :, 0, 0], rows)
    gated = torch.tanh(own[:, :3]) * torch.sigmoid(own[:, 3:])
    mixed = torch.einsum("dc,nchw->ndhw", layer.mix.weight[:, :, 0, 0], gated)
    mixed = mixed + layer.mix.bias[:, None, None]
    across, vertical = layer.above(v)
    horizontal = layer.along(h, across)
    torch.testing.assert_close(vertical, torch.tanh(rows[:, :3]) * torch.sigmoid(rows[:, 3:]))
    torch.testing.assert_close(horizontal, mixed if first else h + mixed)


def test_every_pixel_depends_on_exactly_the_pixels_before_it() -> None:
    torch.manual_seed(0)
    network = GatedPixelCNN(6, 5, size=3, first_size=5).double()
    height, width = 4, 5
    x = torch.randn(1, 1, height, width, dtype=torch.float64)
    seen = torch.autograd.functional.jacobian(network, x).reshape(height * width, height * width)
    for pixel in range(height * width):
        for other in range(height * width):
            assert (seen[pixel, other] != 0) == (other < pixel), (pixel, other)


def test_rows_can_be_computed_one_at_a_time() -> None:
    torch.manual_seed(0)
    network = GatedPixelCNN(4, 3).double()
    x = torch.randn(2, 1, 5, 6, dtype=torch.float64)
    whole = network(x)
    for row in range(5):
        above = [output[:, :, row:] for output in network.above(x[:, :, : row + 1])]
        one = network.along(x[:, :, row : row + 1], above)
        torch.testing.assert_close(one, whole[:, :, row : row + 1], rtol=0, atol=1e-12)


def test_receptive_field_has_no_blind_spot() -> None:
    torch.manual_seed(0)
    network = GatedPixelCNN(6, 3, size=3, first_size=5).double()  # radius 2 + 1 + 1 = 4
    x = torch.randn(1, 1, 7, 11, dtype=torch.float64, requires_grad=True)
    (seen,) = torch.autograd.grad(network(x)[0, 0, 6, 5], x)
    for row in range(7):
        for column in range(11):
            before = row < 6 or column < 5
            near = 6 - row <= 4 and abs(column - 5) <= 4
            assert (seen[0, 0, row, column] != 0) == (before and near), (row, column)


def test_conditioning_starts_as_the_identity_and_has_a_site_in_every_gate() -> None:
    network = GatedPixelCNN(4, 3)
    x = torch.randn(2, 1, 5, 5)
    plain = network(x)
    net = fw.condition(
        network, at="layers.*.*_gate.shift", operation=fw.Shift(), generator=fw.Linear(3)
    )
    assert torch.equal(net(x, condition=torch.randn(2, 3)), plain)
    assert net.layout.names == (
        *("layers.0.vertical_gate.shift", "layers.0.horizontal_gate.shift"),
        *("layers.1.vertical_gate.shift", "layers.1.horizontal_gate.shift"),
        "layers.2.horizontal_gate.shift",
    )


@pytest.mark.parametrize("local", [False, True])
def test_sampling_equals_a_loop_over_pixels(local: bool) -> None:
    torch.manual_seed(0)
    plain = GatedPixelCNN(4, 3).double()
    net = fw.condition(
        plain, at="layers.*.*_gate.shift", operation=fw.Shift(), generator=fw.Linear(3)
    ).double()
    for parameter in net.parameters():  # so that probabilities are far from one half
        torch.nn.init.normal_(parameter)
    condition = torch.randn(6, 3, 4, 5).double() if local else torch.randn(6, 3).double()
    task = net.represent(condition).flat
    like = torch.empty(6, 1, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        found = sample_pixels(
            plain,
            like,
            torch.Generator().manual_seed(3),
            lambda rows: net.using(task=task[:, :, rows] if local else task, partial=True),
        )
        uniform = torch.rand(
            like.shape, generator=torch.Generator().manual_seed(3), dtype=like.dtype
        )
        expected = torch.zeros_like(like)
        for row in range(4):
            for column in range(5):
                logit = net(2 * expected - 1, condition=condition)[:, 0, row, column]
                expected[:, 0, row, column] = (
                    uniform[:, 0, row, column] < 1 / (1 + (-logit).exp())
                ).double()
    assert torch.equal(found, expected)
    assert 0.05 < found.mean() < 0.95


def test_one_layer_raises() -> None:
    with pytest.raises(GeneratorError, match="at least 2 layers"):
        GatedPixelCNN(4, 1)
