"""Method of the audio effect: a causal network over time, conditioned on knobs that move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import featurewise as fw
from featurewise.study import system
from featurewise.training.optim import cosine
from featurewise.training.steppers import Metrics, Supervised
from featurewise.worlds.sound.effects import BLOCK, KNOBS, EffectBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(system.Config):
    """One network and its training.

    Attributes:
        knobs: how the network reads the knobs: "frames", FiLM with γ and β of each block of
            samples; "mean", FiLM with γ and β of the mean over the segment; "shift", β of
            each block alone; "input", as further channels of the input; or "none".
        shuffled: whether they are the knobs of another segment.
        wide: whether blocks have `wide_channels` instead of `channels`.
        channels: of each block.
        wide_channels: channels that give a network without γ and β as many parameters.
        kernel: taps of each convolution.
        dilations: of the convolution of each block.
        hidden: hidden layers from the knobs to γ and β.
        length: samples of a segment whose error is counted; those before it warm up.
        learning_rate: of Adam; it falls along a cosine.
        clip: largest norm of the gradient.
        batch_size: segments per batch.
        copies: renderings of each training track, with other movements of the knobs.
        data: "digits" spoken by people, or "made" chords.
    """

    knobs: Literal["frames", "mean", "shift", "input", "none"] = "frames"
    shuffled: bool = False
    wide: bool = False
    channels: int = 16
    wide_channels: int = 23
    kernel: int = 7
    dilations: tuple[int, ...] = (1, 5, 25, 125)
    hidden: tuple[int, ...] = (16, 32, 32)
    length: int = 1024
    learning_rate: float = 1e-2
    clip: float = 1.0
    batch_size: int = 8
    copies: int = 8
    data: Literal["digits", "made"] = "digits"

    @property
    def warmup(self) -> int:
        """Samples before a segment, a multiple of the block, that its first sample depends on."""
        reach = (self.kernel - 1) * sum(self.dilations)
        return -(-reach // BLOCK) * BLOCK


class Block(nn.Module):
    """A causal convolution, modulated, then PReLU; the input is added, scaled by channel.

        y = PReLU(γ * (W *_d x) + β) + s * x

    Args:
        inputs: channels of x.
        channels: of y.
        kernel: taps of W.
        dilation: d.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.convolution = nn.Conv1d(inputs, channels, kernel, dilation=dilation)
        self.activation = nn.PReLU(channels)
        groups = inputs if channels == inputs else 1
        self.residual = nn.Conv1d(inputs, channels, 1, groups=groups, bias=False)

    def forward(
        self, x: Float[Tensor, "B _ T"], past: Float[Tensor, "B _ _"]
    ) -> tuple[Float[Tensor, "B _ T"], Float[Tensor, "B _ _"]]:
        """Outputs, and the end of the input, which is the past of what follows it."""
        whole = torch.cat((past, x), 2)
        y = self.activation(self.convolution(whole)) + self.residual(x)
        return y, whole[:, :, whole.shape[2] - self.reach :]


class TCN(nn.Module):
    """Blocks with growing dilation; a linear map of the last channels gives the sound."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.wide_channels if config.wide else config.channels
        first = 1 + (len(KNOBS) if config.knobs == "input" else 0)
        inputs = [first, *[channels] * (len(config.dilations) - 1)]
        self.blocks = nn.ModuleList(
            Block(width, channels, config.kernel, dilation)
            for width, dilation in zip(inputs, config.dilations, strict=True)
        )
        self.pasts = [
            (width, (config.kernel - 1) * dilation)
            for width, dilation in zip(inputs, config.dilations, strict=True)
        ]
        self.last = nn.Conv1d(channels, 1, 1)

    def silence(self, x: Float[Tensor, "B _ T"]) -> list[Tensor]:
        """The past of each block before a sound begins."""
        return [x.new_zeros(len(x), width, reach) for width, reach in self.pasts]

    def forward(
        self, x: Float[Tensor, "B _ T"], past: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "B T"], list[Tensor]]:
        """Sound after the effect, and the past of what follows."""
        ends = []
        for block, before in zip(self.blocks, past, strict=True):
            x, end = block(x, before)
            ends.append(end)
        return self.last(x)[:, 0].tanh(), ends


class EffectNetwork(nn.Module):
    """The network with its knobs; FiLM of each block of samples comes from one small MLP."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.knobs = config.knobs
        trunk: nn.Module = TCN(config)
        if config.knobs in ("frames", "mean", "shift"):
            trunk = fw.condition(
                trunk,
                at="blocks.*.convolution",
                operation=fw.Shift() if config.knobs == "shift" else fw.Affine(),
                generator=fw.MLP(len(KNOBS), config.hidden),
                resize="nearest",  # γ and β of a block of samples hold for all of them
            )
        self.trunk = trunk

    def forward(self, batch: EffectBatch) -> Float[Tensor, "B T"]:
        """Sound after the effect, from silence before it."""
        return self.process(batch.dry, batch.knobs, None)[0]

    def process(
        self,
        dry: Float[Tensor, "B T"],
        knobs: Float[Tensor, "B 2 F"],
        past: Sequence[Tensor] | None,
    ) -> tuple[Float[Tensor, "B T"], list[Tensor]]:
        """A part of a sound, and the past of the next: parts give what the whole gives.

        Args:
            dry: samples before the effect.
            knobs: for each block of samples, or one position for all of them.
            past: what the part before it returned; None: silence.
        """
        x, given = dry.unsqueeze(1), {}
        if self.knobs == "input":
            held = knobs.repeat_interleave(dry.shape[1] // knobs.shape[2], 2)
            x = torch.cat((x, held), 1)
        elif self.knobs == "mean":
            given = {"condition": knobs.mean(2)}
        elif self.knobs != "none":
            given = {"condition": knobs}
        trunk: Any = self.trunk
        found: tuple[Tensor, list[Tensor]] = trunk(
            x, trunk.silence(x) if past is None else past, **given
        )
        return found


def error_energy(
    output: Float[Tensor, "B T"], wet: Float[Tensor, "B T"], warmup: int
) -> tuple[Tensor, Tensor]:
    """Energy of the error and of the signal, over all samples behind the warm-up."""
    output, wet = output[:, warmup:].float(), wet[:, warmup:]
    return F.mse_loss(output, wet, reduction="sum"), wet.square().sum()


def objective(
    network: nn.Module, batch: EffectBatch, warmup: int
) -> tuple[Tensor, Metrics]:
    """Error-to-signal ratio of the batch."""
    error, signal = error_energy(network(batch), batch.wet, warmup)
    return error / (signal + 1e-3), {}


def stepper(network: nn.Module, config: Config) -> Supervised:
    """Adam, clipped gradients and a cosine schedule."""
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return Supervised(
        network,
        lambda net, batch: objective(net, batch, config.warmup),
        optimizer,
        schedule=cosine(config.steps),
        clip=config.clip,
    )
