from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featurewise.core import (
    Affine,
    ArgumentTypeError,
    LayoutError,
    Operation,
    RowColumn,
    ShapeError,
    Site,
)
from featurewise.generators import Linear
from featurewise.layers.film import FiLM
from featurewise.retrofit import condition, select
from featurewise.retrofit.module_features import Features, features_of
from featurewise.retrofit.probe import find_sites

from .state import changed, state

FILM = Affine()


def site_of(
    module: nn.Module,
    example: Any = None,
    *,
    name: str = "0",
    when: str = "output",
    axis: int | None = None,
    operation: Operation = FILM,
) -> Site:
    network = module if name == "" else nn.Sequential(OrderedDict({name: module}))
    (site,) = find_sites(
        network, {name: operation}, when=when, axis=axis, batch_axis=None, example=example
    )
    return site


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("module", "x", "axis", "batch_axis", "width", "taken"),
    [
        (nn.Conv1d(3, 4, 1), torch.randn(2, 3, 5), 1, 0, 4, 3),
        (nn.Conv2d(3, 4, 1), torch.randn(2, 3, 5, 5), 1, 0, 4, 3),
        (nn.ConvTranspose2d(3, 4, 2), torch.randn(2, 3, 5, 5), 1, 0, 4, 3),
        (nn.BatchNorm1d(3), torch.randn(2, 3), 1, 0, 3, 3),
        (nn.BatchNorm2d(3), torch.randn(2, 3, 5, 5), 1, 0, 3, 3),
        (nn.InstanceNorm2d(3), torch.randn(2, 3, 5, 5), 1, 0, 3, 3),
        (nn.GroupNorm(2, 4), torch.randn(2, 4, 5), 1, 0, 4, 4),
        (nn.LayerNorm(6), torch.randn(2, 5, 6), -1, 0, 6, 6),
        (nn.RMSNorm(6), torch.randn(2, 5, 6), -1, 0, 6, 6),
        (nn.Linear(6, 7), torch.randn(2, 5, 6), -1, 0, 7, 6),
        (nn.LSTM(6, 7), torch.randn(5, 2, 6), -1, 1, 7, 6),
        (nn.LSTM(6, 7, proj_size=3), torch.randn(5, 2, 6), -1, 1, 3, 6),
        (nn.GRU(6, 7, bidirectional=True, batch_first=True), torch.randn(2, 5, 6), -1, 0, 14, 6),
        (nn.GRUCell(6, 7), torch.randn(2, 6), -1, 0, 7, 6),
        (nn.LSTMCell(6, 7), torch.randn(2, 6), -1, 0, 7, 6),
        (FiLM(6, axis=-1), torch.randn(2, 5, 6), -1, 0, 6, 6),
        (
            nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
            torch.randn(2, 5, 6),
            -1,
            0,
            6,
            6,
        ),
        (nn.TransformerEncoderLayer(6, 2, 8), torch.randn(5, 2, 6), -1, 1, 6, 6),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_types_give_the_same_site_as_a_dry_run(
    module: nn.Module, x: Tensor, axis: int, batch_axis: int, width: int, taken: int
) -> None:
    for when, expected in (("output", width), ("input", taken)):
        by_type = site_of(module, when=when)
        assert (by_type.width, by_type.axis, by_type.batch_axis) == (expected, axis, batch_axis)
        assert site_of(module, x, when=when) == by_type


def test_embedding_and_attention() -> None:
    assert site_of(nn.Embedding(9, 4), torch.randint(9, (2, 5))).width == 4
    attention = nn.MultiheadAttention(6, 2, batch_first=True)
    x = torch.randn(2, 5, 6)
    site = site_of(attention, (x, x, x), name="")
    assert (site.width, site.axis, site.batch_axis, site.leaf) == (6, -1, 0, 0)
    assert site_of(nn.MultiheadAttention(6, 2)).batch_axis == 1


def test_type_unknown_without_example_says_so() -> None:
    with pytest.raises(LayoutError, match="'0' is a Sequential.*example"):
        site_of(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))


def test_type_unknown_with_example() -> None:
    site = site_of(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.randn(4, 7, 2))
    assert (site.width, site.axis) == (3, -1)
    for shape in ((4, 7, 2), (4, 7, 2, 2)):
        with pytest.raises(LayoutError, match=r"ReLU with features \(4, 7, 2.*pass axis="):
            site_of(nn.ReLU(), torch.randn(shape))
    assert site_of(nn.ReLU(), torch.randn(4, 7, 2), axis=-1).width == 2


def test_layer_norm_over_several_axes_is_not_guessed() -> None:
    with pytest.raises(LayoutError, match="example"):
        site_of(nn.LayerNorm((3, 5, 5)))
    assert site_of(nn.LayerNorm((3, 5, 5)), torch.randn(2, 3, 5, 5)).width == 3


class TimeFirst(nn.Module):
    """Images in; a transformer over (T, B, C) inside, as in CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.norm = nn.LayerNorm(8)
        self.back = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        return self.back(self.norm(tokens).transpose(0, 1))


def test_trap_10_batch_axis_is_seen_in_the_dry_run() -> None:
    sites = find_sites(
        TimeFirst(),
        {"patch": Affine(), "norm": Affine(), "back": Affine()},
        when="output",
        axis=None,
        batch_axis=None,
        example=torch.randn(4, 3, 4, 4),  # as many tokens as samples
    )
    assert [site.batch_axis for site in sites] == [0, 1, 0]


def test_trap_10_batch_axis_of_layers_inside_a_sequence_module() -> None:
    for batch_first in (False, True):
        layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=batch_first)
        for example in (None, torch.randn(5, 5, 6)):
            (site,) = find_sites(
                nn.Sequential(layer),
                {"0.linear1": Affine()},
                when="output",
                axis=None,
                batch_axis=None,
                example=example,
            )
            assert site.batch_axis == (0 if batch_first else 1)


def test_batch_axis_can_be_said(convnet: nn.Module) -> None:
    net = condition(nn.Linear(3, 4), at="", generator=Linear(2), batch_axis=1)
    assert net.layout[""].batch_axis == 1


def test_extent_is_kept_only_where_needed() -> None:
    x = torch.randn(2, 3, 5, 6)
    assert site_of(nn.Conv2d(3, 4, 1), x).extent is None
    assert site_of(nn.Conv2d(3, 4, 1), x, operation=RowColumn()).extent == (5, 6)
    with pytest.raises(ShapeError, match="'0'.*example"):
        site_of(nn.Conv2d(3, 4, 1), operation=RowColumn())
    with pytest.raises(ShapeError, match="site '0', features"):
        site_of(nn.Linear(3, 4), torch.randn(2, 5, 3), operation=RowColumn())


class Bookkeeping(nn.Module):
    """Everything a forward may change: counters, power iterations, dropout, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 1))
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.drop(self.bn(self.conv(x))) + torch.rand(1)


def test_trap_8_probe_has_no_side_effects() -> None:
    network = Bookkeeping()
    before = copy.deepcopy(network.state_dict())
    random, x = torch.get_rng_state(), torch.randn(2, 3, 4, 4)
    random = torch.get_rng_state()
    net = condition(network, at="bn", generator=Linear(2), example=x)
    assert torch.equal(torch.get_rng_state(), random)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not network.bn._forward_pre_hooks and len(network.bn._forward_hooks) == 1
    net.remove()
    assert not network.bn._forward_hooks


class Caching(nn.Module):
    """Caches what it computes, as modules with tables of positions do."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4)
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.ones(x.shape[-1])
            self.register_buffer("late", torch.ones(1))
            self.seen = x
        return self.rnn(x * self.table)[0]


def test_attributes_that_modules_set_in_the_dry_run_are_put_back() -> None:
    network, x = Caching(), torch.randn(5, 2, 3)
    flat = network.rnn._flat_weights
    condition(network, at="rnn", generator=Linear(2), example=x)
    assert network.rnn._flat_weights is flat
    assert all(a is b for a, b in zip(flat, network.rnn.parameters(), strict=True))
    assert network.table is None and not hasattr(network, "seen")
    assert list(network.buffers()) == []
    assert type(network(x)) is Tensor


def test_dry_run_takes_networks_of_any_device_and_of_no_memory() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(3, 100_000), nn.ReLU(), nn.Linear(100_000, 100_000))
    net = condition(network, at="1", generator=Linear(2), example=torch.randn(2, 3))
    assert net.layout["1"].width == 100_000


def test_dry_run_of_tied_weights_and_keyword_example() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.act = nn.Identity()
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, *, tokens: Tensor, scale: float) -> Tensor:
            return self.head(self.act(self.embed(tokens)) * scale)

    example = {"tokens": torch.randint(7, (2, 5)), "scale": 2.0}
    net = condition(Tied(), at="act", generator=Linear(2), example=example, axis=-1)
    assert net.layout["act"].width == 4


def test_a_network_that_does_not_run_says_why() -> None:
    with pytest.raises(LayoutError, match="does not run on the example: RuntimeError"):
        site_of(nn.Linear(3, 4), torch.randn(2, 5))


def test_trap_9_site_that_is_never_run() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + self.idle.forward(x)

    with pytest.raises(LayoutError, match="never called as modules with the example: idle"):
        condition(Idle(), at="idle", generator=Linear(2), example=torch.randn(2, 3))
    layer = nn.TransformerEncoderLayer(6, 2, 8)
    with pytest.raises(LayoutError, match="self_attn.out_proj.*output of 'self_attn'"):
        condition(layer, at="self_attn.out_proj", generator=Linear(2))


def test_what_can_never_be_a_site() -> None:
    network = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(2, 2)]), "lazy": nn.LazyLinear(2)})
    with pytest.raises(LayoutError, match="'blocks' is a ModuleList"):
        condition(network, at="blocks", generator=Linear(2))
    with pytest.raises(ArgumentTypeError, match="'lazy' is lazy"):
        condition(network, at="lazy", generator=Linear(2))
    with pytest.raises(ArgumentTypeError, match="site '0' has no floating-point tensor"):
        site_of(nn.Embedding(3, 4), torch.randint(3, (2,)), when="input")
    with pytest.raises(ShapeError, match="axis=3 is not an axis"):
        site_of(nn.ReLU(), torch.randn(2, 3), axis=3)


def test_the_linear_map_of_gpt2_tells_its_features() -> None:
    transformers = pytest.importorskip("transformers")
    block = transformers.pytorch_utils.Conv1D(12, 4)  # 4 in, 12 out
    assert features_of(block, "output") == Features(12, -1)
    assert features_of(block, "input") == Features(4, -1)


# --- networks with control flow on values ---------------------------------------------------------


class Experts(nn.Module):
    """A mixture of experts, in one of several implementations."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.gate = way, nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)
        weights, chosen = self.gate(rows).softmax(-1).topk(2)
        out = torch.zeros_like(rows)
        for i, expert in enumerate(self.experts):
            mask = (chosen == i).any(-1)
            if self.way == "where":
                row, place = torch.where(chosen == i)
                out.index_add_(0, row, expert(rows[row]) * weights[row, place, None])
            elif self.way == "mask" and mask.any():
                out[mask] += expert(rows[mask])
            elif self.way == "scatter":
                out = out.masked_scatter(mask[:, None], expert(rows[mask]))
        return x + out.view_as(x)


@pytest.mark.parametrize("way", ["where", "mask", "scatter"])
def test_mixtures_of_experts_run_without_values(way: str) -> None:
    network, x = Experts(way), torch.randn(2, 3, 8)
    before = state(network)
    net = condition(network, at="experts.*", generator=Linear(2), example=x)
    assert [(site.axis, site.width) for site in net.layout] == [(-1, 8)] * 3
    net.remove()
    assert changed(before, state(network)) == []


def test_values_that_are_never_known_are_refused() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[: int(x.sum())]

    with pytest.raises(LayoutError, match="does not run on the example: DataDependent"):
        site_of(Counts(), torch.randn(2, 5))


@pytest.mark.parametrize("implementation", ["grouped_mm", "eager"])
def test_mixtral_in_single_precision(implementation: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    network, ids = transformers.MixtralModel(config), torch.randint(31, (2, 5))
    network.set_experts_implementation(implementation)
    branches = select(network).residual_branches(ids)
    assert list(branches) == ["layers.0.self_attn.o_proj", "layers.0.mlp.experts"]
    net = condition(
        network, at=select(network).norms() | branches, generator=Linear(2), example=ids
    )
    assert {site.width for site in net.layout} == {16}
    assert all(site.axis == -1 for site in net.layout if site.name != "layers.0.mlp.experts")
