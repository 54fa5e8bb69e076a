"""Sampling one sample after another: each layer has a queue of what it will need.

Naive generation runs the whole stack for each new sample. Here a layer with dilation d
keeps its last d inputs (Paine et al. 2016, "Fast Wavenet generation algorithm"), so that a
sample takes two matrix products in each layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

import featurewise as fw
from featurewise.systems.sound.wavenet.method import ENTRIES, GatedStack, WaveNet
from featurewise.worlds.sound.errors import SoundError
from featurewise.worlds.sound.phones import PHONES
from featurewise.worlds.sound.waves import BLOCK, WaveBatch, in_range


class _QueuedLayer:
    """A gated layer that is given one sample at a time."""

    def __init__(
        self, layer: Any, site: fw.Site | None, like: Float[Tensor, "B C"]
    ) -> None:
        past, now = layer.dilated.weight.unbind(2)
        self.taps, self.bias = torch.cat((past, now), 1), layer.dilated.bias
        self.mix, self.mix_bias = layer.mix.weight[:, :, 0], layer.mix.bias
        self.queue = like.new_zeros(layer.dilated.reach, *like.shape)
        self.site, self.time = site, 0

    def __call__(self, x: Tensor, values: Any) -> tuple[Tensor, Tensor]:
        place = self.time % len(self.queue)  # of the input d samples ago
        y = F.linear(torch.cat((self.queue[place], x), 1), self.taps, self.bias)
        self.queue[place] = x
        self.time += 1
        if self.site is not None:
            y = self.site.modulate(y, values)
        a, b = y.chunk(2, 1)
        residual, skip = F.linear(a.tanh() * b.sigmoid(), self.mix, self.mix_bias).chunk(
            2, 1
        )
        return x + residual, skip


class Queues:
    """The stack as a function of one sample at a time, with the biases of a condition.

    Args:
        network: in eval mode.
        batch: its speakers and phones are the condition; its levels are not used.
    """

    def __init__(self, network: WaveNet, batch: WaveBatch) -> None:
        conditioned: Any = network.stack
        stack: Any = conditioned
        self.layout: fw.Layout | None = None
        if isinstance(conditioned, fw.Conditioned):
            stack, self.layout = conditioned.backbone, conditioned.layout
            self.task = conditioned.represent(network.h(batch)).flat
        self.stack: GatedStack = stack
        weight = self.stack.embed.weight
        start = weight.new_zeros(len(batch.speakers), weight.shape[1])
        sites = (
            [None] * len(self.stack.layers) if self.layout is None else self.layout.sites
        )
        self.layers = [
            _QueuedLayer(layer, site, start)
            for layer, site in zip(self.stack.layers, sites, strict=True)
        ]
        first, last = self.stack.head[1], self.stack.head[3]
        self.head = [(each.weight[:, :, 0], each.bias) for each in (first, last)]
        self.x, self.time = start, 0
        self.values: list[Any] = [None] * len(self.layers)

    def logits(self) -> Float[Tensor, "B K"]:
        """Of the next sample; call once for each."""
        if self.layout is not None and self.time % BLOCK == 0:
            values = self.layout.split(self.task[:, :, self.time // BLOCK])
            self.values = [values[site.name] for site in self.layout.sites]
        self.time += 1
        x, total = self.x, torch.zeros_like(self.x)
        for layer, values in zip(self.layers, self.values, strict=True):
            x, skip = layer(x, values)
            total = total + skip
        for weight, bias in self.head:
            total = F.linear(total.relu(), weight, bias)
        return total

    def append(self, levels: Int64[Tensor, " B"]) -> None:
        """What the next sample has become."""
        self.x = self.stack.embed(levels)


def choose(
    logits: Float[Tensor, "B K"], uniform: Float[Tensor, " B"]
) -> Int64[Tensor, " B"]:
    """The level at which the cumulative probability passes a number between 0 and 1.

    Raises:
        SoundError: there is not one number from 0 to 1 for each row.
    """
    if logits.ndim != 2 or uniform.shape != logits.shape[:1]:
        raise SoundError(
            f"logits (B, K) and uniform (B,) are needed, got {tuple(logits.shape)} and "
            f"{tuple(uniform.shape)}"
        )
    require_uniform(uniform)
    return _chosen(logits, uniform)


def require_uniform(uniform: Tensor) -> None:
    """Raise unless all numbers are from 0 to 1."""
    if not bool(((uniform >= 0) & (uniform <= 1)).all()):
        raise SoundError("random numbers must be from 0 to 1")


def _chosen(logits: Tensor, uniform: Tensor) -> Tensor:
    steps = logits.double().softmax(1).cumsum(1)
    return (steps < uniform[:, None]).sum(1).clamp_max(logits.shape[1] - 1)


@torch.no_grad()
def generate(
    network: WaveNet, batch: WaveBatch, uniform: Float[Tensor, "B T"]
) -> Int64[Tensor, "B T"]:
    """Clips under the speakers and phones of a batch, from nothing.

    Args:
        network: in eval mode.
        batch: its speakers and phones are the condition, a phone for each block of samples.
        uniform: random numbers between 0 and 1, one for each sample.

    Returns:
        Levels.

    Raises:
        SoundError: the batch has no such speakers or phones, or other numbers of clips or of blocks
            than the random numbers.
    """
    _check(batch, uniform)
    queues, found = Queues(network, batch), torch.empty_like(uniform, dtype=torch.int64)
    for t in range(uniform.shape[1]):
        found[:, t] = _chosen(queues.logits(), uniform[:, t])
        queues.append(found[:, t])
    return found


@torch.no_grad()
def generate_slowly(
    network: WaveNet, batch: WaveBatch, uniform: Float[Tensor, "B T"]
) -> Int64[Tensor, "B T"]:
    """The same by the whole network for each sample, which takes quadratic time."""
    _check(batch, uniform)
    found = torch.zeros_like(uniform, dtype=torch.int64)
    for t in range(uniform.shape[1]):
        found[:, t] = _chosen(
            network(replace(batch, levels=found))[:, :, t], uniform[:, t]
        )
    return found


def _check(batch: WaveBatch, uniform: Tensor) -> None:
    """Raise unless each clip has a known speaker, and a known phone for each block."""
    speakers, phones = batch.speakers, batch.phones
    if phones.ndim != 2 or speakers.shape != phones.shape[:1]:
        raise SoundError(
            "speakers (B,) and phones (B, F) are needed, got "
            f"{tuple(speakers.shape)} and {tuple(phones.shape)}"
        )
    if not in_range(speakers, ENTRIES) or not in_range(phones, len(PHONES)):
        raise SoundError(
            f"speakers are 0 to {ENTRIES - 1}, phones 0 to {len(PHONES) - 1}"
        )
    clips, blocks = phones.shape
    if uniform.ndim != 2 or len(uniform) != clips or uniform.shape[1] > blocks * BLOCK:
        raise SoundError(
            f"uniform must be ({clips}, T) with T at most {blocks * BLOCK}, {BLOCK} for "
            f"each of {blocks} phones; got {tuple(uniform.shape)}"
        )
    require_uniform(uniform)
