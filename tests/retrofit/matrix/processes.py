"""What runs in other processes: DDP, FSDP2, and a conditioned network that was sent there.

Two processes over gloo serve every network, since starting them is what costs. Each process takes
one half of a batch; the truth is computed by hand in each, for both halves.
"""

from __future__ import annotations

import datetime
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from featurewise.retrofit import Conditioned

from .cells import BATCH, Pair, checkpointed, close, close_grads, near_grads
from .networks import BY_NAME, Inputs, Network

WORLD = 2
Parcel = tuple[str, Conditioned, Inputs, Tensor]  # network, conditioned, inputs, conditions
Grads = dict[str, Tensor | None]


def work(rank: int, folder: str, names: list[str], parcels: list[Parcel]) -> None:
    """Run every check on every network; one file of results per process."""
    torch.set_num_threads(1)
    results = {f"another process|{name}": opened(*rest, name) for name, *rest in parcels}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(minutes=3),
    )
    for name in names:
        for capability, check in CHECKS.items():
            results[f"{capability}|{name}"] = said(capability, check, BY_NAME[name], rank)
    dist.destroy_process_group()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(results))


def said(
    capability: str, check: Callable[[Network, int], None], network: Network, rank: int
) -> str:
    """ "pass", what went wrong, or "unable" where the network alone is declared unable, and is."""
    torch.manual_seed(0)
    try:
        if capability in network.cannot:
            try:
                unconditioned(network, rank)
            except RuntimeError:
                return "unable"
            return "declared unable, but the network alone runs"
        check(network, rank)
    except Exception:
        return traceback.format_exc()
    return "pass"


def opened(net: Conditioned, inputs: Inputs, z: Tensor, name: str) -> list[float]:
    """The answer of a network that came from another process."""
    with torch.no_grad():
        answer = BY_NAME[name].tensor(net(**inputs, condition=z))
    return list(answer.double().flatten().tolist())


def half(network: Network, inputs: Inputs, z: Tensor, rank: int) -> tuple[Inputs, Tensor]:
    size = BATCH // WORLD
    mine = {
        name: value.narrow(network.batch_axis, rank * size, size) for name, value in inputs.items()
    }
    return mine, z[rank * size : (rank + 1) * size]


def truth(pair: Pair, inputs: Inputs, z: Tensor) -> Grads:
    """Mean over both halves of the gradients by hand; each half is rounded by itself."""
    halves = []
    for rank in range(WORLD):
        mine, zs = half(pair.network, inputs, z, rank)
        pair.hand(mine, zs).float().square().sum().backward()
        halves.append(pair.hand_grads())
    first, second = halves
    return {
        name: None if value is None else (value.float() + second[name].float()) / WORLD
        for name, value in first.items()
    }


def step(pair: Pair, net: nn.Module, inputs: Inputs, z: Tensor, rank: int) -> tuple[Tensor, Grads]:
    """Output on this process's half, and gradients of the whole."""
    mine, zs = half(pair.network, inputs, z, rank)
    y = pair.network.tensor(net(**mine, condition=zs))
    y.float().square().sum().backward()
    found = pair.grads()
    whole = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in found.items()
    }
    return y, whole


def ddp(network: Network, rank: int) -> None:
    pair = Pair(network)
    net = DistributedDataParallel(pair.net)
    for _ in range(2):
        inputs, z = pair.draw()
        y, found = step(pair, net, inputs, z, rank)
        close(y, pair.hand(*half(network, inputs, z, rank)))
        close_grads(found, truth(pair, inputs, z))


def ddp_mixed(network: Network, rank: int) -> None:
    pair = Pair(network)
    net = DistributedDataParallel(pair.net)
    inputs, z = pair.draw()
    with torch.autocast("cpu", torch.bfloat16):
        y, found = step(pair, net, inputs, z, rank)
        expected = pair.hand(*half(network, inputs, z, rank))
        grads = truth(pair, inputs, z)
    if y.dtype != expected.dtype:
        raise AssertionError(f"{y.dtype}, expected {expected.dtype}")
    close(y.float(), expected.float(), 5e-2)
    near_grads(found, grads, 0.05)


def shard(pair: Pair, **options: Any) -> None:
    mesh = init_device_mesh("cpu", (WORLD,))
    network = pair.network
    for name in network.blocks if network.shards is None else network.shards:
        fully_shard(pair.net.backbone.get_submodule(name), mesh=mesh, **options)
    fully_shard(pair.net.generator, mesh=mesh, **options)
    fully_shard(pair.net, mesh=mesh, **options)


def fsdp(network: Network, rank: int) -> None:
    pair = Pair(network)
    shard(pair)
    for _ in range(2):
        inputs, z = pair.draw()
        y, found = step(pair, pair.net, inputs, z, rank)
        close(y, pair.hand(*half(network, inputs, z, rank)))
        close_grads(found, truth(pair, inputs, z))


HALF = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def unconditioned(network: Network, rank: int) -> None:
    """The network alone, sharded, in mixed precision."""
    net = network.ready()
    fully_shard(net, mesh=init_device_mesh("cpu", (WORLD,)), mp_policy=HALF)
    net(**network.inputs(BATCH))


def fsdp_mixed(network: Network, rank: int) -> None:
    """Parameters and inputs in bfloat16, sums of gradients in float32."""
    pair = Pair(network)
    shard(pair, mp_policy=HALF)
    inputs, z = pair.draw()
    y, found = step(pair, pair.net, inputs, z, rank)
    for module in (pair.plain, pair.head):
        for p in module.parameters():
            p.data = p.data.bfloat16()
    inputs = {n: v.bfloat16() if v.is_floating_point() else v for n, v in inputs.items()}
    expected = pair.hand(*half(network, inputs, z.bfloat16(), rank))
    if y.dtype != expected.dtype:
        raise AssertionError(f"{y.dtype}, expected {expected.dtype}")
    close(y.float(), expected.float(), 5e-2)
    near_grads(found, truth(pair, inputs, z.bfloat16()), 0.05)


def fsdp_checkpointed(network: Network, rank: int) -> None:
    pair = Pair(network)
    pair.train()
    checkpointed(pair.net.backbone, network)
    shard(pair)
    inputs, z = pair.draw()
    y, found = step(pair, pair.net, inputs, z, rank)
    close(y, pair.hand(*half(network, inputs, z, rank)))
    close_grads(found, truth(pair, inputs, z), 1e-3)


CHECKS: dict[str, Callable[[Network, int], None]] = {
    "DDP": ddp,
    "DDP, mixed precision": ddp_mixed,
    "FSDP2": fsdp,
    "FSDP2, mixed precision": fsdp_mixed,
    "FSDP2, checkpointing": fsdp_checkpointed,
}
