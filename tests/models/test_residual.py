"""Residual networks against their formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from featurewise.models.residual import ResidualBlock, ResidualTrunk


def test_a_block_is_its_branch_plus_its_shortcut() -> None:
    for before, after, side in ((4, 4, 6), (4, 8, 3)):
        block = ResidualBlock(before, after, 5).double().eval()
        x = torch.randn(2, before, 6, 6, dtype=torch.float64)
        inner = F.conv2d(x, block.branch[0].weight, stride=6 // side, padding=1)
        end = F.conv2d(block.branch[1](inner).relu(), block.branch[3].weight, padding=1)
        shortcut = x
        if before != after:
            weight = block.shortcut[0].weight[:, :, 0, 0]
            taken = x[:, :, ::2, ::2]
            shortcut = block.shortcut[1](torch.einsum("dc,nchw->ndhw", weight, taken))
        found = block(x)
        torch.testing.assert_close(found, (block.branch[4](end) + shortcut).relu())
        assert found.shape == (2, after, side, side)


def test_a_trunk_gives_the_mean_over_positions() -> None:
    trunk = ResidualTrunk((3, 5, 5), extra=2, inputs=2).eval()
    images = torch.randn(4, 2, 8, 8)
    x = trunk.stem(images)
    for block in trunk.blocks:
        assert block.branch[0].out_channels == block.branch[4].num_features + 2
        x = block(x)
    assert x.shape == (4, 5, 4, 4)
    torch.testing.assert_close(trunk(images), x.flatten(2).sum(2) / 16)
