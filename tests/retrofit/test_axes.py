"""The feature axis: of modules that determine it, and of modules that propagate it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.core import LayoutError, ShapeError
from featurewise.generators import Linear
from featurewise.retrofit import condition, select
from featurewise.retrofit.module_features import Features, features_of

from .state import changed, state
from .test_snapshot import llama

# --- norms of every kind -------------------------------------------------------------------------


class Norm2dOfTimm(nn.LayerNorm):
    """Channels first, by a permutation."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class NormOfConvNext(nn.LayerNorm):
    """Channels first by its own formula, or channels last."""

    def __init__(self, width: int, first: bool) -> None:
        super().__init__(width)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            return super().forward(x)
        u = x.mean(1, keepdim=True)
        x = (x - u) / ((x - u).pow(2).mean(1, keepdim=True) + self.eps).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class NormByRank(nn.LayerNorm):
    """Channels first for images, last for tokens."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return super().forward(x)


class RMSNorm(nn.Module):
    """Norm of language models: in single precision, ``weight`` or ``1 + weight``."""

    def __init__(self, width: int, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width) if plus_one else torch.ones(width))
        self.plus_one = plus_one

    def forward(self, hidden: Tensor) -> Tensor:
        x = hidden.float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        weight = self.weight.float() + 1 if self.plus_one else self.weight
        return (weight * x).type_as(hidden)


class RMSNorm2d(nn.Module):
    """Channels first, with a learned gain of shape (C, 1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.gain


class FrozenBatchNorm(nn.Module):
    """Norm of detection models: statistics and weights are buffers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, start in (("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("var", 1.0)):
            self.register_buffer(name, torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + 1e-5).rsqrt()
        shift = self.bias - self.mean * scale
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class BatchNormLast(nn.BatchNorm1d):
    """Over tokens (B, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class BatchNormAct(nn.BatchNorm2d):
    """With what comes after it."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


class GroupNorm1(nn.GroupNorm):
    def __init__(self, width: int) -> None:
        super().__init__(1, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class ResponseNorm(nn.Module):
    """Of ConvNeXt V2: over positions, with a scale and a shift of shape (1, 1, 1, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        g = x.norm(p=2, dim=(1, 2), keepdim=True)
        return x + self.bias + self.weight * x * (g / (g.mean(-1, keepdim=True) + 1e-6))


class SwitchNorm(nn.Module):
    """Has weights of submodules in addition to those of the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.parts = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.parts.softmax(0)
        x = one * F.instance_norm(x) + other * F.layer_norm(x, x.shape[1:])
        return x * self.weight + self.bias


class LayerScale(nn.Module):
    def __init__(self, width: int, first: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(1e-5 * torch.ones(width))
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.gamma.view(1, -1, 1, 1) if self.first else self.gamma)


class EitherNorm(nn.Module):
    """Takes features on the last axis or, where that has another size, on axis 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] == len(self.scale):
            return F.rms_norm(x, self.scale.shape, self.scale)
        return self.forward(x.movedim(1, -1)).movedim(-1, 1)


class Linear2d(nn.Linear):
    """A linear map of channels first, of class ``nn.Linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class ConvLast(nn.Conv1d):
    """A convolution over tokens (B, T, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class SamePadding(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (3, 3, 3, 3)), self.weight, self.bias, self.stride)


FIRST: dict[str, Callable[[int], nn.Module]] = {
    "LayerNorm2d of timm": Norm2dOfTimm,
    "LayerNorm2d of timm without weights": lambda c: Norm2dOfTimm(c, elementwise_affine=False),
    "LayerNorm of ConvNeXt, first": lambda c: NormOfConvNext(c, True),
    "RMSNorm2d": RMSNorm2d,
    "FrozenBatchNorm": FrozenBatchNorm,
    "BatchNormAct": BatchNormAct,
    "GroupNorm1": GroupNorm1,
    "SwitchNorm": SwitchNorm,
    "LayerScale, first": lambda c: LayerScale(c, True),
    "PReLU": nn.PReLU,
    "Linear2d": lambda c: Linear2d(4, c),
    "Linear2d without bias": lambda c: Linear2d(4, c, bias=False),
    "SamePadding": lambda c: SamePadding(4, c, 7),
}
LAST: dict[str, Callable[[int], nn.Module]] = {
    "LayerNorm": nn.LayerNorm,
    "LayerNorm of ConvNeXt, last": lambda c: NormOfConvNext(c, False),
    "RMSNorm": RMSNorm,
    "RMSNorm, 1 + weight": lambda c: RMSNorm(c, plus_one=True),
    "BatchNormLast": BatchNormLast,
    "ResponseNorm": ResponseNorm,
    "LayerScale, last": lambda c: LayerScale(c, False),
    "ConvLast": lambda c: ConvLast(4, c, 3),
}


@pytest.mark.parametrize("width", [2, 3, 5, 8])  # sizes that a trial could take for positions
@pytest.mark.parametrize("name", [*FIRST, *LAST])
def test_a_module_determines_its_own_axis(name: str, width: int) -> None:
    module = {**FIRST, **LAST}[name](width)
    before, random = state(module), torch.get_rng_state()
    assert features_of(module, "output") == Features(
        width, 1 if name in FIRST else -1, 0 if name in FIRST else None
    )
    assert changed(before, state(module)) == []
    assert torch.equal(torch.get_rng_state(), random)


def test_a_module_on_the_meta_device_determines_its_axis() -> None:
    with torch.device("meta"):
        norms = [RMSNorm(8), Norm2dOfTimm(8)]
    assert [features_of(norm, "output") for norm in norms] == [Features(8, -1), Features(8, 1, 0)]


@pytest.mark.parametrize("make", [RMSNorm2d, EitherNorm, NormByRank])
def test_an_unknown_axis_is_an_error(make: type[nn.Module]) -> None:
    network = nn.Sequential(make(1 if make is RMSNorm2d else 8))
    with pytest.raises(LayoutError, match=f"'0' is a {make.__name__}.*pass example="):
        condition(network, at="0", generator=Linear(2))


@pytest.mark.parametrize("make", [EitherNorm, NormByRank])
def test_the_example_decides_where_a_module_takes_both(make: type[nn.Module]) -> None:
    network = nn.Sequential(make(8))
    first = torch.randn(2, 8, 5, 5) if make is NormByRank else torch.randn(2, 8, 5)
    for x, axis in ((first, 1), (torch.randn(2, 5, 8), 2), (torch.randn(2, 8, 8), 2)):
        net = condition(network, at="0", generator=Linear(2), example=x)
        assert net.layout["0"].axis % x.ndim == axis and net.layout["0"].width == 8
        net.remove()


@pytest.mark.parametrize("size", [8, 5])  # width equal to the number of features, and not
def test_an_axis_that_contradicts_a_norm_is_refused(size: int) -> None:
    for norm, axis, wrong in (
        (Norm2dOfTimm(8), 1, -1),
        (RMSNorm(8), -1, 1),
        (nn.LayerNorm(8), -1, 1),
    ):
        shape = (2, 8, size, size) if axis == 1 else (2, size, size, 8)
        network, x = nn.Sequential(norm), torch.randn(shape)
        for example in (x, None):
            with pytest.raises(LayoutError, match=f"site '0': axis={wrong} contradicts its"):
                condition(network, at="0", generator=Linear(2), axis=wrong, example=example)
            net = condition(network, at="0", generator=Linear(2), axis=axis, example=example)
            assert net.layout["0"].width == 8
            net.remove()
        net = condition(network, at="0", generator=Linear(2), axis=axis % 4, example=x)
        assert net.layout["0"].width == 8


def test_axes_that_mean_the_same_do_not_contradict() -> None:
    network, x = nn.Sequential(nn.LayerNorm(8), nn.BatchNorm1d(8)), torch.randn(2, 8)
    for axis in (1, -1):
        condition(network, at="*", generator=Linear(2), axis=axis, example=x).remove()
    condition(network, at="1", generator=Linear(2), axis=-1)


# --- features that come from elsewhere -----------------------------------------------------------


class Permute(nn.Module):
    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class ConvNeXt(nn.Module):
    """Like torchvision's: channels-first norms outside, channels-last ones in the blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), Norm2dOfTimm(width))
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            Permute(0, 3, 1, 2),
        )
        self.act = nn.GELU()
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.act(x + self.block(x))
        return self.head(x.mean((2, 3)))


def test_each_site_of_one_call_has_its_own_axis() -> None:
    network, x = ConvNeXt(8), torch.randn(2, 3, 32, 32)  # 8 x 8 positions of 8 features
    net = condition(
        network, at=["stem.*", "block", "block.*", "act"], generator=Linear(2), example=x
    )
    axes = {site.name: site.axis for site in net.layout}
    last = {"block.1", "block.2", "block.3", "block.4", "block.5"}
    assert {name for name, axis in axes.items() if axis == -1} == last
    assert {name for name, axis in axes.items() if axis == 1} == axes.keys() - last
    assert {site.name: site.width for site in net.layout}["block.4"] == 16


class Heads(nn.Module):
    """Attention with norms of queries and keys on each head, and a mix over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 12)
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)
        self.q_norm, self.split, self.merged = RMSNorm(6), nn.Identity(), nn.Identity()
        self.conv, self.drop = nn.Conv1d(12, 12, 3, padding=2), nn.Dropout(0.0)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        q, k, v = self.split(self.qkv(x).unflatten(-1, (3, 2, 6))).unbind(2)
        q = self.q_norm(q)
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        x = x + self.out(self.merged(y.transpose(1, 2).flatten(2)))
        z = self.conv(x.transpose(1, 2))[..., : x.shape[1]]
        return self.drop(z).transpose(1, 2) + x


def test_feature_axes_are_propagated_and_never_guessed() -> None:
    network, ids = Heads(), torch.randint(11, (2, 12))  # as many tokens as features
    net = condition(network, at=["q_norm", "drop", "merged"], generator=Linear(2), example=ids)
    found = {site.name: (site.axis, site.width) for site in net.layout}
    assert found == {"q_norm": (-1, 6), "merged": (-1, 12), "drop": (1, 12)}
    net.remove()
    with pytest.raises(
        LayoutError, match=r"'split' is a Identity with features \(2, 12, 3, 2, 6\)"
    ):
        condition(network, at="split", generator=Linear(2), example=ids)
    net = condition(network, at="split", generator=Linear(2), example=ids, axis=-1)
    assert net.layout["split"].width == 6


class Disagree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 1), nn.Linear(8, 8)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.act(x + self.linear(x))


def test_sources_that_disagree_give_no_axis() -> None:
    with pytest.raises(LayoutError, match=r"'act' is a ReLU.*pass axis="):
        condition(Disagree(), at="act", generator=Linear(2), example=torch.randn(2, 3, 8, 8))


# --- networks of transformers --------------------------------------------------------------------


def test_norms_of_a_language_model_need_no_example() -> None:
    pytest.importorskip("transformers")
    network = llama()
    before = state(network)
    net = condition(network, at=select(network).norms(), generator=Linear(4))
    assert {(site.axis, site.width) for site in net.layout} == {(-1, 16)}
    assert len(net.layout) == 7
    net.remove()
    assert "LlamaRMSNorm    -1     16" in str(select(network).norms())
    assert changed(before, state(network)) == []


@pytest.mark.parametrize("kind", ["Qwen3", "Gemma3"])
def test_norms_of_heads(kind: str) -> None:
    transformers: Any = pytest.importorskip("transformers")
    config = getattr(transformers, {"Qwen3": "Qwen3Config", "Gemma3": "Gemma3TextConfig"}[kind])(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    network = getattr(transformers, f"{kind}ForCausalLM")(config)
    for example in (None, torch.randint(31, (2, 9)), torch.randint(31, (2, 8))):
        net = condition(network, at="**.q_norm", generator=Linear(4), example=example)
        (site,) = net.layout
        assert (site.axis, site.width) == (-1, 8)
        net.remove()


def test_norms_of_convnext() -> None:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    network, x = transformers.ConvNextModel(config).eval(), torch.randn(2, 3, 32, 32)
    for example in (None, x):
        net = condition(network, at=select(network).norms(), generator=Linear(4), example=example)
        axes = {site.name: site.axis for site in net.layout if site.module == "ConvNextLayerNorm"}
        assert {name for name, axis in axes.items() if axis == 1} == {
            n for n in axes if "embeddings" in n or "downsampling" in n
        }
        assert {site.width for site in net.layout} == {8}
        y = copy.deepcopy(net)(x, condition=torch.randn(2, 4)).last_hidden_state
        net.remove()
        assert torch.equal(network(x).last_hidden_state, y)  # the identity


def test_the_width_of_a_norm_is_checked() -> None:
    with pytest.raises(ShapeError, match=r"expected 8 features on axis -1"):
        net = nn.Sequential(nn.Flatten(0, 1), Never())
        condition(net, at="1", generator=Linear(2), example=torch.randn(2, 3, 5))


class Never(RMSNorm):
    """A norm that returns inputs of another size unchanged."""

    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[-1] == 8 else x
