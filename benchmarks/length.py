"""Conditioning a sequence on another of its length: cross-attention beside FiLM, against length.

    OMP_NUM_THREADS=1 python benchmarks/length.py [--width 32] [--rounds 7]

One sequence of each; a pass is forward without gradients. Contenders take turns within a round, and
a time is the median over rounds of the processor time of one thread, so that other jobs disturb
little. Operations are those of matrix products, counted. The last line gives the exponents p of
cost ~ length ** p, by a line through the logarithms; at short lengths a pass costs what calls cost,
so that the times' exponents are also taken over the longer half.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from featurewise.analysis.cost import LENGTHS, exponent, operations
from featurewise.layers import FiLM
from featurewise.models.attention import CrossAttention

Pass = Callable[[], object]


def passes(length: int, width: int) -> dict[str, Pass]:
    """Both contenders on random sequences."""
    x, z = torch.randn(2, 1, length, width)
    attend, film = CrossAttention(width, width), FiLM(width, width)
    lying = x.mT.contiguous(), z.mT.contiguous()
    return {"film": lambda: film(*lying), "attention": lambda: x + attend(x, z)}


def timed(run: Pass) -> float:
    """Processor seconds of one pass, over so many that they take some milliseconds."""
    count, seconds = 1, 0.0
    while seconds < 5e-3:
        start = time.thread_time()
        for _ in range(count):
            run()
        seconds = time.thread_time() - start
        count *= 2
    return seconds / (count // 2)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"width {options.width}, one thread, torch {torch.__version__}")
    print(f"{'length':>7} {'film ms':>9} {'attention ms':>13} {'ratio':>7}")
    times: dict[str, list[float]] = {"film": [], "attention": []}
    for length in LENGTHS:
        runs = passes(length, options.width)
        rounds = [{name: timed(run) for name, run in runs.items()} for _ in range(options.rounds)]
        for name, found in times.items():
            found.append(1e3 * median(each[name] for each in rounds))
        film, attention = times["film"][-1], times["attention"][-1]
        print(f"{length:7} {film:9.3f} {attention:13.3f} {attention / film:7.1f}", flush=True)
    half = len(LENGTHS) // 2
    for name in times:
        counted = operations(lambda n, name=name: passes(n, options.width)[name](), LENGTHS)
        print(
            f"{name}: time ~ length ** {exponent(LENGTHS, times[name]):.2f}, from "
            f"{LENGTHS[half]} on ** {exponent(LENGTHS[half:], times[name][half:]):.2f}; "
            f"operations ** {exponent(LENGTHS, counted):.2f}"
        )


if __name__ == "__main__":
    main()
