"""The trained network on sound that arrives block by block, as in a plug-in."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from featurewise.systems.sound.audio_effect.method import EffectNetwork
from featurewise.worlds.sound.recordings import RATE


class Live:
    """An effect that remembers the sound before a block.

    Blocks one after the other give the same samples as the whole sound at once, for every way of
    reading knobs but their mean, which is that of each block here.

    Args:
        network: in eval mode.
    """

    def __init__(self, network: EffectNetwork) -> None:
        self.network = network
        self._past: list[Tensor] | None = None

    @torch.inference_mode()
    def process(
        self, dry: Float[Tensor, " T"], knobs: Sequence[float]
    ) -> Float[Tensor, " T"]:
        """The next samples after the effect.

        Args:
            dry: the next samples before it; their number may change from call to call.
            knobs: positions from 0 to 1, for all these samples.
        """
        given = torch.tensor(knobs, dtype=dry.dtype).view(1, -1, 1)
        wet, self._past = self.network.process(dry.unsqueeze(0), given, self._past)
        return wet[0]


def latency(
    network: EffectNetwork, samples: int, repeats: int = 200
) -> tuple[float, float]:
    """Time of a block on one core.

    Args:
        network: in eval mode.
        samples: of a block.
        repeats: number of blocks, after ten that are not measured.

    Returns:
        Median and 99th percentile of the seconds that a block takes, over that in which its samples
        arrive; below 1 the network is fast enough for live use.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        live, found = Live(network), []
        for number in range(repeats + 10):
            dry = torch.randn(samples, generator=torch.Generator().manual_seed(number))
            before = time.perf_counter()
            live.process(dry, (0.3, 0.7))
            found.append((time.perf_counter() - before) * RATE / samples)
    finally:
        torch.set_num_threads(threads)
    times = torch.tensor(found[10:], dtype=torch.float64)
    return float(times.median()), float(times.quantile(0.99))
