"""The columns of the first table: small networks of every kind, and where each is conditioned.

``places`` says by hand what ``condition`` has to find out: width, feature axis and sample axis of
each site, in the order of ``named_modules``. The truth of every cell is made from it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featurewise.training.hardware import computes_bfloat16

Inputs = dict[str, Any]
Run = Callable[..., Any]  # runs a block on arguments: plainly, or checkpointed


def _schemas() -> torch.library.Library | None:
    """What torchvision, when built for CUDA, asks of a torch built without, to be imported."""
    if importlib.util.find_spec("torchvision") is None or torch.version.cuda is not None:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


_SCHEMAS = _schemas()  # they hold for as long as this does


def skip_lstm_in_bfloat16(network: Network) -> None:
    """Skips where torch has no LSTM in bfloat16, as on a processor with AVX2 alone."""
    if network.name == "LSTM" and not computes_bfloat16("cpu"):
        pytest.skip("torch runs no LSTM in bfloat16 on this processor")


@dataclass(frozen=True)
class Place:
    """A site as a person would describe it."""

    name: str
    width: int
    axis: int
    batch_axis: int = 0
    pick: int | None = None  # which of several outputs


@dataclass(frozen=True)
class Network:
    """One column.

    Attributes:
        name: heading.
        build: a new network with random weights.
        inputs: number of samples -> keyword arguments.
        at: the sites, as ``condition`` takes them.
        places: the same sites, described by hand.
        tensor: the tensor in what the network returns.
        batch_axis: of the inputs and of that tensor.
        axis: feature axis of that tensor.
        blocks: modules that are checkpointed and sharded.
        shards: modules that are sharded, where they are others.
        options: more arguments of ``condition``.
        costly: its traced tests take long.
        package: what it needs.
        cannot: capability -> why the network itself, without conditions, cannot do it.
        labels: number of samples -> labels, from which the network computes its loss.
        prepares: its first run leaves caches or hooks that compilers do not follow.
        rounds: checkpointing lets the network itself choose other kernels, which round otherwise.
        extra: run by ``make matrix`` alone, with the capabilities of the second table.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    at: Any
    places: tuple[Place, ...]
    tensor: Callable[[Any], Tensor] = lambda output: output
    batch_axis: int = 0
    axis: int = -1
    blocks: tuple[str, ...] = ()
    shards: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    costly: bool = False
    package: str | None = None
    cannot: Mapping[str, str] = field(default_factory=dict)
    labels: Callable[[int], Inputs] | None = None
    prepares: bool = False
    rounds: bool = False
    extra: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def here(self) -> bool:
        """Whether its package is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def ready(self) -> nn.Module:
        """A new network, not training; a skip where its package is missing."""
        if not self.here:
            pytest.skip(f"{self.package} is not installed")
        return self.build().eval()

    def row(self, inputs: Inputs, i: int) -> Inputs:
        """Sample ``i`` alone."""
        return {name: value.narrow(self.batch_axis, i, 1) for name, value in inputs.items()}


def images(size: int, channels: int = 3) -> Callable[[int], Inputs]:
    return lambda batch: {"x": torch.randn(batch, channels, size, size)}


def tokens(name: str, length: int = 5) -> Callable[[int], Inputs]:
    return lambda batch: {name: torch.randint(31, (batch, length))}


def next_words(length: int) -> Callable[[int], Inputs]:
    """Labels of a language model. The first is no target; some releases of Trainer count it."""

    def labels(batch: int) -> Inputs:
        words = torch.randint(31, (batch, length))
        words[:, 0] = -100
        return {"labels": words}

    return labels


# --- convolutions --------------------------------------------------------------------------------


class Plain(nn.Module):
    """Convolutions and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, 6, 3, padding=1), nn.Tanh()) for i in (3, 6)
        )
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    """Batch norm with in-place neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.act(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(6) for _ in range(2))
        self.head = nn.Linear(6, 5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Level(nn.Module):
    """Convolution, group norm, activation."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, padding=1)
        self.norm = nn.GroupNorm(2, out)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class UNet(nn.Module):
    """Down, up, and the shortcut between."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle, self.up = Level(3, 4), Level(4, 8), Level(12, 4)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = self.middle(F.avg_pool2d(high, 2))
        low = F.interpolate(low, scale_factor=2.0)
        return self.head(self.up(torch.cat([high, low], 1)))


class Audio(nn.Module):
    """Dilated convolutions over time, with residuals (WaveNet's shape)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 6, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv1d(6, 6, 3, padding=d, dilation=d), nn.Tanh()) for d in (1, 2, 4)
        )
        self.head = nn.Conv1d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


# --- attention -----------------------------------------------------------------------------------


class Block(nn.Module):
    """A transformer block, pre-norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 4, 8))
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Attended(nn.Module):
    """``nn.MultiheadAttention``, samples on axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        attended, _ = self.attention(x, x, x, need_weights=False)
        return x + self.mix(attended)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Attended() for _ in range(2))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=31,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return livened(BertModel(config, add_pooling_layer=False))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=31,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_positions=8,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return livened(GPT2LMHeadModel(config))


def livened(network: nn.Module) -> nn.Module:
    """Weights that differ from the initial ones, small or zero, under which a site may not tell."""
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    return network


def dit() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    network = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=2,
        out_channels=2,
        num_layers=2,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_num_groups=2,
    )
    for block in network.transformer_blocks:  # labels are dropped at random while training
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    return network


def diffusion_unet() -> nn.Module:
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=8,
        in_channels=2,
        out_channels=2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        attention_head_dim=4,
    )


def timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import timm

        network = timm.create_model(name, pretrained=False, num_classes=5, **options)
        with torch.no_grad():  # norms and biases only: wide weights would overflow low precision
            for p in network.parameters():
                if p.ndim == 1:
                    p.add_(torch.randn_like(p), alpha=0.2)
        return network

    return build


# --- recurrence ----------------------------------------------------------------------------------


class Unrolled(nn.Module):
    """A recurrent module over all steps."""

    def __init__(self, kind: type[nn.RNNBase], batch_first: bool) -> None:
        super().__init__()
        self.rnn = kind(6, 7, batch_first=batch_first)
        self.mix = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return torch.tanh(self.mix(y))


class Stepped(nn.Module):
    """A cell, run step by step: the site is passed once a step."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        outputs = []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


class Sequence(nn.Module):
    """Embedding, a recurrent body, a head."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(31, 6)
        self.body = body
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x)))


# --- the table -----------------------------------------------------------------------------------


def each(names: str, count: int, *parts: tuple[str, int, int]) -> tuple[Place, ...]:
    """Places of numbered blocks: ``names.i.part`` for every block and part."""
    return tuple(
        Place(f"{names}.{i}.{part}", width, axis)
        for i in range(count)
        for part, width, axis in parts
    )


NORM = "torch's batch norm on CPU takes no float32 statistics beside bfloat16 weights"

NETWORKS: tuple[Network, ...] = (
    Network(
        "CNN",
        Plain,
        images(4),
        "blocks.*.0",
        each("blocks", 2, ("0", 6, 1)),
        blocks=("blocks.0", "blocks.1"),
    ),
    Network(
        "ResNet, BatchNorm",
        ResNet,
        images(4),
        nn.BatchNorm2d,
        each("blocks", 2, ("bn1", 6, 1), ("bn2", 6, 1)),
        blocks=("blocks.0", "blocks.1"),
        cannot={"FSDP2, mixed precision": NORM},
    ),
    Network(
        "U-Net, GroupNorm",
        UNet,
        images(4),
        "*.norm",
        (Place("down.norm", 4, 1), Place("middle.norm", 8, 1), Place("up.norm", 4, 1)),
        axis=1,
        blocks=("down", "middle", "up"),
    ),
    Network(
        "Vision transformer",
        VisionTransformer,
        images(8),
        ["blocks.*.norm*", "blocks.*.mlp"],
        each("blocks", 2, ("norm1", 8, -1), ("norm2", 8, -1), ("mlp", 8, -1)),
        blocks=("blocks.0", "blocks.1"),
        options={"axis": -1},
    ),
    Network(
        "BERT",
        bert,
        tokens("input_ids"),
        "encoder.layer.*.output.LayerNorm",
        each("encoder.layer", 2, ("output.LayerNorm", 8, -1)),
        tensor=lambda output: output.last_hidden_state,
        blocks=("encoder.layer.0", "encoder.layer.1"),
        package="transformers",
    ),
    Network(
        "GPT-2",
        gpt2,
        tokens("input_ids"),
        "transformer.h.*.mlp",
        each("transformer.h", 2, ("mlp", 8, -1)),
        tensor=lambda output: output.logits,
        blocks=("transformer.h.0", "transformer.h.1"),
        options={"axis": -1},
        package="transformers",
        labels=next_words(5),
    ),
    Network(
        "LSTM",
        lambda: Sequence(Unrolled(nn.LSTM, batch_first=False)),
        lambda batch: {"x": torch.randint(31, (4, batch))},
        ["body.rnn", "body.mix"],
        (Place("body.rnn", 7, 2, 1, 0), Place("body.mix", 7, 2, 1)),
        batch_axis=1,
        blocks=("body",),
        options={"batch_axis": 1},
    ),
    Network(
        "GRU",
        lambda: Sequence(Unrolled(nn.GRU, batch_first=True)),
        tokens("x", 4),
        ["body.rnn", "body.mix"],
        (Place("body.rnn", 7, 2, 0, 0), Place("body.mix", 7, 2)),
        blocks=("body",),
    ),
    Network(
        "LSTM cell",
        lambda: Sequence(Stepped(nn.LSTMCell)),
        tokens("x", 4),
        "body.cell",
        (Place("body.cell", 7, 1, 0, 0),),
        blocks=("body",),
        cannot={"torch.func: vmap": "torch has no batching rule for `lstm_cell`"},
    ),
    Network(
        "GRU cell",
        lambda: Sequence(Stepped(nn.GRUCell)),
        tokens("x", 4),
        "body.cell",
        (Place("body.cell", 7, 1),),
        blocks=("body",),
    ),
    Network(
        "Audio, 1-d",
        Audio,
        lambda batch: {"x": torch.randn(batch, 1, 12)},
        "blocks.*.0",
        each("blocks", 3, ("0", 6, 1)),
        axis=1,
        blocks=("blocks.0", "blocks.1", "blocks.2"),
    ),
    Network(
        "MultiheadAttention",
        Attention,
        lambda batch: {"x": torch.randn(4, batch, 8)},
        "blocks.*.attention",
        tuple(Place(f"blocks.{i}.attention", 8, 2, 1, 0) for i in range(2)),
        batch_axis=1,
        blocks=("blocks.0", "blocks.1"),
    ),
    Network(
        "DiT, diffusers",
        dit,
        lambda batch: {
            "hidden_states": torch.randn(batch, 2, 4, 4),
            "timestep": torch.arange(batch),
            "class_labels": torch.arange(batch) % 10,
        },
        "transformer_blocks.*.ff",
        each("transformer_blocks", 2, ("ff", 8, -1)),
        tensor=lambda output: output.sample,
        axis=1,
        blocks=("transformer_blocks.0", "transformer_blocks.1"),
        shards=("transformer_blocks.1",),  # parts of the first are called from outside of it
        options={"axis": -1},
        costly=True,
        package="diffusers",
    ),
    Network(
        "UNet2DModel, diffusers",
        diffusion_unet,
        lambda batch: {"sample": torch.randn(batch, 2, 8, 8), "timestep": torch.arange(batch)},
        "**.resnets.*.norm2",
        (
            Place("down_blocks.0.resnets.0.norm2", 4, 1),
            Place("down_blocks.1.resnets.0.norm2", 8, 1),
            Place("up_blocks.0.resnets.0.norm2", 8, 1),
            Place("up_blocks.0.resnets.1.norm2", 8, 1),
            Place("up_blocks.1.resnets.0.norm2", 4, 1),
            Place("up_blocks.1.resnets.1.norm2", 4, 1),
            Place("mid_block.resnets.0.norm2", 8, 1),
            Place("mid_block.resnets.1.norm2", 8, 1),
        ),
        tensor=lambda output: output.sample,
        axis=1,
        blocks=("down_blocks.0", "mid_block", "up_blocks.1"),
        costly=True,
        package="diffusers",
        cannot={
            "torch.func: vmap": "the network asks for a memory format, which `vmap` cannot tell",
            "torch.func: jvp": "a view in torch's attention fails in forward mode",
        },
    ),
    Network(
        "ResNet-18, timm",
        timm("resnet18", zero_init_last=False),
        images(32),
        "layer*.*.bn2",
        tuple(Place(f"layer{i}.{j}.bn2", 32 * 2**i, 1) for i in range(1, 5) for j in range(2)),
        blocks=("layer1.0", "layer3.1"),
        costly=True,
        package="timm",
        cannot={"FSDP2, mixed precision": NORM},
    ),
    Network(
        "ViT-tiny, timm",
        timm("vit_tiny_patch16_224", depth=2, img_size=32),
        images(32),
        "blocks.*.norm*",
        each("blocks", 2, ("norm1", 192, -1), ("norm2", 192, -1)),
        blocks=("blocks.0", "blocks.1"),
        costly=True,
        package="timm",
    ),
)

BY_NAME = {network.name: network for network in NETWORKS}
