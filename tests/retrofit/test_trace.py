"""Residual branches and attention outputs found in a dry run, on real and artificial networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.core import LayoutError
from featurewise.retrofit.trace import Trace


def ends(network: nn.Module, example: Any) -> list[str]:
    return sorted(Trace(network, example).residual_ends())


def attention(network: nn.Module, example: Any) -> list[str]:
    return sorted(Trace(network, example).attention_outputs())


# --- handwritten residual networks ----------------------------------------------------------------


class Basic(nn.Module):
    """The basic block of He et al. 2016, with a projection where the shape changes."""

    def __init__(self, old: int, new: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(old, new, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(new)
        self.conv2 = nn.Conv2d(new, new, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(new)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or old != new:
            self.downsample = nn.Sequential(
                nn.Conv2d(old, new, 1, stride, bias=False), nn.BatchNorm2d(new)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += skip
        return self.relu(y)


class Bottleneck(nn.Module):
    """The bottleneck of He et al. 2016; the sum has the skip first and is not in place."""

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, 4, 1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, stride, 1), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, width, 1), nn.BatchNorm2d(width)
        self.shortcut = nn.Conv2d(width, width, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.shortcut(x) + self.bn3(self.conv3(y)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layer1 = nn.Sequential(Basic(8, 8, 1), Basic(8, 8, 1))
        self.layer2 = nn.Sequential(Basic(8, 16, 2), Basic(16, 16, 1))
        self.layer3 = nn.Sequential(Bottleneck(16), Bottleneck(16, 2))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_residual_network(training: bool) -> None:
    net = ResNet().train(training)
    expected = [f"layer{i}.{j}.bn2" for i in (1, 2) for j in (0, 1)]
    assert ends(net, torch.randn(2, 3, 16, 16)) == [*expected, "layer3.0.bn3", "layer3.1.bn3"]
    assert attention(net, torch.randn(2, 3, 16, 16)) == []


def test_nothing_is_changed_by_the_trace() -> None:
    net = ResNet().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    Trace(net, torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_network_that_does_not_run_leaves_no_hooks() -> None:
    net = ResNet()
    with pytest.raises(LayoutError, match="does not run on the example"):
        Trace(net, torch.randn(2, 4, 16, 16))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


# --- residual sums --------------------------------------------------------------------------------


class Two(nn.Module):
    """Maps ``a``, ``b``, ``c`` and a norm; ``run`` combines them."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4, elementwise_affine=False)
        self.drop = nn.Dropout(0.5)
        self.act = nn.GELU()
        self.passing = Passing(4, 4)
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Dropout(0.1))
        self.gain = nn.Parameter(torch.ones(4))
        self.table = nn.Embedding(9, 4)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.run(self, x)
        return result


def plus(x: Tensor, y: Tensor) -> Tensor:
    y = y.clone()
    y += x
    return y


def rolled(m: Two, x: Tensor) -> Tensor:
    y = m.a(x.roll(1, 1)).roll(-1, 1)
    return x + y.to(torch.float64).to(x.dtype).reshape(-1, 4).view(x.shape)


def twice(m: Two, x: Tensor) -> Tensor:
    x = x + m.a(x)
    return x + m.a(x)


class Passing(nn.Linear):
    """Has parameters, and returns its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def sum_of_sums(m: Two, x: Tensor) -> Tensor:
    h = m.b(x)
    return x + (h + m.a(h))


def long_skip(m: Two, x: Tensor) -> Tensor:
    h = m.b(x)
    return x + m.c(h + m.a(h))


RUNS: dict[str, tuple[Any, list[str]]] = {
    "plain": (lambda m, x: x + m.a(x), ["a"]),
    "skip last": (lambda m, x: m.a(x) + x, ["a"]),
    "in place": (lambda m, x: plus(x, m.a(x)), ["a"]),
    "weighted sum": (lambda m, x: torch.add(x, m.a(x), alpha=0.5), ["a"]),
    "two maps": (lambda m, x: x + m.b(m.a(x)), ["b"]),
    "the whole of a Sequential is its last map": (lambda m, x: x + m.mlp(x), ["mlp.2"]),
    "dropout": (lambda m, x: x + m.drop(m.a(x)), ["a"]),
    "dropout without a module": (lambda m, x: x + F.dropout(m.a(x), 0.5, True), ["a"]),
    "activation": (lambda m, x: x + m.act(m.a(x)), ["a"]),
    "gated by a parameter": (lambda m, x: x + m.gain * m.a(x), ["a"]),
    "gated by a map": (lambda m, x: x + m.a(x) * m.b(x.mean(1, keepdim=True)).sigmoid(), ["a"]),
    "dropped paths": (
        lambda m, x: x + m.a(x) * x.new_empty(len(x), 1, 1).bernoulli_(0.5) / 0.5,
        ["a"],
    ),
    "a norm without parameters": (lambda m, x: x + m.norm(m.a(x)), ["norm"]),
    "moved, cast and reshaped": (rolled, ["a"]),
    "scaled skip": (lambda m, x: 0.7 * x + 0.7 * m.a(x), ["a"]),
    "projected skip": (lambda m, x: m.a(x) + m.c(m.b(x)), ["c"]),
    "side by side": (lambda m, x: x + m.a(x) + m.b(x), ["a", "b"]),
    "side by side, summed first": (lambda m, x: m.c(m.a(x)) + m.b(x) + x, ["b", "c"]),
    "one module twice": (twice, ["a"]),
    "residual within residual": (long_skip, ["a", "c"]),
    "a residual sum is no module": (sum_of_sums, ["a"]),
    "what lets its input through": (lambda m, x: x + m.passing(m.a(x)), ["a"]),
    # and what is none
    "a sum of equals": (lambda m, x: m.a(x) + m.b(x), []),
    "twice itself": (lambda m, x: m.a(x) + m.a(x), []),
    "a constant": (lambda m, x: m.a(x) + 1 + torch.ones(2, 3, 4), []),
    "a parameter": (lambda m, x: m.a(x) + m.gain.expand(2, 3, 4), []),
    "broadcast": (lambda m, x: m.a(x) + m.b(x.mean(1, keepdim=True)), []),
    "functions of single elements": (lambda m, x: m.a(x) + m.a(x).tanh(), []),
    "no map in the branch": (lambda m, x: (y := m.a(x)) + y.exp() * 0.1, []),
    "concatenated": (lambda m, x: m.a(torch.cat((x, m.b(x)), 1)), []),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("what", RUNS)
def test_sums(what: str, training: bool) -> None:
    run, expected = RUNS[what]
    assert ends(Two(run).train(training), torch.randn(2, 3, 4)) == expected


def test_lookup_tables_are_not_branches_of_their_tokens() -> None:
    # Positions are computed from the tokens, by more steps, as in RoBERTa.
    net = Two(lambda m, ids: m.table(ids) + m.table((ids > 2).cumsum(1)))
    assert ends(net, torch.randint(9, (2, 5))) == []


def test_a_chain_longer_than_the_stack_of_python() -> None:
    def run(m: Two, x: Tensor) -> Tensor:
        y = m.a(x)
        for _ in range(1500):
            y = y * 1.01
        return x + y

    assert ends(Two(run), torch.randn(2, 3, 4)) == ["a"]


def test_many_paths_are_searched_once() -> None:
    def run(m: Two, x: Tensor) -> Tensor:
        y = x.exp()
        for _ in range(60):  # 2 ** 60 paths
            y = y * y.sin()
        return x + y

    assert ends(Two(run), torch.randn(2, 3, 4)) == []


# --- attention -----------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self.qkv, self.out, self.norm = nn.Linear(4, 12), nn.Linear(4, 4), nn.LayerNorm(4)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.run(self, *self.qkv(x).chunk(3, -1))
        return result


def by_hand(m: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = F.dropout(((q @ k.mT) / 2).softmax(-1), 0.1)
    return m.out((weights @ v).transpose(1, 2).contiguous().transpose(1, 2))


ATTENTIONS: dict[str, tuple[Any, list[str]]] = {
    "fused": (lambda m, q, k, v: m.out(F.scaled_dot_product_attention(q, k, v)), ["out"]),
    "by hand": (by_hand, ["out"]),
    "einsum": (
        lambda m, q, k, v: m.out(
            torch.einsum("bij,bjc->bic", torch.einsum("bic,bjc->bij", q, k).softmax(-1), v)
        ),
        ["out"],
    ),
    "normed before it is projected": (
        lambda m, q, k, v: m.out(m.norm(F.scaled_dot_product_attention(q, k, v))),
        ["norm"],
    ),
    "not projected": (lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v) + q, [""]),
    "no softmax": (lambda m, q, k, v: m.out((q @ k.mT) @ v), []),
    "a softmax that weighs nothing": (lambda m, q, k, v: m.out(q.softmax(-1) * v), []),
}


@pytest.mark.parametrize("what", ATTENTIONS)
def test_attentions(what: str) -> None:
    run, expected = ATTENTIONS[what]
    assert attention(Attention(run), torch.randn(2, 3, 4)) == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder(training: bool, batch_first: bool, norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        16, 2, 32, batch_first=batch_first, norm_first=norm_first, dropout=0.1
    )
    net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train(training)
    x = torch.randn(3, 5, 16)
    expected = [f"layers.{i}.self_attn" for i in (0, 1)]
    assert attention(net, x) == expected
    assert ends(net, x) == sorted([*expected, "layers.0.linear2", "layers.1.linear2"])


@pytest.mark.parametrize("training", [True, False])
def test_an_attention_that_projects_itself_is_not_what_follows(training: bool) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.norm = nn.LayerNorm(16)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.attention(x, x, x, need_weights=False)[0])

    assert attention(Normed().train(training), torch.randn(2, 5, 16)) == ["attention"]


def test_transformer_decoder_attends_twice() -> None:
    net = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
    example = (torch.randn(2, 5, 16), torch.randn(2, 4, 16))
    cross = ["decoder.layers.0.multihead_attn", "decoder.layers.0.self_attn"]
    assert attention(net, example) == [*cross, "encoder.layers.0.self_attn"]
    mlps = ["decoder.layers.0.linear2", "encoder.layers.0.linear2"]
    assert ends(net, example) == sorted([*cross, *mlps, "encoder.layers.0.self_attn"])


# --- networks of other packages -------------------------------------------------------------------

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TOKENS = torch.arange(14).reshape(2, 7)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("how", ["sdpa", "eager"])
@pytest.mark.parametrize("model", ["Bert", "Roberta"])
def test_bert(model: str, how: str, training: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{model}Config")(
        **SMALL, intermediate_size=32, vocab_size=50, attn_implementation=how
    )
    net = getattr(transformers, f"{model}Model")(config).train(training)
    outputs = [f"encoder.layer.{i}.attention.output.dense" for i in (0, 1)]
    assert attention(net, TOKENS) == outputs
    mlps = [f"encoder.layer.{i}.output.dense" for i in (0, 1)]
    assert ends(net, TOKENS) == sorted([*outputs, *mlps])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("how", ["sdpa", "eager"])
def test_gpt2(how: str, training: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=16, attn_implementation=how,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    net = transformers.GPT2Model(config).train(training)
    assert attention(net, TOKENS) == ["h.0.attn.c_proj", "h.1.attn.c_proj"]
    assert ends(net, TOKENS) == [f"h.{i}.{part}.c_proj" for i in (0, 1) for part in ("attn", "mlp")]


def test_rotary_embeddings_and_branches_side_by_side() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPTNeoXConfig(**SMALL, intermediate_size=32, vocab_size=50)
    net = transformers.GPTNeoXModel(config)
    outputs = [f"layers.{i}.attention.dense" for i in (0, 1)]
    assert attention(net, TOKENS) == outputs
    assert ends(net, TOKENS) == sorted(
        [*outputs, *(f"layers.{i}.mlp.dense_4h_to_h" for i in (0, 1))]
    )
    config = transformers.LlamaConfig(**SMALL, intermediate_size=32, vocab_size=50)
    net = transformers.LlamaModel(config)
    assert ends(net, TOKENS) == [
        f"layers.{i}.{part}" for i in (0, 1) for part in ("mlp.down_proj", "self_attn.o_proj")
    ]


def test_norms_after_the_branch_and_windows_that_shift() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Gemma2Config(
        **SMALL, num_key_value_heads=2, head_dim=8, intermediate_size=32, vocab_size=50
    )
    net = transformers.Gemma2Model(config)
    assert ends(net, TOKENS) == [
        f"layers.{i}.post_{part}_layernorm" for i in (0, 1) for part in ("attention", "feedforward")
    ]
    assert attention(net, TOKENS) == [f"layers.{i}.self_attn.o_proj" for i in (0, 1)]
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[2], num_heads=[2], window_size=4
    )
    net = transformers.SwinModel(config)
    assert ends(net, torch.randn(1, 3, 16, 16)) == [
        f"encoder.layers.0.blocks.{i}.{part}"
        for i in (0, 1)
        for part in ("attention.o_proj", "mlp.fc2")
    ]


def test_resnet_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], layer_type="bottleneck"
    )
    net = transformers.ResNetModel(config)
    assert ends(net, torch.randn(2, 3, 32, 32)) == [
        f"encoder.stages.{i}.layers.{j}.layer.2.normalization" for i in (0, 1) for j in (0, 1)
    ]


def test_diffusion_unet() -> None:
    diffusers = pytest.importorskip("diffusers")
    net = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    example = {"sample": torch.randn(2, 3, 8, 8), "timestep": torch.tensor([1, 2])}
    blocks = [name for name, m in net.named_modules() if type(m).__name__ == "ResnetBlock2D"]
    heads = [name for name, m in net.named_modules() if type(m).__name__ == "Attention"]
    assert len(blocks) == 8 and len(heads) == 4
    outputs = [f"{name}.to_out.0" for name in heads]
    assert attention(net, example) == sorted(outputs)
    assert ends(net, example) == sorted([*outputs, *(f"{name}.conv2" for name in blocks)])


def test_diffusion_transformer() -> None:
    diffusers = pytest.importorskip("diffusers")
    net = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8,
        norm_num_groups=4, num_embeds_ada_norm=10,
    )  # fmt: skip
    example = {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([1, 2]),
        "class_labels": torch.tensor([1, 2]),
    }
    outputs = [f"transformer_blocks.{i}.attn1.to_out.0" for i in (0, 1)]
    assert attention(net, example) == outputs
    assert ends(net, example) == sorted(
        [*outputs, *(f"transformer_blocks.{i}.ff.net.2" for i in (0, 1))]
    )
