"""Time of a generated sample of WaveNet: queues, and the whole network for each sample.

python -m benchmarks.samples
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from featurewise.systems.sound.wavenet import SYSTEM
from featurewise.systems.sound.wavenet.generate import generate, generate_slowly
from featurewise.worlds.sound.waves import BLOCK, WaveBatch, made_waves

BLOCKS = (5, 25)
"""Lengths of the clip, in blocks of 10 ms."""


def milliseconds(function: Callable[..., Tensor], network: Any, codes: WaveBatch) -> float:
    """CPU time of one sample."""
    samples = codes.phones.shape[1] * BLOCK
    uniform = torch.rand(len(codes.phones), samples, generator=torch.Generator().manual_seed(0))
    before = time.process_time()
    function(network, codes, uniform)
    return 1000 * (time.process_time() - before) / samples


def main() -> None:
    """Prints a table, one row for each length of the clip, at preset small."""
    torch.set_num_threads(1)
    print("| samples | queues, ms a sample | whole network, ms a sample | ratio |")
    print("|---|---|---|---|")
    torch.manual_seed(0)
    network: Any = SYSTEM.build(SYSTEM.config("small", "both")).eval()
    for blocks in BLOCKS:
        codes = made_waves("test", 1).crops([0], blocks)
        fast, slow = (milliseconds(each, network, codes) for each in (generate, generate_slowly))
        print(f"| {blocks * BLOCK} | {fast:.2f} | {slow:.2f} | {slow / fast:.1f} |", flush=True)


if __name__ == "__main__":
    main()
