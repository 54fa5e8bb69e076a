"""The U-Net and its parts against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featurewise as fw
from featurewise.generators import GeneratorError
from featurewise.models.unet import DiffusionBlock, Sinusoidal, TimeAndClass, UNet, Upsample


def randomised(network: nn.Module) -> nn.Module:
    """The network in float64, with random weights, none of them zero."""
    for parameter in network.double().parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def group_norm(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """The norm, group by group."""
    groups = []
    for part in x.chunk(norm.num_groups, dim=1):
        mean = part.mean((1, 2, 3), keepdim=True)
        variance = ((part - mean) ** 2).mean((1, 2, 3), keepdim=True)
        groups.append((part - mean) / (variance + norm.eps).sqrt())
    shape = (1, -1, 1, 1)
    return torch.cat(groups, 1) * norm.weight.reshape(shape) + norm.bias.reshape(shape)


def test_sinusoidal_is_its_formula() -> None:
    found = Sinusoidal(6)(torch.tensor([0, 7, 999]))
    assert found.dtype == torch.float32
    for row, t in enumerate((0, 7, 999)):
        for k in range(3):
            angle = t / 10_000 ** (k / 3)
            assert found[row, k].item() == pytest.approx(math.sin(angle), abs=1e-4)
            assert found[row, 3 + k].item() == pytest.approx(math.cos(angle), abs=1e-4)


def test_sinusoidal_keeps_the_dtype_and_distinguishes_all_times() -> None:
    assert Sinusoidal(4)(torch.rand(3).double()).dtype == torch.float64
    features = Sinusoidal(16)(torch.arange(1000).double())
    assert torch.pdist(features).min() > 0.01


def test_sinusoidal_of_an_odd_width_raises() -> None:
    with pytest.raises(GeneratorError, match="even"):
        Sinusoidal(5)


def test_time_and_class_are_summed_before_the_activation() -> None:
    encoder = TimeAndClass(4, 3).double()
    times, classes = torch.tensor([0.5, 7.0, 2.0]).double(), torch.tensor([2, 0, 2])
    found = encoder((times, classes))
    first, second = encoder.time[0], encoder.time[2]
    for n in range(3):
        waves = Sinusoidal(4)(times[n : n + 1])[0]
        hidden = first.weight @ waves + first.bias
        time = second.weight @ (hidden / (1 + (-hidden).exp())) + second.bias
        total = time + encoder.table.weight[classes[n]]
        torch.testing.assert_close(found[n], total / (1 + (-total).exp()))


@pytest.mark.parametrize(("inside", "outside"), [(4, 4), (4, 6)])
def test_block_is_its_formula_with_scale_and_shift_after_the_second_norm(
    inside: int, outside: int
) -> None:
    plain = randomised(DiffusionBlock(inside, outside, groups=2))
    block = fw.condition(
        plain, at="second_norm", operation=fw.Affine(), generator=fw.Linear(3)
    ).double()
    nn.init.normal_(block.generator.head.weight)
    x = torch.randn(2, inside, 4, 4, dtype=torch.float64)
    z = torch.randn(2, 3, dtype=torch.float64)
    made = z @ block.generator.head.weight.T
    s, b = made[:, :outside, None, None], made[:, outside:, None, None]
    h = F.conv2d(
        F.silu(group_norm(x, plain.first_norm)), plain.first.weight, plain.first.bias, padding=1
    )
    h = F.silu(group_norm(h, plain.second_norm) * (1 + s) + b)
    h = F.conv2d(h, plain.second.weight, plain.second.bias, padding=1)
    skipped = x if inside == outside else F.conv2d(x, plain.skip.weight, plain.skip.bias)
    torch.testing.assert_close(block(x, condition=z), skipped + h)


def test_block_starts_as_its_skip_and_the_network_at_zero() -> None:
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(DiffusionBlock(4, 4, groups=2)(x), x)
    assert not UNet(4, (4, 8), groups=2)(x).any()


def test_unet_equals_its_layers_in_order() -> None:
    net = randomised(UNet(1, (4, 8), blocks=2, groups=2))
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    a = net.stem(x)
    b = net.down[0](a)
    c = net.down[1](b)
    d = net.down[2](c)
    assert d.shape == (2, 4, 4, 4)
    e = net.down[3](d)
    f = net.down[4](e)
    assert f.shape == (2, 8, 4, 4)
    h = net.middle(f)
    h = net.up[0](torch.cat((h, f), 1))
    h = net.up[1](torch.cat((h, e), 1))
    h = net.up[2](torch.cat((h, d), 1))
    assert isinstance(net.up[3], Upsample)
    h = net.up[3](h)
    h = net.up[4](torch.cat((h, c), 1))
    h = net.up[5](torch.cat((h, b), 1))
    h = net.up[6](torch.cat((h, a), 1))
    expected = net.output(F.silu(net.norm(h)))
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)
    assert len(net.down) == 5
    assert len(net.up) == 7


def test_upsampling_repeats_pixels_then_convolves() -> None:
    layer = Upsample(2)
    x = torch.randn(1, 2, 3, 3)
    larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(layer(x), layer.convolve(larger))


def test_every_level_reaches_the_output() -> None:
    net = randomised(UNet(1, (4, 4, 8), groups=2))
    net(torch.randn(1, 1, 8, 8, dtype=torch.float64)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("widths", "blocks", "error"), [((), 1, "level"), ((8,), 0, "blocks")])
def test_invalid_sizes_raise(widths: tuple[int, ...], blocks: int, error: str) -> None:
    with pytest.raises(GeneratorError, match=error):
        UNet(1, widths, blocks)
