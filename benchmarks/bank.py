"""Parameters and time that a bank saves: a table of γ and β in place of their generator.

    python benchmarks/bank.py [--full]

First a diffusion transformer of diffusers with random weights, conditioned on timestep and class:
its adaLN projections and embedders become one row per condition (``precompute``). Printed are the
parameters before and after, the largest difference of the outputs, and the time per forward pass as
the median of paired ratios; the two networks alternate in one process. ``--full`` has the sizes of
DiT-XL/2 (28 layers, width 1152, 3 GB in float32; takes minutes). Then a retrofitted generator
against its bank of 10,000 rows, in memory and memory-mapped from a file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from featurewise.core import Affine
from featurewise.deploy import Bank, bank, precompute
from featurewise.generators import MLP
from featurewise.retrofit import Conditioned, condition

PROJECTIONS = ["transformer_blocks.*.norm1.linear", "proj_out_1"]
EMBEDDERS = "transformer_blocks.*.norm1.emb"


@dataclass(frozen=True)
class Size:
    """Sizes of a diffusion transformer and of its benchmark.

    Attributes:
        layers: transformer blocks.
        heads: attention heads.
        head_width: features per head.
        latent: height and width of the latent image.
        conditions: number of conditions that are precomputed.
        rounds: number of time measurements.
    """

    layers: int
    heads: int
    head_width: int
    latent: int
    conditions: int
    rounds: int


#: DiT-S/2 (Peebles & Xie 2023, table 1) on latents of 16 x 16, and DiT-XL/2 on 32 x 32.
SMALL = Size(layers=12, heads=6, head_width=64, latent=16, conditions=8, rounds=15)
FULL = Size(layers=28, heads=16, head_width=72, latent=32, conditions=4, rounds=7)


def parameters(modules: list[nn.Module]) -> int:
    """Number of parameters of modules; shared ones count once."""
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


def paired(before: Callable[[], object], after: Callable[[], object], rounds: int) -> str:
    """Median milliseconds of two alternating functions, and the median of their ratios."""
    times: tuple[list[float], list[float]] = ([], [])
    for done in range(rounds + 1):
        for run, spent in zip((before, after), times, strict=True):
            begin = time.process_time_ns()
            run()
            if done:  # the first round warms up
                spent.append((time.process_time_ns() - begin) / 1e6)
    ratios = sorted(b / a for a, b in zip(*times, strict=True))
    first, second = (statistics.median(spent) for spent in times)
    return (
        f"{first:.2f} -> {second:.2f} ms, ratio {statistics.median(ratios):.3f} "
        f"({ratios[len(ratios) // 4]:.3f} to {ratios[-1 - len(ratios) // 4]:.3f}, the middle half)"
    )


def transformer(size: Size) -> nn.Module:
    """The network, with weights initialised as by its authors."""
    from diffusers import DiTTransformer2DModel

    network: nn.Module = DiTTransformer2DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.head_width,
        num_layers=size.layers,
        sample_size=size.latent,
        num_embeds_ada_norm=1000,
    )
    return network.eval()


def show_transformer(size: Size) -> None:
    network = transformer(size)
    steps = torch.linspace(999, 0, size.conditions).long()
    runs = [
        {"timestep": step.reshape(1), "class_labels": torch.tensor([7 * i % 1000])}
        for i, step in enumerate(steps)
    ]
    begin = time.perf_counter()
    # The rows do not depend on the latents, so that one token is enough.
    net = precompute(network, PROJECTIONS, runs, example=torch.randn(1, 4, 2, 2), also=EMBEDDERS)
    recorded = time.perf_counter() - begin
    total, remaining = parameters([network]), parameters([net.backbone])
    named = dict(network.named_modules())
    projections = [named[name] for name in net.layout.names]
    embedders = [m for name, m in named.items() if name.endswith("norm1.emb")]
    width, tokens = size.heads * size.head_width, (size.latent // 2) ** 2
    print(f"diffusion transformer, {size.layers} layers, {width} wide, {tokens} tokens")
    saved = 100 * (1 - remaining / total)
    print(f"  parameters        {total:>12,} -> {remaining:,} ({saved:.1f} % less)")
    for name, modules in (("adaLN projections", projections), ("embedders", embedders)):
        count = parameters(modules)
        print(f"  {name:17s} {count:>12,} ({100 * count / total:.1f} %)")
    print(f"  bank              {net.generator.extra_repr()}")
    print(f"  recorded          {len(runs)} conditions in {recorded:.1f} s")
    compare(network, net, runs, size)


def compare(
    network: nn.Module, net: Conditioned, runs: list[dict[str, Tensor]], size: Size
) -> None:
    """Prints differences and times of a network and its copy with a bank."""
    x = torch.randn(1, 4, size.latent, size.latent)
    worst, equal = 0.0, 0
    for i, run in enumerate(runs):
        one = network(x, **run).sample
        other = net(x, **run, condition=torch.tensor([i])).sample
        worst = max(worst, float((one - other).abs().max()))
        equal += torch.equal(one, other)
    print(f"  outputs           {equal} of {len(runs)} equal, largest difference {worst:g}")
    ids = torch.tensor([0])
    times = paired(
        lambda: network(x, **runs[0]),
        lambda: net(x, **runs[0], condition=ids),
        size.rounds,
    )
    print(f"  time per forward  {times}")


def show_rows(count: int = 10_000) -> None:
    network = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8)))
    net = condition(network, at=nn.Linear, operation=Affine(), generator=MLP(384, [512]))
    with torch.no_grad():
        net.generator.head.weight.normal_(std=0.1)
    z = torch.randn(count, 384)
    begin = time.perf_counter()
    rows = bank(net, z, batch_size=64)
    made = time.perf_counter() - begin
    print(f"generator on embeddings of width 384, {rows.extra_repr()}")
    print(f"  computed in {made:.2f} s")
    batches = torch.arange(count - count % 64).view(-1, 64)
    same = all(torch.equal(net.represent(z[ids]).flat, rows(ids)) for ids in batches)
    print(f"  all batches of 64 rows equal: {same}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.safetensors"
        rows.save(path)
        mapped = Bank.load(path, net.layout, mapped=True)
        ids = torch.randint(count, (64,))
        cases = {
            "generator -> bank": (lambda: net.represent(z[ids]), lambda: rows(ids)),
            "generator -> mapped": (lambda: net.represent(z[ids]), lambda: mapped(ids)),
        }
        for name, (before, after) in cases.items():
            print(f"  {name:20s} {paired(before, after, 51)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="DiT-XL/2 (minutes, 6 GB)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        show_transformer(FULL if options.full else SMALL)
        show_rows()


if __name__ == "__main__":
    main()
