"""Built-in conditioning replaced by rows: equal outputs, unchanged originals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from featurewise.core import ArgumentTypeError, LayoutError, Shift
from featurewise.deploy import Bank, Mixture, PrecomputeError, precompute
from featurewise.retrofit import Conditioned

KIND = (ArgumentTypeError, TypeCheckError)


class Block(nn.Module):
    """A block with an adaptive norm: scale, shift and gate come from the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adaptive = nn.Linear(width, 3 * width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        shift, scale, gate = self.adaptive(F.silu(z)).chunk(3, dim=-1)
        y = self.norm(x) * (1 + scale[:, None]) + shift[:, None]
        return x + gate[:, None] * self.linear(y)


class Transformer(nn.Module):
    """Tokens (B, T, C), conditioned on times (B,) and classes (B,)."""

    def __init__(self, width: int = 8, blocks: int = 3) -> None:
        super().__init__()
        self.time = nn.Linear(1, width)
        self.label = nn.Embedding(10, width)
        self.stem = nn.Linear(4, width)
        self.dropout = nn.Dropout(0.5)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> dict[str, Tensor]:
        z = self.time(time[:, None]) + self.label(label)
        x = self.dropout(self.stem(x))
        for block in self.blocks:
            x = block(x, z)
        return {"out": x * self.scale}


def runs(count: int = 6) -> list[dict[str, Tensor]]:
    return [{"time": torch.rand(1), "label": torch.tensor([i % 10])} for i in range(count)]


@pytest.fixture
def network() -> Transformer:
    return Transformer().eval()


def example() -> Tensor:
    return torch.randn(1, 2, 4)


def precomputed(network: nn.Module, todo: list[dict[str, Tensor]], **options: Any) -> Conditioned:
    return precompute(network, "blocks.*.adaptive", todo, example=example(), **options)


# --- equal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("also", [None, ["time", "label"]])
def test_outputs_are_equal_for_every_run(network: Transformer, also: list[str] | None) -> None:
    todo = runs()
    net = precomputed(network, todo, also=also)
    assert isinstance(net.generator, Bank) and len(net.generator) == 6
    x = torch.randn(1, 7, 4)
    for i, run in enumerate(todo):
        expected = network(x, **run)["out"]
        assert torch.equal(net(x, **run, condition=torch.tensor([i]))["out"], expected)
        # The condition itself is no longer read.
        blank = {"time": torch.zeros(1), "label": torch.tensor([0])}
        if also:
            assert torch.equal(net(x, **blank, condition=torch.tensor(i))["out"], expected)


def test_rows_are_the_outputs_bit_for_bit(network: Transformer) -> None:
    todo = runs(3)
    with torch.no_grad():
        network.blocks[0].adaptive.bias[0] = -0.0  # type: ignore[union-attr, operator]
        network.blocks[0].adaptive.weight[0] = 0.0  # type: ignore[union-attr, operator]
    net = precomputed(network, todo)
    seen: list[Tensor] = []
    net.backbone.blocks[0].adaptive.register_forward_hook(  # type: ignore[union-attr, index]
        lambda module, args, output: seen.append(output)
    )
    network.blocks[0].adaptive.register_forward_hook(  # type: ignore[union-attr]
        lambda module, args, output: seen.append(output)
    )
    x = torch.randn(1, 2, 4)
    net(x, **todo[1], condition=torch.tensor([1]))
    network(x, **todo[1])
    ours, theirs = (t.detach().view(torch.int32) for t in seen)
    assert torch.equal(ours, theirs)


def test_a_run_of_many_samples(network: Transformer) -> None:
    batch = {"time": torch.rand(5), "label": torch.arange(5)}
    net = precomputed(network, [batch, batch])
    assert len(net.generator) == 10  # type: ignore[arg-type]
    x = torch.randn(5, 3, 4)
    ids = torch.tensor([0, 1, 2, 3, 4])
    assert torch.equal(net(x, **batch, condition=ids)["out"], network(x, **batch)["out"])
    order = torch.tensor([9, 0, 3])
    mixed = {"time": batch["time"][order % 5], "label": order % 5}
    torch.testing.assert_close(
        net(x[:3], **mixed, condition=order)["out"], network(x[:3], **mixed)["out"]
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_networks_of_other_dtypes(dtype: torch.dtype) -> None:
    network = Transformer().eval().to(dtype)
    todo = [{"time": torch.rand(1, dtype=dtype), "label": torch.tensor([i])} for i in range(3)]
    net = precompute(
        network, "blocks.*.adaptive", todo, example=example().to(dtype), also=["time", "label"]
    )
    x = torch.randn(1, 7, 4, dtype=dtype)
    for i, run in enumerate(todo):
        found = net(x, **run, condition=torch.tensor([i]))["out"]
        assert found.dtype == dtype and torch.equal(found, network(x, **run)["out"])


def test_positional_runs_and_named_examples(network: Transformer) -> None:
    todo = [(run["time"], run["label"]) for run in runs(3)]
    net = precompute(network, "blocks.*.adaptive", todo, example=example())
    named = precompute(network, "blocks.*.adaptive", runs(3), example={"x": example()})
    assert named.layout == net.layout
    x = torch.randn(1, 3, 4)
    assert torch.equal(
        net(x, *todo[2], condition=torch.tensor([2]))["out"], network(x, *todo[2])["out"]
    )


def test_outputs_with_axes_of_size_one() -> None:
    class ImageNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.shift = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (4, 1, 1)))
            self.scale = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (1, 6)))

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return (self.conv(x) + self.shift(z)) * self.scale(z)[:, :, None, :]

    network = ImageNetwork()
    todo = [{"z": torch.randn(1, 2)} for _ in range(3)]
    net = precompute(network, ["shift", "scale"], todo, example=torch.randn(1, 3, 8, 8))
    assert [(s.width, s.axis) for s in net.layout] == [(4, 1), (6, 2)]
    x = torch.randn(1, 3, 8, 8)
    for i, run in enumerate(todo):
        assert torch.equal(net(x, **run, condition=torch.tensor([i])), network(x, **run))


def test_a_module_used_twice_and_under_two_names(network: Transformer) -> None:
    network.blocks[2].adaptive = network.blocks[0].adaptive  # type: ignore[union-attr]
    todo = runs(3)
    net = precomputed(network, todo)
    assert len(net.layout) == 2
    x = torch.randn(1, 3, 4)
    found = net(x, **todo[1], condition=torch.tensor([1]))["out"]
    assert torch.equal(found, network(x, **todo[1])["out"])


# --- the copy ------------------------------------------------------------------------------------


def test_the_original_is_untouched_and_not_run() -> None:
    network = Transformer().train()
    network.blocks[1].eval()
    ran: list[int] = []

    def count(module: nn.Module, args: Any, output: Any) -> None:
        if module is network:
            ran.append(1)

    network.register_forward_hook(count)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modules = dict(network.named_modules())
    modes = {name: module.training for name, module in modules.items()}
    x, todo = example(), runs(2)
    random = torch.get_rng_state()
    net = precompute(network, "blocks.*.adaptive", todo, example=x)
    assert torch.equal(torch.get_rng_state(), random)
    assert not ran
    assert dict(network.named_modules()) == modules
    assert {name: module.training for name, module in modules.items()} == modes
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert not any(m._forward_hooks for name, m in modules.items() if name)
    for name, module in net.backbone.named_modules():
        assert module.training == modes[name]


def test_all_other_tensors_are_shared(network: Transformer) -> None:
    net = precomputed(network, runs(2), also=["time", "label"])
    theirs = dict(network.named_parameters())
    ours = dict(net.backbone.named_parameters())
    assert set(theirs) - set(ours) == {
        name for name in theirs if "adaptive" in name or name.split(".")[0] in ("time", "label")
    }
    assert all(parameter is theirs[name] for name, parameter in ours.items())
    assert net.backbone.scale is network.scale
    saved = sum(p.numel() for n, p in theirs.items() if n not in ours)
    assert net.generator.report().replaces == 4 * saved  # type: ignore[operator, union-attr]


def test_a_bank_from_precompute_is_a_normal_bank(network: Transformer, tmp_path: Path) -> None:
    todo = runs(4)
    net = precomputed(network, todo, ids=["a", "b", "c", "d"], path=tmp_path / "rows")
    assert all(site.operation == Shift() for site in net.layout)
    x = torch.randn(1, 3, 4)
    one = net(x, **todo[2], condition="c")["out"]
    assert torch.equal(one, network(x, **todo[2])["out"])
    mixed = net(x, **todo[2], condition=Mixture(torch.tensor([0, 2]), torch.tensor([0.0, 1.0])))
    assert torch.equal(mixed["out"], one)
    again = Bank.load(tmp_path / "rows", net.layout)
    assert torch.equal(again(["c"]), net.generator(["c"]))
    half = precomputed(network, todo, dtype=torch.bfloat16)
    assert half.generator.report().error > 0  # type: ignore[operator, union-attr]
    torch.testing.assert_close(
        half(x, **todo[2], condition=torch.tensor(2))["out"], one, rtol=0.05, atol=0.05
    )


def test_gradients_of_the_rest_are_those_of_the_original(network: Transformer) -> None:
    todo = runs(2)
    net = precomputed(network, todo)
    x = torch.randn(1, 3, 4)
    network(x, **todo[0])["out"].square().sum().backward()
    expected = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    net(x, **todo[0], condition=torch.tensor([0]))["out"].square().sum().backward()
    for name, parameter in net.backbone.named_parameters():
        if name.split(".")[0] not in ("time", "label"):
            assert torch.equal(parameter.grad, expected[name])  # type: ignore[arg-type]


@pytest.mark.traced
def test_compiled(network: Transformer) -> None:
    todo = runs(5)
    net = precomputed(network, todo, also=["time", "label"])
    compiled = torch.compile(net, fullgraph=True)
    x = torch.randn(4, 3, 4)
    run = {"time": torch.zeros(4), "label": torch.zeros(4, dtype=torch.long)}
    compiled(x, **run, condition=torch.tensor([0, 1, 2, 3]))
    with torch.compiler.set_stance("fail_on_recompile"):
        ids = torch.tensor([4, 4, 0, 2])
        torch.testing.assert_close(
            compiled(x, **run, condition=ids)["out"], net(x, **run, condition=ids)["out"]
        )


def test_a_diffusion_transformer() -> None:
    """The DiT of diffusers without projections and embeddings: bit-identical outputs."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=3,
        sample_size=8,
        num_embeds_ada_norm=10,
    ).eval()
    todo = [
        {"timestep": torch.tensor([t]), "class_labels": torch.tensor([c])}
        for t in (999, 500, 0)
        for c in (0, 7)
    ]
    net = precompute(
        dit,
        ["transformer_blocks.*.norm1.linear", "proj_out_1"],
        todo,
        example=torch.randn(1, 4, 8, 8),
        also="transformer_blocks.*.norm1.emb",
    )
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        for i, run in enumerate(todo):
            found = net(x, **run, condition=torch.tensor([i])).sample
            assert torch.equal(found, dit(x, **run).sample)
    assert not any(".emb." in name for name, _ in net.backbone.named_parameters())
    # norm_out is fed by the first embedder, so that proj_out_1 must not be forgotten.
    with pytest.raises(PrecomputeError, match="other modules use the outputs"):
        precompute(
            dit,
            "transformer_blocks.*.norm1.linear",
            todo,
            example=torch.randn(1, 4, 8, 8),
            also="transformer_blocks.*.norm1.emb",
        )


# --- errors ---------------------------------------------------------------------------------------


def test_modules_that_see_the_features(network: Transformer) -> None:
    class Peeking(Transformer):
        def forward(self, x: Tensor, time: Tensor, label: Tensor) -> dict[str, Tensor]:
            return super().forward(x, time + x.mean((1, 2)), label)

    with pytest.raises(PrecomputeError, match=r"'blocks.0.adaptive' depends on more"):
        precomputed(Peeking().eval(), runs(2))


def test_modules_that_see_token_ids() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.map = nn.Linear(4, 4)

        def forward(self, tokens: Tensor, z: Tensor) -> Tensor:
            y = self.embed(tokens)
            return y + self.map(y.mean(1) + z)[:, None]

    for tokens in (torch.tensor([[1, 2, 3]]), torch.tensor([[4, 4, 4]])):
        with pytest.raises(PrecomputeError, match="'map' depends on more"):
            precompute(Bag(), "map", [{"z": torch.randn(1, 4)}], example=tokens.clone())


def test_random_modules(network: Transformer) -> None:
    class Noisy(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + torch.randn(self.out_features)

    network.blocks[1].adaptive = Noisy(8, 24)  # type: ignore[union-attr]
    with pytest.raises(PrecomputeError, match=r"'blocks.1.adaptive'.*random"):
        precomputed(network, runs(2))


def test_an_embedder_that_feeds_something_else(network: Transformer) -> None:
    class Leaky(Transformer):
        def forward(self, x: Tensor, time: Tensor, label: Tensor) -> dict[str, Tensor]:
            return {"out": super().forward(x, time, label)["out"] + self.label(label)[:, None]}

    leaky = Leaky().eval()
    with pytest.raises(PrecomputeError, match="use the outputs of time, label"):
        precomputed(leaky, runs(2), also=["time", "label"])
    precomputed(leaky, runs(2), also="time")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("blocks.0.linear", "depends on more"),
        ("blocks", "never called"),
        (["blocks.0", "blocks.0.adaptive"], "contains other"),
        ("", "the network itself"),
    ],
)
def test_modules_that_cannot_be_rows(network: Transformer, at: Any, message: str) -> None:
    with pytest.raises((PrecomputeError, LayoutError), match=message):
        precompute(network, at, runs(2), example=example())


def test_outputs_with_positions() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Sequential(nn.Linear(3, 6), nn.Unflatten(1, (2, 3)))

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return x[:, None] + self.map(z)

    with pytest.raises(PrecomputeError, match=r"'map' returns \(1, 2, 3\) for a batch of 1"):
        precompute(Wide(), "map", [{"z": torch.randn(1, 3)}], example=torch.randn(1, 3))


def test_a_module_run_twice_with_different_outputs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(3, 3)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return x + self.map(self.map(z))

    with pytest.raises(PrecomputeError, match="several times"):
        precompute(Twice(), "map", [{"z": torch.randn(1, 3)}], example=torch.randn(1, 3))


def test_outputs_that_are_no_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return z, z

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return x + self.pair(z)[0]

    with pytest.raises(PrecomputeError, match="'pair' returns tuple"):
        precompute(Outer(), "pair", [{"z": torch.randn(1, 3)}], example=torch.randn(1, 3))


def test_a_patched_forward(network: Transformer) -> None:
    network.blocks[0].forward = network.blocks[0].forward  # type: ignore[method-assign]
    with pytest.raises(PrecomputeError, match=r"forward of 'blocks.0' \(Block\) is patched"):
        precomputed(network, runs(2))


def test_arguments_that_do_not_fit(network: Transformer) -> None:
    with pytest.raises(PrecomputeError, match="no runs"):
        precomputed(network, [])
    with pytest.raises(KIND):
        precomputed(network, [3])  # type: ignore[list-item]
    with pytest.raises(KIND):
        precompute("network", "a", runs(1), example=example())  # type: ignore[arg-type]
    with pytest.raises(LayoutError):
        precompute(network, "nothing", runs(1), example=example())
    with pytest.raises(PrecomputeError, match="given by the example and by a run: time"):
        precompute(
            network,
            "blocks.*.adaptive",
            runs(1),
            example={"x": example(), "time": torch.zeros(1)},
        )
    with pytest.raises(KIND):
        precomputed(network, runs(1), dtype=torch.int8)


def test_an_example_that_cannot_be_varied() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(3, 3)

        def forward(self, mask: Tensor, z: Tensor) -> Tensor:
            return self.map(z) * mask

    with pytest.raises(PrecomputeError, match="no tensor whose values can be varied"):
        precompute(Masked(), "map", [{"z": torch.randn(1, 3)}], example=torch.tensor([[True]]))


def test_without_the_samples_nothing_is_guessed() -> None:
    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(1, 3)

        def forward(self, x: Tensor, z: Any) -> Tensor:
            return x + self.map(z)

    net = precompute(Free(), "map", [{"z": torch.randn(1, 1)}], example=torch.randn(1, 3))
    with pytest.raises(PrecomputeError, match="batch size is unknown"):
        net(torch.randn(1, 3), z=0.5, condition=torch.tensor([0]))
    assert net(torch.randn(4, 3), z=torch.zeros(4, 1), condition=torch.tensor(0)).shape == (4, 3)


class Signed(nn.Module):
    """Sign of a zero, which equality ignores."""

    def __init__(self) -> None:
        super().__init__()
        self.adaptive = nn.Embedding(2, 3)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return x.sum() * 0 + torch.copysign(torch.ones(()), self.adaptive(label))


def test_the_sign_of_a_zero_is_kept() -> None:
    network = Signed()
    with torch.no_grad():
        network.adaptive.weight.copy_(torch.tensor([[0.0, -0.0, 1.0], [-0.0, 0.0, -1.0]]))
    todo = [{"label": torch.tensor([i])} for i in range(2)]
    net = precompute(network, "adaptive", todo, example=torch.randn(1, 4))
    for i, run in enumerate(todo):
        found = net(torch.randn(1, 4), **run, condition=torch.tensor([i]))
        assert torch.equal(found, network(torch.randn(1, 4), **run))
