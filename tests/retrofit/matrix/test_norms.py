"""Norms of timm, torchvision and others: each on its own axis in one call, and folded exactly."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.retrofit.state import changed, state
from torch import Tensor, nn

from featurewise.core import TaskRepresentation
from featurewise.deploy import bake
from featurewise.generators import Linear
from featurewise.retrofit import condition, select

from . import networks  # declares what torchvision needs to be imported

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Norms:
    """A network, its inputs, and the axis of each class of norms in it, by hand."""

    package: str
    build: Callable[[], nn.Module]
    size: int
    axes: dict[str, int]
    folds: bool = True


def timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return networks.timm(name, **options)


def vision_transformer() -> nn.Module:
    from timm.models import VisionTransformer

    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, qk_norm=True
    )


def convnext_of_torchvision() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)])


def frozen_resnet() -> nn.Module:
    from torchvision.models import resnet18
    from torchvision.ops import FrozenBatchNorm2d

    return resnet18(norm_layer=FrozenBatchNorm2d)


NORMS = {
    # 160 / 4 = 40 positions a side of 40 features
    "convnext_atto": Norms("timm", timm("convnext_atto"), 160, {"LayerNorm2d": 1}),
    "convnextv2_atto": Norms(
        "timm", timm("convnextv2_atto"), 64, {"LayerNorm2d": 1, "GlobalResponseNorm": 1}, False
    ),
    "convnext, channels last": Norms(
        "timm",
        timm("convnext_atto", conv_mlp=False),
        64,
        {"LayerNorm": -1, "LayerNorm2d": 1},
    ),
    "ViT, norms of heads": Norms("timm", vision_transformer, 32, {"LayerNorm": -1}),
    "regnet": Norms("timm", timm("regnety_002"), 64, {"BatchNormAct2d": 1}, False),
    "ConvNeXt of torchvision": Norms(
        "torchvision", convnext_of_torchvision, 64, {"LayerNorm": -1, "LayerNorm2d": 1}
    ),
    "frozen batch norms": Norms("torchvision", frozen_resnet, 64, {"FrozenBatchNorm2d": 1}, False),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_others(name: str) -> None:
    norms = NORMS[name]
    if importlib.util.find_spec(norms.package) is None:
        pytest.skip(f"{norms.package} is not installed")
    network, x = norms.build().eval(), torch.randn(2, 3, norms.size, norms.size)
    before = state(network)
    for example in (None, x):
        net = condition(network, at=select(network).norms(), generator=Linear(2), example=example)
        assert {(site.module, site.axis) for site in net.layout} == set(norms.axes.items())
        check_slices(net, x)
        net.remove()
        assert changed(before, state(network)) == []


def check_slices(net: Any, x: Tensor) -> None:
    """What modulates feature 0 of the first site of each class changes that feature alone."""
    for site in {site.module: site for site in net.layout}.values():
        seen: list[Tensor] = []
        handle = net.backbone.get_submodule(site.name).register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(output.detach())
        )
        task = TaskRepresentation.identity(net.layout)
        with torch.no_grad():
            net(x, task=task)
            task[site.name]["gamma"][0] += 1
            net(x, task=task)
        handle.remove()
        places = (seen[0] != seen[1]).nonzero()[:, site.axis]
        assert len(places) and bool((places == 0).all())


@pytest.mark.parametrize("name", NORMS)
def test_norms_of_others_fold(name: str) -> None:
    norms = NORMS[name]
    if importlib.util.find_spec(norms.package) is None:
        pytest.skip(f"{norms.package} is not installed")
    network = norms.build().eval()
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        network, x = network.to(dtype), torch.randn(2, 3, norms.size, norms.size, dtype=dtype)
        net = condition(network, at=select(network).norms(), generator=Linear(2))
        flat = (net.layout.start() + 0.2 * torch.randn(net.layout.size)).to(dtype)
        plain, report = bake(net, task=flat)
        assert report.folded == norms.folds
        with torch.no_grad():
            expected, found = net(x, task=flat), plain(x)
        assert (found - expected).abs().max() <= limit * expected.abs().max()
        net.remove()
