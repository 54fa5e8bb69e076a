"""One training run by several processes: started by `torchrun`, joined from its environment."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from featurewise.training.errors import ExperimentError
from featurewise.training.state import State, flatten, unflatten

_SETTLE = 0.2
"""Seconds that a group's threads are given to finish before it is ended."""


DEVICE = "FEATUREWISE_DEVICE"
"""Environment variable that chooses the device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""


def device() -> torch.device:
    """The device of this process: what `DEVICE` says, which is ``auto`` by default.

    ``auto`` is a GPU where there is one, else the CPU; a GPU without a number is the process's
    own under `torchrun`, else the first.

    Raises:
        ExperimentError: `DEVICE` is no device, or a GPU that is not there.
    """
    chosen = os.environ.get(DEVICE, "auto")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", chosen):
        raise ExperimentError(
            f"{chosen!r} is no device; there is auto, cpu, cuda, cuda:0, cuda:1, ..."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen == "cpu" or (chosen == "auto" and not count):
        return torch.device("cpu")
    _, _, number = chosen.partition(":")
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= count:
        raise ExperimentError(f"device {chosen}: torch sees {count} GPUs here; choose cpu, or auto")
    return torch.device("cuda", index)


def rank() -> int:
    """Number of this process under `torchrun`; 0 when it is alone."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True)
class Group:
    """The processes of one run.

    Attributes:
        rank: number of this process; 0 is the one that writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints, metrics and progress."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Each flag, true everywhere when it is true in one process."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.uint8, device=_transport())
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each value, averaged over the processes; all give the same names."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=_transport())
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def from_first(self, number: int) -> int:
        """The number that the first process gives."""
        if self.size == 1:
            return number
        message = torch.tensor(number, device=_transport())
        dist.broadcast(message, src=0)
        return int(message)

    def gather(self, state: State) -> list[dict[str, Any]]:
        """The states of all processes, in order of rank, in every process."""
        if self.size == 1:
            return [dict(state)]
        message = _pack(state)
        sizes = [torch.zeros((), dtype=torch.int64) for _ in range(self.size)]
        mine = torch.tensor(message.numel())
        sizes = _all_gather(sizes, mine)
        longest = int(max(sizes))
        padded = torch.nn.functional.pad(message, (0, longest - message.numel()))
        parcels = _all_gather([torch.empty_like(padded) for _ in sizes], padded)
        return [_unpack(parcel[: int(size)]) for parcel, size in zip(parcels, sizes, strict=True)]


@contextmanager
def joined() -> Iterator[Group]:
    """Joins the process group that `torchrun` announces, or one that exists, or none.

    A group begun here is ended here; one that existed before is left as it was.
    """
    begun = "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if begun:
        dist.init_process_group("nccl" if device().type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group()
    finally:
        if begun:
            # Gloo's threads still let go of the tensors of the last exchange, for which they need
            # the interpreter; ending the group waits for them without giving it up.
            time.sleep(_SETTLE)
            dist.destroy_process_group()


def _transport() -> torch.device:
    """Where tensors must be for the group's backend to carry them."""
    return device() if dist.get_backend() == "nccl" else torch.device("cpu")


def _all_gather(into: list[Tensor], tensor: Tensor) -> list[Tensor]:
    moved = [each.to(_transport()) for each in into]
    dist.all_gather(moved, tensor.to(_transport()))
    return [each.cpu() for each in moved]


def _pack(state: State) -> Tensor:
    """A state as bytes: 8 for the length of the JSON, the JSON, the tensors."""
    text, tensors = flatten(state)
    parts = (
        len(text.encode()).to_bytes(8, "little"),
        text.encode(),
        safetensors.torch.save(tensors),
    )
    return torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)


def _unpack(message: Tensor) -> dict[str, Any]:
    content = bytes(message.numpy())
    end = 8 + int.from_bytes(content[:8], "little")
    return unflatten(content[8:end].decode(), safetensors.torch.load(content[end:]))
