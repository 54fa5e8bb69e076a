"""Comparison with PEFT (IA³) and diffusers (AdaLayerNorm) on the same tasks.

    python benchmarks/peers.py [--rounds 15]

Both libraries get the same tiny Llama with the same sites and as many parameters per task, and the
same norm with the same weights. Ratios are paired: the implementations alternate in one process on
one thread, CPU time is measured, and the median over rounds is printed with minimum and maximum.
The error is the largest difference from a reference: each row run alone, or a loop in float64.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import textwrap
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import featurewise as fw
from featurewise.generators import Learned
from featurewise.layers import ConditionalLayerNorm

BATCH, TOKENS, WIDTH = 16, 16, 64
SITES = ["model.layers.*.self_attn.k_proj", "model.layers.*.self_attn.v_proj"]
SITES.append("model.layers.*.mlp.up_proj")  # its output is the input of down_proj


# --- PEFT ----------------------------------------------------------------------------------------


def llama() -> nn.Module:
    """A language model with random weights, equal at every call."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 4}
    ends = {"bos_token_id": None, "eos_token_id": None, "use_cache": False}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **size, **heads, **ends))


def with_peft(network: nn.Module) -> nn.Module:
    """The network with IA³ adapters of PEFT for two tasks."""
    from peft import IA3Config, get_peft_model

    sites = ["k_proj", "v_proj", "down_proj"]
    config = IA3Config(target_modules=sites, feedforward_modules=["down_proj"])
    net = get_peft_model(network, config, adapter_name="a")
    net.add_adapter("b", config)
    return net


def with_featurewise(network: nn.Module) -> nn.Module:
    """The network with scales of featurewise for two tasks."""
    network.requires_grad_(False)
    return fw.condition(network, at=SITES, operation=fw.Scale(), generator=fw.Lookup(2))


def peft_step(net: nn.Module, tokens: Tensor, tasks: Tensor) -> None:
    """Forward and backward pass of a batch of two tasks, one task after the other."""
    for task, name in enumerate("ab"):
        if (tasks == task).any():
            net.set_adapter(name)
            part = tokens[tasks == task]
            (net(part, labels=part).loss * len(part) / len(tokens)).backward()


def featurewise_step(net: nn.Module, tokens: Tensor, tasks: Tensor) -> None:
    """Forward and backward pass of a batch of two tasks in one pass."""
    net(tokens, labels=tokens, condition=tasks).loss.backward()


def lines(*functions: Callable[..., object]) -> int:
    """Number of lines of code in functions, without docstrings and imports."""
    count = 0
    for function in functions:
        body = textwrap.dedent(inspect.getsource(function)).splitlines()[1:]
        code = [line.strip() for line in body if line.strip()]
        count += sum(not line.startswith(('"""', "from ", "import ")) for line in code)
    return count


def vectors(net: nn.Module, name: str) -> Tensor:
    """Trained scales of one of PEFT's adapters, in the order of the layout."""
    return torch.cat(
        [p.flatten() for n, p in net.named_parameters() if n.endswith(f"ia3_l.{name}")]
    )


def ratios(slow: Callable[[], None], fast: Callable[[], None], rounds: int) -> str:
    """Median times of two alternating functions, and their ratio ``slow / fast`` per round."""
    found, times = [], []
    for turn in range(rounds + 2):
        pair = []
        for run in (slow, fast):
            begin = time.process_time()
            run()
            pair.append(time.process_time() - begin)
        if turn > 1:  # the first are warm-up
            found.append(pair[0] / pair[1])
            times.append(pair)
    ours, theirs = (1000 * statistics.median(t[i] for t in times) for i in (1, 0))
    low, high = min(found), max(found)
    return (
        f"{theirs:7.2f} ms {ours:7.2f} ms   x{statistics.median(found):.2f} [{low:.2f}, {high:.2f}]"
    )


def ia3(rounds: int) -> None:
    """Prints the comparison with IA³ of PEFT for two tasks."""
    tokens = torch.randint(64, (BATCH, TOKENS))
    mixed, alone = torch.arange(BATCH) % 2, torch.zeros(BATCH, dtype=torch.long)
    theirs, ours = with_peft(llama()), with_featurewise(llama())
    rng = torch.Generator().manual_seed(1)
    for name, parameter in theirs.named_parameters():
        if "ia3_l" in name:
            parameter.data = 1 + 0.5 * torch.randn(parameter.shape, generator=rng)
    with torch.no_grad():
        ours.generator.table.copy_(torch.stack([vectors(theirs, n) - 1 for n in "ab"]))
        each = []
        for name in "ab":
            theirs.set_adapter(name)
            each.append(theirs(tokens).logits)
        want = torch.where(mixed[:, None, None] == 0, *each)
        single = (ours(tokens, condition=alone).logits - each[0]).abs().max()
        both = (ours(tokens, condition=mixed).logits - want).abs().max()
    print(f"\nIA3 of PEFT {version('peft')}; Llama, 4 layers of {WIDTH}, batch {BATCH} x {TOKENS}")
    print(f"  sites {len(ours.layout)}, numbers per task {ours.layout.size}")
    print(f"  one task, same vectors: outputs differ by {single:.1e}")
    print(f"  rows of two tasks in one batch, against each row alone: featurewise {both:.1e}")
    for mode in ("evaluation", "training"):
        outcome = with_adapter_names(theirs.train(mode == "training"), tokens, mixed, want)
        print(f"    PEFT, adapter_names=, {mode}: {outcome}")
    peft, own = lines(with_peft, peft_step), lines(with_featurewise, featurewise_step)
    print(f"  lines of code, set-up and a mixed training step: PEFT {peft}, featurewise {own}")
    print("  forward and backward       PEFT   featurewise   PEFT / featurewise")
    static = fw.condition(
        llama().requires_grad_(False), at=SITES, operation=fw.Scale(), generator=Learned()
    )

    def their_step(tasks: Tensor) -> Callable[[], None]:
        return lambda: peft_step(theirs, tokens, tasks)

    def our_step(tasks: Tensor) -> Callable[[], None]:
        return lambda: featurewise_step(ours, tokens, tasks)

    def static_step() -> None:
        static(tokens, labels=tokens).loss.backward()

    print("    one task, Learned ", ratios(their_step(alone), static_step, rounds))
    print("    one task, Lookup  ", ratios(their_step(alone), our_step(alone), rounds))
    print("    two tasks, Lookup ", ratios(their_step(mixed), our_step(mixed), rounds))


def with_adapter_names(net: nn.Module, tokens: Tensor, tasks: Tensor, want: Tensor) -> str:
    """Whether PEFT is correct with one adapter name per row."""
    try:
        with torch.no_grad():
            got = net(tokens, adapter_names=["ab"[int(task)] for task in tasks]).logits
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    wrong = (got - want).abs().amax((1, 2)) > 1e-4
    outcome = "wrong, without an error" if wrong.any() else "correct"
    return f"{outcome} ({int(wrong.sum())} of {len(wrong)} rows are another task's)"


# --- diffusers -----------------------------------------------------------------------------------


def looped(x: Tensor, z: Tensor, scale: nn.Linear, shift: nn.Linear) -> Tensor:
    """Adaptive layer norm in float64, one sample and one position at a time."""
    out = torch.empty_like(x, dtype=torch.float64)
    for b in range(len(x)):
        activated = z[b].double() * torch.sigmoid(z[b].double())
        gamma = 1 + scale.weight.double() @ activated + scale.bias.double()
        beta = shift.weight.double() @ activated + shift.bias.double()
        for t in range(x.shape[1]):
            row = x[b, t].double()
            variance = ((row - row.mean()) ** 2).mean()
            out[b, t] = gamma * (row - row.mean()) / (variance + 1e-5).sqrt() + beta
    return out


def halves(linear: nn.Linear, order: tuple[int, int]) -> list[nn.Linear]:
    """Scale and shift as two linear maps, from one map with both outputs."""
    found = []
    for index in order:
        half = nn.Linear(WIDTH, WIDTH)
        half.weight.data = linear.weight.data.chunk(2)[index].clone()
        half.bias.data = linear.bias.data.chunk(2)[index].clone()
        found.append(half)
    return found


def norms() -> dict[str, tuple[Callable[[Tensor, Tensor], Tensor], list[nn.Linear]]]:
    """The implementations, each with the scale and shift that it should apply."""
    from diffusers.models.normalization import AdaLayerNorm

    torch.manual_seed(0)
    default, chunked = AdaLayerNorm(WIDTH), AdaLayerNorm(WIDTH, chunk_dim=1)
    layer = ConditionalLayerNorm(WIDTH, WIDTH)
    plain = nn.Sequential(nn.LayerNorm(WIDTH, elementwise_affine=False))
    net = fw.condition(plain, at="0", generator=fw.Linear(WIDTH))
    for head in (layer.film.generator.head, net.generator.head):
        head.load_state_dict(default.linear.state_dict())
    right, swapped = halves(default.linear, (0, 1)), halves(chunked.linear, (1, 0))
    return {
        "diffusers, default": (lambda x, z: default(x, temb=z), right),
        "diffusers, chunk_dim=1": (lambda x, z: chunked(x, temb=z), swapped),
        "ConditionalLayerNorm": (lambda x, z: layer(x, F.silu(z)), right),
        "condition(LayerNorm)": (lambda x, z: net(x, condition=F.silu(z)), right),
    }


@torch.no_grad()
def adaptive_norm(rounds: int) -> None:
    """Prints the comparison with AdaLayerNorm of diffusers, for batches of several sizes."""
    print(f"\nAdaLayerNorm of diffusers {version('diffusers')}; width {WIDTH}, {TOKENS} positions")
    print("  largest difference from a float64 loop, by batch size:")
    sizes = (1, 2, 5)
    implementations = norms()
    for name, (run, weights) in implementations.items():
        shown = []
        for size in sizes:
            x, z = torch.randn(size, TOKENS, WIDTH), torch.randn(size, WIDTH)
            try:
                off = (run(x, z) - looped(x, z, *weights)).abs().max()
                shown.append(f"{size}: {off:.1e}")
            except Exception as error:
                shown.append(f"{size}: {type(error).__name__}")
        print(f"    {name:24s}", "   ".join(shown))
    run, weights = implementations["diffusers, default"]
    x, z = torch.randn(5, TOKENS, WIDTH), torch.randn(WIDTH)
    off = (run(x, z) - looped(x, z.expand(5, -1), *weights)).abs().max()
    print(f"    diffusers' default with one condition (C,) for all five samples: {off:.1e}")
    print("  100 forwards, batch 5    diffusers featurewise   diffusers / featurewise")
    x, z = torch.randn(5, TOKENS, WIDTH), torch.randn(5, WIDTH)

    def hundred(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def go() -> None:
            for _ in range(100):
                run(x, z)

        return go

    theirs = hundred(implementations["diffusers, chunk_dim=1"][0])
    for name in ("ConditionalLayerNorm", "condition(LayerNorm)"):
        print(f"    {name:20s}", ratios(theirs, hundred(implementations[name][0]), rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of PEFT, about names of adapters
    try:
        import diffusers  # noqa: F401
        import peft  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as missing:
        print(f"needs the extra 'examples': {missing}")
        return
    ia3(rounds)
    adaptive_norm(rounds)


if __name__ == "__main__":
    main()
