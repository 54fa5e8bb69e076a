"""Method of the conditional WaveNet: a gated stack, the bias of speaker and phones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

import featurewise as fw
from featurewise.common.ranges import Range
from featurewise.generators import Generator
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.sound.phones import PHONES
from featurewise.worlds.sound.waves import LEVELS, SPEAKERS, WaveBatch

ENTRIES = len(SPEAKERS)
"""Length of the speaker's one-hot vector; there are fewer people than voices."""

START = 0.3
"""Factor of the first weights of the logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        condition: "both" speaker and phones; "local", phones alone; "global", the speaker
            alone; or "none".
        operation: "shift", V h of the paper; or "affine", a scale in front of it as well.
        shuffled: whether speaker and phones are those of another clip.
        people: whether recordings of people take the place of synthetic voices.
        channels: of the stack.
        stacks: how often the dilations repeat.
        dilations: layers with dilation 1, 2, 4, ... of each repetition.
        width: features of the condition, of which V makes biases.
        blocks: blocks of 40 samples, 10 ms, of a training clip.
        batch_size: clips per batch, each of another speaker, where there are so many.
        per_voice: training utterances of each voice.
        learning_rate: of Adam; it falls along a cosine.
        clip: largest norm of the gradient.
        tested: test clips of each speaker.
        tested_blocks: blocks of 10 ms of a test clip, and of a sampled one.
        sampled: clips that are sampled for each speaker.
        data: "voices" of espeak-ng and recordings, or "made" sound.
    """

    condition: Literal["both", "local", "global", "none"] = "both"
    operation: Literal["shift", "affine"] = "shift"
    shuffled: bool = False
    people: bool = False
    channels: int = 24
    stacks: int = 1
    dilations: Annotated[int, Range(1, 16)] = 8
    width: int = 32
    blocks: int = 12
    batch_size: int = 8
    per_voice: int = 40
    learning_rate: float = 2e-2
    clip: float = 1.0
    tested: int = 6
    tested_blocks: int = 50
    sampled: int = 4
    data: Literal["voices", "made"] = "voices"


class CausalConv1d(nn.Conv1d):
    """W * x: two taps, x now and ``dilation`` samples ago; 0 before the beginning."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__(in_channels, out_channels, 2, dilation=dilation)
        self.reach = dilation

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B D T"]:
        """Features of the same samples."""
        return super().forward(F.pad(x, (self.reach, 0)))


class GatedLayer(nn.Module):
    """A layer of figure 4, without a condition.

    a, b = W_f * x, W_g * x            one convolution, `dilated`
    z = tanh(a) * σ(b)                 eq. 2
    x, skip = x + W_x z, W_s z         one map, `mix`
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilated = CausalConv1d(channels, 2 * channels, dilation)
        self.mix = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Float[Tensor, "B C T"]) -> tuple[Tensor, Tensor]:
        """The input of the next layer, and what is added to the output of the stack."""
        a, b = self.dilated(x).chunk(2, 1)
        residual, skip = self.mix(a.tanh() * b.sigmoid()).chunk(2, 1)
        return x + residual, skip


class GatedStack(nn.Module):
    """Logits of each sample given those before it (figure 4); nothing here has a condition.

    Args:
        channels: of all layers.
        dilations: of the layers.
    """

    def __init__(self, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.embed = nn.Embedding(LEVELS, channels)
        self.layers = nn.ModuleList(GatedLayer(channels, each) for each in dilations)
        last = nn.Conv1d(channels, LEVELS, 1)
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(channels, channels, 1), nn.ReLU(), last
        )
        with (
            torch.no_grad()
        ):  # levels are in order, which random weights would have to learn
            self.embed.weight.copy_(cosines(channels))
            last.weight.copy_(START * cosines(channels)[:, :, None])

    def forward(self, levels: Int64[Tensor, "B T"]) -> Float[Tensor, "B K T"]:
        """Logits of the 64 levels of every sample."""
        x = F.pad(self.embed(levels[:, :-1]).movedim(2, 1), (1, 0))  # one sample later
        total = torch.zeros_like(x)
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        logits: Tensor = self.head(total)
        return logits


def cosines(channels: int) -> Float[Tensor, "K C"]:
    """cos(π (l + 1/2) c / 64) of level l in column c from 1: near levels are alike."""
    levels, columns = torch.arange(LEVELS) + 0.5, torch.arange(1, channels + 1)
    return (math.pi * levels[:, None] * columns / LEVELS).cos()


class WaveNet(nn.Module):
    """The stack with a bias: z = tanh(W_f * x + V_f h) σ(W_g * x + V_g h).

    h has the speaker in all blocks of 10 ms (section 2.5, global conditioning) and the phone
    of each (local conditioning), one-hot; a convolution over three blocks makes features of
    it, and V biases of all layers. They hold for all samples of a block.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.condition = config.condition
        dilations = [2**n for n in range(config.dilations)] * config.stacks
        stack: nn.Module = GatedStack(config.channels, dilations)
        if config.condition != "none":
            entries = ENTRIES + len(PHONES)
            encoder = nn.Conv1d(
                entries, config.width, 3, padding=1, padding_mode="replicate"
            )
            stack = fw.condition(
                stack,
                at="layers.*.dilated",
                operation=fw.Shift() if config.operation == "shift" else fw.Affine(),
                generator=Generator(encoder, config.width),
                resize="nearest",
            )
        self.stack = stack

    def h(self, batch: WaveBatch) -> Float[Tensor, "B E F"]:
        """The condition; the part that an arm does not have is 0."""
        speakers = F.one_hot(batch.speakers, ENTRIES)[:, :, None]
        speakers = speakers.expand(-1, -1, batch.phones.shape[1])
        phones = F.one_hot(batch.phones, len(PHONES)).movedim(2, 1)
        if self.condition == "local":
            speakers = torch.zeros_like(speakers)
        if self.condition == "global":
            phones = torch.zeros_like(phones)
        weight = next(self.parameters())
        return torch.cat((speakers, phones), 1).to(weight.dtype)

    def forward(self, batch: WaveBatch) -> Float[Tensor, "B K T"]:
        """Logits of every sample, which depend on the samples before it."""
        given = {} if self.condition == "none" else {"condition": self.h(batch)}
        logits: Tensor = self.stack(batch.levels, **given)
        return logits


def objective(network: nn.Module, batch: WaveBatch) -> tuple[Tensor, Metrics]:
    """Cross-entropy of the samples, in nats."""
    return F.cross_entropy(network(batch).float(), batch.levels), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam, clipped gradients and a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    schedule = cosine(config.steps, warmup=config.steps // 20)
    return Supervised(network, objective, optimizer, schedule=schedule, clip=config.clip)
