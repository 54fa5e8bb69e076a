"""Data-parallel training: several processes of one run, started by `torchrun`."""

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

_THREADS_FINISH = 0.2
"""Seconds to wait for the threads of a process group before it is destroyed."""


DEVICE = "FEATUREWISE_DEVICE"
"""Environment variable that chooses the device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""


def device() -> torch.device:
    """The device of this process, from the environment variable `DEVICE` (default: ``auto``).

    ``auto`` is a GPU if there is one, else the CPU. ``cuda`` without a number is the GPU of the
    local rank under `torchrun`, else the first GPU.

    Raises:
        ExperimentError: the variable names no device, or a GPU that does not exist.
    """
    chosen = os.environ.get(DEVICE, "auto")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", chosen):
        raise ExperimentError(
            f"{chosen!r} is not a device; choose auto, cpu, cuda, cuda:0, cuda:1, ..."
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen == "cpu" or (chosen == "auto" and not count):
        return torch.device("cpu")
    _, _, number = chosen.partition(":")
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= count:
        raise ExperimentError(f"device {chosen}: torch finds {count} GPUs; choose cpu or auto")
    return torch.device("cuda", index)


def rank() -> int:
    """Rank of this process under `torchrun`; 0 for a single process."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True)
class Group:
    """The process group of a run.

    Attributes:
        rank: of this process; rank 0 writes the files.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints, metrics and progress."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Logical or of each flag over all processes."""
        if self.size == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.uint8, device=_transport())
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return [bool(vote) for vote in votes.tolist()]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Mean of each value over all processes; all must pass the same names."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=_transport())
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def from_first(self, number: int) -> int:
        """The number that rank 0 passes, broadcast to all processes."""
        if self.size == 1:
            return number
        message = torch.tensor(number, device=_transport())
        dist.broadcast(message, src=0)
        return int(message)

    def gather(self, state: State) -> list[dict[str, Any]]:
        """The states of all processes in order of rank, returned in every process."""
        if self.size == 1:
            return [dict(state)]
        message = _pack(state)
        sizes = [torch.zeros((), dtype=torch.int64) for _ in range(self.size)]
        own_size = torch.tensor(message.numel())
        sizes = _all_gather(sizes, own_size)
        longest = int(max(sizes))
        padded = torch.nn.functional.pad(message, (0, longest - message.numel()))
        messages = _all_gather([torch.empty_like(padded) for _ in sizes], padded)
        return [_unpack(each[: int(size)]) for each, size in zip(messages, sizes, strict=True)]


@contextmanager
def joined() -> Iterator[Group]:
    """The process group of `torchrun`, or one that exists already, or a group of one process.

    A process group that is initialised here is destroyed on exit; an existing one is kept.
    """
    initialised = "WORLD_SIZE" in os.environ and not dist.is_initialized()
    if initialised:
        dist.init_process_group("nccl" if device().type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group()
    finally:
        if initialised:
            # Gloo's threads still release the tensors of the last collective, for which they need
            # the GIL; destroy_process_group waits for them while it holds the GIL.
            time.sleep(_THREADS_FINISH)
            dist.destroy_process_group()


def _transport() -> torch.device:
    """The device that tensors must be on for the backend of the group."""
    return device() if dist.get_backend() == "nccl" else torch.device("cpu")


def _all_gather(into: list[Tensor], tensor: Tensor) -> list[Tensor]:
    gathered = [each.to(_transport()) for each in into]
    dist.all_gather(gathered, tensor.to(_transport()))
    return [each.cpu() for each in gathered]


def _pack(state: State) -> Tensor:
    """A state as bytes: length of the JSON (8 bytes), JSON, tensors as safetensors."""
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
