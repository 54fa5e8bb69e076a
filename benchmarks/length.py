"""Cost of conditioning a sequence on another of the same length: cross-attention and FiLM.

    OMP_NUM_THREADS=1 python benchmarks/length.py [--width 32] [--rounds 7]

Batch size 1, forward pass without gradients. The methods alternate within a round. A time is the
median over rounds of the CPU time of one thread, so that other jobs have little influence. Only
the operations of matrix products are counted. The last lines give the exponents p of
cost ~ length ** p, from a linear fit of the logarithms. At short lengths the overhead of calls
dominates; the exponents of the times are therefore also given for the longer half of the lengths.
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
    """Forward passes of both methods on random sequences."""
    x, z = torch.randn(2, 1, length, width)
    attend, film = CrossAttention(width, width), FiLM(width, width)
    channels_first = x.mT.contiguous(), z.mT.contiguous()
    return {"film": lambda: film(*channels_first), "attention": lambda: x + attend(x, z)}


def timed(run: Pass) -> float:
    """CPU seconds of one pass, as the mean of enough passes to take at least 5 ms."""
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
