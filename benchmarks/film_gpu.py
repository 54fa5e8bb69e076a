"""Kernels for a GPU against the formula, torch.compile, and other libraries' norms.

    python -m benchmarks.film_gpu [--rounds N] [--only TEXT] [--dry-run]

One process: each variant is captured in a CUDA graph, the graphs alternate, and a copy of the same
features is measured among them. r is the time to move the bytes that have to be moved at the
bandwidth of that copy, divided by the time that was taken; 1 is the limit. Forward without
gradients moves 2 N numbers; backward (gradients of x, γ and β) 3 N; a group norm whose groups do
not fit in a tile moves 3 N and 5 N.

Variants: ours; eager, the formula by torch's operators; compile, the same by ``torch.compile`` with
max-autotune; and Liger, QuACK and apex where they are installed, whose norms have one γ for all
samples: on the lines named "shared", ours has, too. At the end: the bars of the library and whether
they were met, for features of four times the L2 cache or more, and for small features the time
relative to a copy, and the time of the CPU relative to the formula's.

This benchmark has not been run on a GPU yet. With ``--dry-run`` every variant that works without
one runs once on tiny features, is compared with eager, and nothing is timed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch._functorch.config
import torch.nn.functional as F
from benchmarks.film import Case
from torch import Tensor

from featurewise.core import kernels
from featurewise.core.kernels.film import activate, formula

EPS = 1e-5
Function = Callable[[Tensor, Tensor, Tensor], Tensor]
Times = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Chain:
    """A norm or none, FiLM, an activation.

    Attributes:
        norm: "none", "layer", "rms", "group" or "batch" (in evaluation).
        activation: after FiLM.
        bars: least r, forward and backward.
        groups: of a group norm.
        shared: whether all samples share γ and β.
    """

    norm: str
    activation: str
    bars: tuple[float, float]
    groups: int = 1
    shared: bool = False

    def __str__(self) -> str:
        norm = f"{self.norm} {self.groups}" if self.norm == "group" else self.norm
        return f"{norm}, FiLM{' shared' * self.shared}, {self.activation}"

    def eager(self, axis: int) -> Function:
        """By operators of torch."""

        def run(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
            normed = {
                "none": lambda: x,
                "layer": lambda: kernels.layer_norm(x, axis, EPS),
                "rms": lambda: kernels.rms_norm(x, axis, EPS),
                "group": lambda: F.group_norm(x, self.groups, eps=EPS),
                "batch": lambda: F.batch_norm(x, *_statistics(x), eps=EPS),
            }[self.norm]()
            return activate(formula(normed, gamma, beta, axis, 0), self.activation)

        return run

    def ours(self, axis: int) -> Function:
        """By a kernel, if Triton was chosen."""
        act = self.activation
        return {
            "none": lambda x, g, b: kernels.modulate(x, g, b, axis, 0, act),
            "layer": lambda x, g, b: kernels.layer_norm_film(x, g, b, axis, EPS, act),
            "rms": lambda x, g, b: kernels.rms_norm_film(x, g, b, axis, EPS, act),
            "group": lambda x, g, b: kernels.group_norm_film(x, g, b, self.groups, EPS, act),
            "batch": lambda x, g, b: kernels.batch_norm_film(x, g, b, *_statistics(x), EPS, act),
        }[self.norm]


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each feature, known beforehand."""
    return torch.full_like(x[0, :, 0, 0], 0.5), torch.full_like(x[0, :, 0, 0], 1.5)


#: Library -> norm -> (module, function), called with features, γ, β and the number of groups.
PEERS: dict[str, dict[str, tuple[str, Callable[..., Any]]]] = {
    "Liger": {
        "layer": (
            "liger_kernel.ops.layer_norm",
            lambda m, x, g, b, n: m.LigerLayerNormFunction.apply(x, g, b, EPS),
        ),
        "rms": (
            "liger_kernel.ops.rms_norm",
            lambda m, x, g, b, n: m.LigerRMSNormFunction.apply(x, g, EPS, 0.0, "llama", False),
        ),
        "group": (
            "liger_kernel.ops.group_norm",
            lambda m, x, g, b, n: m.LigerGroupNormFunction.apply(x, g, b, len(g), n, EPS),
        ),
    },
    "QuACK": {"rms": ("quack", lambda m, x, g, b, n: m.rmsnorm(x, g, bias=b, eps=EPS))},
    "apex": {
        "layer": (
            "apex.normalization.fused_layer_norm",
            lambda m, x, g, b, n: m.fused_layer_norm_affine(x, g, b, g.shape, EPS),
        ),
        "rms": (
            "apex.normalization.fused_layer_norm",
            lambda m, x, g, b, n: m.fused_rms_norm_affine(x, g, g.shape, EPS),
        ),
    },
}

HALF = torch.bfloat16
IMAGES, MAPS, SMALL_IMAGES = (
    Case((256, 256, 56, 56)),
    Case((1024, 256, 28, 28)),
    Case((16, 64, 32, 32)),
)
TOKENS, WIDE_TOKENS = Case((256, 1024, 768), 2), Case((16, 4096, 4096), 2)
FILM = [Chain("none", activation, (0.95, 0.88)) for activation in ("identity", "silu")]
ROWS = [
    Chain("layer", "identity", (0.95, 0.80)),
    Chain("layer", "silu", (0.95, 0.80)),
    Chain("rms", "identity", (0.95, 0.80)),
    Chain("layer", "identity", (0.95, 0.80), shared=True),
    Chain("rms", "identity", (0.95, 0.80), shared=True),
]
GROUPS = [
    Chain("group", "silu", (0.85, 0.70), 32),
    Chain("group", "relu", (0.85, 0.70), 256),
    Chain("group", "identity", (0.85, 0.70), 32, shared=True),
    Chain("batch", "relu", (0.95, 0.88)),
]


def cases() -> Iterator[tuple[Chain, Case]]:
    """All chains and features."""
    for dtype in (torch.float32, HALF):
        images = [
            replace(case, dtype=dtype, last=last)
            for case in (IMAGES, MAPS)
            for last in (False, True)
        ]
        audio, odd = Case((64, 128, 65536), dtype=dtype), Case((512, 509, 49, 49), dtype=dtype)
        tokens = [replace(each, dtype=dtype) for each in (TOKENS, WIDE_TOKENS)]
        small = (
            replace(SMALL_IMAGES, dtype=dtype),
            replace(TOKENS, shape=(4, 256, 768), dtype=dtype),
        )
        for chain in FILM:
            yield from ((chain, case) for case in (*images, audio, odd, *tokens, *small))
        for chain in ROWS:
            yield from ((chain, case) for case in (*tokens, small[1]))
        for chain in GROUPS:
            yield from ((chain, case) for case in images)


@dataclass
class Line:
    """What was measured for one chain and features.

    Attributes:
        chain, case: which.
        size: bytes of the features.
        moved: how often the features move, forward and backward.
        times: variant -> "forward" or "backward" -> seconds; and "copy" -> "forward".
        launch: time of the CPU for a call, ours over eager.
    """

    chain: Chain
    case: Case
    size: int
    moved: tuple[int, int]
    times: Times = field(default_factory=dict)
    launch: float = math.nan

    def r(self, way: str) -> float:
        """Share of the bandwidth of a copy."""
        moved = self.moved[way == "backward"]
        return moved / 2 * self.times["copy"]["forward"] / self.times["ours"][way]

    def ratio(self, other: str, way: str) -> float:
        """How many times as fast as another variant."""
        return self.times[other][way] / self.times["ours"][way]

    @property
    def others(self) -> list[str]:
        """Variants to compare with."""
        return [name for name in self.times if name not in ("ours", "copy")]


def moved(chain: Chain, x: Tensor) -> tuple[int, int]:
    """How often features move at least."""
    of_group = x[0].numel() // chain.groups
    return (3, 5) if chain.norm == "group" and of_group * x.element_size() > 200_000 else (2, 3)


def variants(chain: Chain, case: Case, dry: bool) -> dict[str, Function]:
    """Name -> function of x, γ and β."""
    eager = chain.eager(case.axis)
    options: dict[str, Any] = {"backend": "eager"} if dry else {}
    if not dry:  # graphs are captured here
        options = {"mode": "max-autotune-no-cudagraphs", "dynamic": False}
    found = {
        "ours": chain.ours(case.axis),
        "eager": eager,
        "compile": torch.compile(eager, **options),
    }
    if chain.shared and chain.activation == "identity" and not dry:
        for library, norms in PEERS.items():
            module, run = norms.get(chain.norm, ("", None))
            if run is not None and find_spec(module.partition(".")[0]) is not None:
                loaded = import_module(module)
                found[library] = lambda x, g, b, run=run, m=loaded: run(m, x, g, b, chain.groups)
    return found


def tensors(chain: Chain, case: Case, device: str) -> list[Tensor]:
    """Features, γ and β; for libraries' norms γ and β have the dtype of the features."""
    size = (case.shape[case.axis],) if chain.shared else (case.shape[0], case.shape[case.axis])
    dtype = case.dtype if chain.shared else torch.float32
    x = torch.randn(case.shape, device=device, dtype=case.dtype)
    x = x.contiguous(memory_format=torch.channels_last) if case.last else x
    return [x, *(torch.randn(size, device=device, dtype=dtype) for _ in "gb")]


# --- on a GPU ------------------------------------------------------------------------------------


def captured(run: Callable[[], Any], stream: torch.cuda.Stream) -> Callable[[], None]:
    """Replays a call."""
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        run()
    replay: Callable[[], None] = graph.replay
    return replay


def without_gradients(function: Function, inputs: list[Tensor]) -> Callable[[], Any]:
    def run() -> None:
        with torch.no_grad():
            function(*inputs)

    return run


def only_backward(
    function: Function, inputs: list[Tensor], stream: torch.cuda.Stream
) -> Callable[[], Any]:
    """The backward pass of one forward pass, which ran on the stream of the capture."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    with torch.cuda.stream(stream):
        y = function(*leaves)
        upstream = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, leaves, upstream, retain_graph=True, allow_unused=True)


def seconds(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Medians of alternating runs, each of about two milliseconds."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timed(run: Callable[[], None], often: int) -> float:
        begin.record()
        for _ in range(often):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / often / 1e3

    often = {name: max(1, round(2e-3 / timed(run, 3))) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run, often[name]))
    return {name: statistics.median(each) for name, each in times.items()}


def cpu_seconds(run: Callable[[], Any]) -> float:
    """Time of the CPU until a call returns, the GPU left aside."""
    times = []
    for _ in range(50):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measured(chain: Chain, case: Case, rounds: int) -> Line:
    """All variants of one line."""
    inputs = tensors(chain, case, "cuda")
    x, stream = inputs[0], torch.cuda.Stream()
    line = Line(chain, case, x.numel() * x.element_size(), moved(chain, x))
    functions = variants(chain, case, dry=False)
    into = torch.empty_like(x)
    runs = {"copy forward": captured(lambda: into.copy_(x), stream)}
    for name, function in functions.items():
        runs[f"{name} forward"] = captured(without_gradients(function, inputs), stream)
        runs[f"{name} backward"] = captured(only_backward(function, inputs, stream), stream)
    for name, value in seconds(runs, rounds).items():
        variant, way = name.split()
        line.times.setdefault(variant, {})[way] = value
    calls = [cpu_seconds(without_gradients(functions[name], inputs)) for name in ("ours", "eager")]
    line.launch = calls[0] / calls[1]
    return line


def verdicts(lines: list[Line], cache: int) -> Iterator[str]:
    """Each bar, and what was found; ``cache`` is the size of L2 in bytes."""
    large, small = ([each for each in lines if (each.size >= 4 * cache) == way] for way in (1, 0))

    def verdict(met: bool, text: str) -> str:
        return f"{'met   ' if met else 'MISSED'} {text}"

    for chain in dict.fromkeys(each.chain for each in large):
        for way, bar in zip(("forward", "backward"), chain.bars, strict=True):
            least = min(each.r(way) for each in large if each.chain == chain)
            yield verdict(least >= bar, f"{chain}, {way}: least r {least:.2f}, bar {bar}")
    for line in lines:
        for name in line.others:
            for way, gain in ((way, line.ratio(name, way)) for way in line.times[name]):
                text = f"{line.chain}, {line.case}, {way}: {gain:.2f} times as fast as {name}"
                yield verdict(gain >= 0.97, f"{text}, bar 0.97")
    if large:
        gains = [math.log(each.ratio("compile", "backward")) for each in large]
        gain = math.exp(statistics.mean(gains))
        yield verdict(gain >= 1.3, f"backward: {gain:.2f} times as fast as compile, bar 1.3")
    for line in small:
        over = line.times["ours"]["forward"] / line.times["copy"]["forward"]
        text = f"small, {line.chain}, {line.case}: {over:.2f} copies, bar 1.25; time of the CPU "
        yield verdict(over <= 1.25 and line.launch <= 1, f"{text}{line.launch:.2f} of eager, bar 1")


def report(rounds: int, only: str) -> None:
    """Measure and print."""
    properties = torch.cuda.get_device_properties(0)
    kernels.use("triton")
    torch._functorch.config.donated_buffer = False  # compiled graphs that run backward repeatedly
    print(f"{properties.name}, torch {torch.__version__}; r, and how many times as fast as others")
    lines = []
    for chain, case in cases():
        if only not in f"{chain}, {case}":
            continue
        torch._dynamo.reset()
        line = measured(chain, case, rounds)
        bandwidth = 2 * line.size / line.times["copy"]["forward"] / 1e12
        print(f"\n{chain}, {case}: copy {bandwidth:.2f} TB/s")
        for way in ("forward", "backward"):
            others = ", ".join(f"{name} {line.ratio(name, way):.2f}" for name in line.others)
            print(f"  {way:8} r {line.r(way):.2f}; {others}", flush=True)
        lines.append(line)
    print("\n" + "\n".join(verdicts(lines, properties.L2_cache_size)))


# --- without a GPU -------------------------------------------------------------------------------


def tiny(case: Case) -> Case:
    """The same with few numbers."""
    sizes = [min(size, 256 if place == case.axis else 3) for place, size in enumerate(case.shape)]
    return replace(case, shape=tuple(sizes))


def dry_run(only: str) -> None:
    """Every variant once, compared with eager."""
    interpreted = find_spec("triton") is not None
    if interpreted:
        kernels.use("triton")
    print("dry run: nothing is timed" + ("" if interpreted else "; without Triton"))
    lines = []
    for chain, case in dict.fromkeys((chain, tiny(case)) for chain, case in cases()):
        if only not in f"{chain}, {case}":
            continue
        torch._dynamo.reset()
        inputs = tensors(chain, case, "cpu")
        found = {}
        for name, function in variants(chain, case, dry=True).items():
            leaves = [each.clone().requires_grad_() for each in inputs]
            y = function(*leaves)
            y.backward(torch.ones_like(y))
            found[name] = [y.detach(), *(each.grad for each in leaves)]
        bound = 1e-4 if case.dtype is torch.float32 else 0.05
        for name, values in found.items():
            for value, wanted in zip(values, found["eager"], strict=True):
                off = (value.double() - wanted.double()).norm() / wanted.double().norm()
                if not float(off) < bound:
                    raise SystemExit(f"{chain}, {case}: {name} differs from eager by {off:.1e}")
        times = {name: {"forward": 1.0, "backward": 1.0} for name in ("copy", *found)}
        lines.append(Line(chain, case, inputs[0].numel(), moved(chain, inputs[0]), times))
        print(f"{chain}, {case}: {', '.join(found)} agree", flush=True)
    print(f"{sum(1 for _ in verdicts(lines, 100))} bars would be checked")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="lines that have this text")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU and timing")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.dry_run:
        dry_run(options.only)
    elif torch.cuda.is_available():
        report(options.rounds, options.only)
    else:
        print("no GPU: nothing to measure; --dry-run runs the code without timing")


if __name__ == "__main__":
    main()
