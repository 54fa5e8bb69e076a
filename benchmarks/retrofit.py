"""Overhead of a retrofitted site over the same arithmetic written into the network.

    python -m benchmarks.retrofit [--quick]

Microseconds per site: time of a chain of linear maps with sites minus that of the chain alone, as
the median over alternating runs in one process. ``inline`` is ``x * (1 + gamma) + beta`` in
``forward``; ``inline, split`` splits all parameters and adds all ones at once, an optimised form;
``bare hooks`` does the same from forward hooks that check nothing, which is the least that hooks of
torch cost; ``film`` is the library's function with argument checks, ``retrofit`` uses its hooks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from featurewise.core import film
from featurewise.generators import Learned
from featurewise.retrofit import condition

SITES, BATCH, WIDTH = 32, 8, 32


class Chain(nn.Module):
    """A sequence of linear maps."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(SITES))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the last map."""
        for layer in self.layers:
            x = layer(x)
        return x


class Inline(nn.Module):
    """The chain with the modulation written into ``forward``."""

    def __init__(self, chain: Chain, checked: bool) -> None:
        super().__init__()
        self.layers, self.checked = chain.layers, checked

    def forward(self, x: Tensor, flat: Tensor) -> Tensor:
        """Features of the last map, modulated after every one."""
        parameters = flat.view(-1, SITES, 2, WIDTH)
        for i, layer in enumerate(self.layers):
            gamma, beta = parameters[:, i, 0], parameters[:, i, 1]
            if self.checked:
                x = film(layer(x), 1 + gamma, beta, axis=-1)
            else:
                x = layer(x) * (1 + gamma) + beta
        return x


class InlineSplit(nn.Module):
    """The same, with one addition and one split for all sites."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.layers = chain.layers
        self.ones = torch.tensor([1.0, 0.0]).repeat(SITES).repeat_interleave(WIDTH)

    def forward(self, x: Tensor, flat: Tensor) -> Tensor:
        """Features of the last map, modulated after every one."""
        parts = iter((flat + self.ones).split_with_sizes([WIDTH] * (2 * SITES), -1))
        for layer in self.layers:
            x = layer(x) * next(parts) + next(parts)
        return x


class BareHooks(nn.Module):
    """The same, by hooks that check nothing."""

    def __init__(self, chain: Chain, ones: Tensor) -> None:
        super().__init__()
        self.chain, self.ones, self.parts = chain, ones, ()
        for i, layer in enumerate(chain.layers):
            layer.register_forward_hook(lambda module, args, y, i=i: self.modulated(y, i))

    def modulated(self, y: Tensor, i: int) -> Tensor:
        """Features of one map."""
        return y * self.parts[2 * i] + self.parts[2 * i + 1]

    def forward(self, x: Tensor, flat: Tensor) -> Tensor:
        """Features of the last map, modulated after every one."""
        self.parts = (flat + self.ones).split_with_sizes([WIDTH] * (2 * SITES), -1)
        y = self.chain(x)
        self.parts = ()
        return y


def medians(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median microseconds per run of each case; the cases alternate."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for run in cases.values():
        for _ in range(5):
            run()
    for _ in range(rounds):
        for name, run in cases.items():
            run()  # as in a loop over batches, not as after another network
            begin = time.process_time_ns()
            for _ in range(10):
                run()
            times[name].append((time.process_time_ns() - begin) / 10_000)
    return {name: statistics.median(values) for name, values in times.items()}


def networks() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    chain = Chain()
    inline, checked = Inline(chain, checked=False), Inline(chain, checked=True)
    hooked = Chain()
    hooked.load_state_dict(chain.state_dict())
    net = condition(hooked, at="layers.*", generator=Learned())
    x, flat = torch.randn(BATCH, WIDTH), torch.randn(BATCH, net.layout.size)
    torch.testing.assert_close(net(x, task=flat), inline(x, flat))
    split, bare = InlineSplit(chain), Chain()
    bare.load_state_dict(chain.state_dict())
    return {
        "plain": lambda x, flat: chain(x),
        "inline": inline,
        "inline, split": split,
        "bare hooks": BareHooks(bare, split.ones),
        "film": checked,
        "retrofit": lambda x, flat: net(x, task=flat),
    }


class Residuals(nn.Module):
    """Four residual blocks as in the FiLM paper; modulated inline if parameters are given."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(64, affine=False) for _ in range(4))

    def forward(self, x: Tensor, flat: Tensor | None = None) -> Tensor:
        """Features of the last block."""
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(x))
            if flat is not None:
                parameters = flat.view(-1, 4, 2, 64, 1, 1)
                y = y * (1 + parameters[:, i, 0]) + parameters[:, i, 1]
            x = x + y.relu()
        return x


def convolutions(rounds: int) -> None:
    """Prints the ratio of training steps of a compiled network, retrofitted and inline."""
    inline, hooked = Residuals(), Residuals()
    hooked.load_state_dict(inline.state_dict())
    net = condition(hooked, at="norms.*", generator=Learned())
    x, flat = torch.randn(8, 64, 14, 14), torch.randn(8, net.layout.size)
    runs = {"inline": torch.compile(inline), "retrofit": torch.compile(net)}
    cases: dict[str, Callable[[], object]] = {
        "inline": lambda: runs["inline"](x, flat).sum().backward(),
        "retrofit": lambda: runs["retrofit"](x, task=flat).sum().backward(),
    }
    for run in cases.values():
        run()
    ratios = []
    for _ in range(rounds):
        times = {}
        for name, run in cases.items():
            begin = time.process_time_ns()
            run()
            times[name] = time.process_time_ns() - begin
        ratios.append(times["retrofit"] / times["inline"])
    low, middle, high = (statistics.quantiles(ratios, n=20)[i] for i in (0, 9, 18))
    print(
        "compiled training step of four residual blocks, 8 x 64 x 14 x 14: retrofit / inline = "
        f"{middle:.3f} [{low:.3f}, {high:.3f}] (median, 5 % to 95 % of {rounds} pairs)"
    )


def report(title: str, found: dict[str, float]) -> None:
    plain = found.pop("plain")
    inline = (found["inline"] - plain) / SITES
    print(f"{title}: plain network {plain:.0f} us; per site, above plain (above inline):")
    for name, value in found.items():
        cost = (value - plain) / SITES
        print(f"  {name:14s} {cost:6.2f} us   ({cost - inline:+.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without compiled networks")
    parser.add_argument("--rounds", type=int, default=51)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    runs = networks()
    x, flat = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 2 * SITES * WIDTH)

    def plain(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        def go() -> None:
            with torch.no_grad():
                run(x, flat)

        return go

    def trained(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        trained_flat = flat.clone().requires_grad_()

        def go() -> None:
            run(x, trained_flat).sum().backward()

        return go

    report("eager, no grad", medians({k: plain(r) for k, r in runs.items()}, options.rounds))
    report("eager, f + b", medians({k: trained(r) for k, r in runs.items()}, options.rounds))
    if not options.quick:
        compiled = {
            name: torch.compile(run, fullgraph=True)
            for name, run in runs.items()
            if name != "bare hooks"
        }
        found = medians({k: plain(r) for k, r in compiled.items()}, options.rounds)
        report("compiled, no grad", found)
        convolutions(options.rounds)


if __name__ == "__main__":
    main()
