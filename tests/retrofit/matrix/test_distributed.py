"""Results of the other processes (``processes.py``), cell by cell."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from filelock import FileLock

from .cells import Pair, capability, close
from .networks import NETWORKS, Network, skip_lstm_in_bfloat16
from .processes import WORLD, work

Results = tuple[Mapping[str, object], ...]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Results:
    """One run of the two processes, whatever the number of workers of pytest."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "processes"
    with FileLock(f"{folder}.lock"):
        if not (folder / f"{WORLD - 1}.json").exists():
            folder.mkdir(exist_ok=True)
            start(folder)
    return tuple(json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD))


def start(folder: Path) -> None:
    root = str(Path(__file__).parents[3])
    if root not in sys.path:
        sys.path.insert(0, root)
    here = [network for network in NETWORKS if network.here]
    parcels = []
    for network in here:
        torch.manual_seed(0)
        pair = Pair(network)
        parcels.append((network.name, pair.net, *pair.draw()))
    names = [network.name for network in here]
    torch.multiprocessing.spawn(work, (str(folder), names, parcels), nprocs=WORLD)


def assert_passed(results: Results, capability: str, network: Network) -> None:
    network.ready()
    for rank, found in enumerate(results):
        said = found[f"{capability}|{network.name}"]
        if said == "unable":
            pytest.skip(network.cannot[capability])
        assert said == "pass", f"process {rank}: {said}"


@capability("another process")
def test_another_process(network: Network, pair: Pair, results: Results) -> None:
    inputs, z = pair.draw()
    for found in results:
        answer = torch.tensor(found[f"another process|{network.name}"])
        close(answer, pair.hand(inputs, z).detach().flatten())


@capability("DDP")
def test_ddp(network: Network, results: Results) -> None:
    assert_passed(results, "DDP", network)


@capability("DDP, mixed precision")
def test_ddp_mixed(network: Network, results: Results) -> None:
    skip_lstm_in_bfloat16(network)
    assert_passed(results, "DDP, mixed precision", network)


@capability("FSDP2")
def test_fsdp(network: Network, results: Results) -> None:
    assert_passed(results, "FSDP2", network)


@capability("FSDP2, mixed precision")
def test_fsdp_mixed(network: Network, results: Results) -> None:
    assert_passed(results, "FSDP2, mixed precision", network)


@capability("FSDP2, checkpointing")
def test_fsdp_checkpointed(network: Network, results: Results) -> None:
    assert_passed(results, "FSDP2, checkpointing", network)
