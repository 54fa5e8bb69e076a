"""Time of FiLM and of conditional norms, relative to the formula as it is usually written.

    python -m benchmarks.film [--rounds N] [--only TEXT]

n is the time divided by that of ``gamma * x + beta`` (after the norm, where there is one) in the
dtype of the features; f is the time divided by that of the memory that has to be moved: one copy
forward; a copy and an addition with two inputs for forward and backward. Medians of alternating
runs in one process, CPU time of one thread; without gradients / forward and backward.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featurewise as fw
from featurewise.layers import (
    ConditionalBatchNorm,
    ConditionalGroupNorm,
    ConditionalInstanceNorm,
    ConditionalLayerNorm,
    ConditionalRMSNorm,
)
from featurewise.training.allocator import use_large_allocations

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """Features of one shape, dtype and memory.

    Attributes:
        shape: of the features.
        axis: of the features in them.
        dtype: of the features; γ and β are float32 for ours, and of this dtype for the formula.
        last: whether an image is in channels-last memory.
    """

    shape: tuple[int, ...]
    axis: int = 1
    dtype: torch.dtype = torch.float32
    last: bool = False

    def __str__(self) -> str:
        memory = ", channels last" if self.last else ""
        return f"{list(self.shape)} {str(self.dtype).removeprefix('torch.')}{memory}"

    def features(self) -> Tensor:
        """Random features."""
        x = torch.randn(self.shape).to(self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if self.last else x

    def parameters(self) -> tuple[Tensor, Tensor]:
        """Random γ and β, (B, C)."""
        size = self.shape[0], self.shape[self.axis]
        return torch.randn(size), torch.randn(size)

    def view(self, parameter: Tensor) -> Tensor:
        """A parameter as it broadcasts over the features."""
        sizes = [1] * len(self.shape)
        sizes[0], sizes[self.axis] = self.shape[0], self.shape[self.axis]
        return parameter.view(sizes)


HALF = torch.bfloat16
CASES = (
    Case((8, 32, 4, 4)),
    Case((8, 64, 16, 16)),
    Case((64, 128, 14, 14)),
    Case((32, 256, 28, 28)),
    Case((64, 64, 56, 56)),
    Case((64, 512, 7, 7)),
    Case((8, 128, 16000)),
    Case((64, 128, 14, 14), last=True),
    Case((32, 256, 28, 28), last=True),
    Case((16, 196, 768), 2),
    Case((64, 16, 512), 2),
    Case((64, 1024)),
    Case((8, 32, 4, 4), dtype=HALF),
    Case((64, 128, 14, 14), dtype=HALF),
    Case((32, 256, 28, 28), dtype=HALF),
    Case((64, 128, 14, 14), dtype=HALF, last=True),
    Case((32, 256, 28, 28), dtype=HALF, last=True),
    Case((16, 196, 768), 2, HALF),
    Case((64, 16, 512), 2, HALF),
)


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Microseconds of each; the runs alternate, each repeated for half a millisecond at least."""
    often, times = {}, {name: [] for name in runs}
    for name, run in runs.items():
        run()
        begun = time.thread_time_ns()
        run()
        often[name] = max(1, 500_000 // max(1, time.thread_time_ns() - begun))
    for _ in range(rounds):
        for name, run in runs.items():
            begun = time.thread_time_ns()
            for _ in range(often[name]):
                run()
            times[name].append((time.thread_time_ns() - begun) / often[name] / 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def without_gradients(function: Function, *inputs: Tensor) -> Callable[[], object]:
    """Forward."""

    def run() -> None:
        with torch.no_grad():
            function(*inputs)

    return run


def with_gradients(function: Function, upstream: Tensor, *inputs: Tensor) -> Callable[[], object]:
    """Forward and backward, with gradients of all inputs."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).backward(upstream)

    return run


def table(title: str, rows: list[tuple[str, str, str]]) -> None:
    """Print n and f of all cases."""
    wide = max((len(name) for name, _, _ in rows), default=0)
    print(f"\n{title}\n{'':{wide}}  n: no grad / f+b   f: no grad / f+b")
    for name, n, f in rows:
        print(f"{name:{wide}}  {n:>16}   {f:>16}", flush=True)


def measured(
    case: Case, naive: Function, ours: Function, given: tuple[Tensor, ...], rounds: int
) -> tuple[str, str]:
    """The n and f of one case: ``naive`` and ``ours`` take the features and ``given``."""
    x = case.features()
    upstream = torch.randn_like(x)
    moved, added = torch.empty_like(x), torch.empty_like(x)
    cheap = tuple(each.to(case.dtype) for each in given)
    found = medians(
        {
            "copy": lambda: moved.copy_(x),
            "add": lambda: torch.add(x, upstream, out=added),
            "naive": without_gradients(naive, x, *cheap),
            "ours": without_gradients(ours, x, *given),
            "naive f+b": with_gradients(naive, upstream, x, *cheap),
            "ours f+b": with_gradients(ours, upstream, x, *given),
        },
        rounds,
    )
    both = found["copy"] + found["add"]
    n = f"{found['ours'] / found['naive']:.2f} / {found['ours f+b'] / found['naive f+b']:.2f}"
    return n, f"{found['ours'] / found['copy']:.2f} / {found['ours f+b'] / both:.2f}"


def film(rounds: int, only: str) -> list[tuple[str, str, str]]:
    """The formula against `fw.film`, checks of its arguments included."""
    rows = []
    for case in CASES:
        if only not in str(case):
            continue

        def naive(x: Tensor, gamma: Tensor, beta: Tensor, case: Case = case) -> Tensor:
            return case.view(gamma) * x + case.view(beta)

        def ours(x: Tensor, gamma: Tensor, beta: Tensor, case: Case = case) -> Tensor:
            return fw.film(x, gamma, beta, axis=case.axis)

        rows.append((str(case), *measured(case, naive, ours, case.parameters(), rounds)))
    return rows


class Given(nn.Module):
    """A generator whose condition is γ - 1 and β side by side."""

    def forward(self, condition: Tensor) -> Tensor:
        """The same."""
        return condition


def norms(rounds: int, only: str) -> list[tuple[str, str, str]]:
    """Conditional norms of the library against the norm of torch and the formula."""
    image, audio = (32, 256, 28, 28), (8, 128, 16000)
    mean, variance = torch.randn(256), torch.rand(256) + 0.5
    running = ConditionalBatchNorm(256, generator=Given()).eval()
    running.running_mean.copy_(mean)
    running.running_var.copy_(variance)

    def batch_norm(x: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance)

    kinds: list[tuple[str, Function, nn.Module, list[Case]]] = [
        ("batch norm, eval", batch_norm, running, [Case(image), Case(image, dtype=HALF)]),
        (
            "batch norm, training",
            lambda x: F.batch_norm(x, None, None, training=True),
            ConditionalBatchNorm(256, generator=Given()),
            [Case(image)],
        ),
        (
            "instance norm",
            F.instance_norm,
            ConditionalInstanceNorm(256, generator=Given()),
            [
                Case(image),
                Case(image, last=True),
                Case(image, dtype=HALF),
                Case(image, dtype=HALF, last=True),
            ],
        ),
        (
            "instance norm",
            F.instance_norm,
            ConditionalInstanceNorm(128, generator=Given()),
            [Case(audio)],
        ),
        (
            "group norm, 32 groups",
            lambda x: F.group_norm(x, 32),
            ConditionalGroupNorm(32, 256, generator=Given()),
            [
                Case(image),
                Case(image, last=True),
                Case(image, dtype=HALF),
                Case(image, dtype=HALF, last=True),
            ],
        ),
        (
            "layer norm",
            lambda x: F.layer_norm(x, (768,)),
            ConditionalLayerNorm(768, generator=Given()),
            [Case((16, 196, 768), 2), Case((16, 196, 768), 2, HALF)],
        ),
        (
            "RMS norm",
            lambda x: F.rms_norm(x, (768,), eps=1e-6),
            ConditionalRMSNorm(768, generator=Given()),
            [Case((16, 196, 768), 2), Case((16, 196, 768), 2, HALF)],
        ),
    ]
    rows = []
    for name, norm, layer, cases in kinds:
        for case in cases:
            if only not in f"{name}, {case}":
                continue

            def naive(x: Tensor, both: Tensor, case: Case = case, norm: Function = norm) -> Tensor:
                gamma, beta = both.chunk(2, -1)
                return norm(x) * (1 + case.view(gamma.contiguous())) + case.view(beta.contiguous())

            given = (torch.cat(case.parameters(), -1),)
            rows.append((f"{name}, {case}", *measured(case, naive, layer, given, rounds)))
    return rows


def layers(rounds: int) -> None:
    """A ``FiLM`` layer of small features against the same by hand."""
    linear, layer = nn.Linear(16, 128), fw.FiLM(64, 16)
    x, z = torch.randn(8, 64, 4, 4), torch.randn(8, 16)

    def by_hand(x: Tensor, z: Tensor) -> Tensor:
        gamma, beta = linear(z).chunk(2, -1)
        return x * (1 + gamma[:, :, None, None]) + beta[:, :, None, None]

    upstream = torch.randn_like(x)
    found = medians(
        {
            "by hand": without_gradients(by_hand, x, z),
            "layer": without_gradients(layer, x, z),
            "by hand f+b": with_gradients(by_hand, upstream, x, z),
            "layer f+b": with_gradients(layer, upstream, x, z),
        },
        rounds,
    )
    print(
        f"\nFiLM layer with its generator, [8, 64, 4, 4], by hand / layer: no grad "
        f"{found['by hand']:.1f} / {found['layer']:.1f} us, f+b "
        f"{found['by hand f+b']:.1f} / {found['layer f+b']:.1f} us"
    )


def diffusers(rounds: int) -> None:
    """Adaptive norms of diffusers, on the same features and embeddings."""
    try:
        from diffusers.models.normalization import AdaGroupNorm, AdaLayerNorm
    except ImportError:
        print("\ndiffusers: needs the extra 'examples'")
        return
    x, z = torch.randn(16, 196, 768), torch.randn(16, 768)
    theirs, ours = AdaLayerNorm(768, chunk_dim=1), ConditionalLayerNorm(768, 768)
    image, group = torch.randn(32, 256, 28, 28), AdaGroupNorm(768, 256, 32)
    own = ConditionalGroupNorm(32, 256, 768)
    wide = torch.randn(32, 768)
    for name, features, condition, one, two in (
        ("AdaLayerNorm", x, z, lambda x, z: theirs(x, temb=z), ours),
        ("AdaGroupNorm", image, wide, group, own),
    ):
        upstream = torch.randn_like(features)
        found = medians(
            {
                "theirs": without_gradients(one, features, condition),
                "ours": without_gradients(two, features, condition),
                "theirs f+b": with_gradients(one, upstream, features, condition),
                "ours f+b": with_gradients(two, upstream, features, condition),
            },
            rounds,
        )
        print(
            f"{name} of diffusers, ours / theirs: {found['ours'] / found['theirs']:.2f} / "
            f"{found['ours f+b'] / found['theirs f+b']:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="cases whose line has this text")
    options = parser.parse_args()
    rounds = options.rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    use_large_allocations()
    table("FiLM", film(rounds, options.only))
    table("norm, then FiLM", norms(rounds, options.only))
    if not options.only:
        layers(rounds)
        diffusers(rounds)


if __name__ == "__main__":
    main()
