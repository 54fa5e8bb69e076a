"""Sources of batches: pure functions of the batch index, prefetched by worker processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from featurewise.common.processes import HINT, exit_if_unguarded, is_dead_loader
from featurewise.training.errors import WorkerError

BatchT_co = TypeVar("BatchT_co", covariant=True)


@runtime_checkable
class Source(Protocol[BatchT_co]):
    """Batches by index.

    `batch(i)` must depend only on `i` and on the attributes of the source, such as its seed: not
    on counters, not on global random generators. Then the batches are the same for any number of
    workers, and the step is all that is needed to resume. In step s of a run with n processes,
    process r trains on batch ``s * n + r``.

    On platforms that spawn worker processes instead of forking them (Windows, macOS), a source
    must be picklable.
    """

    def batch(self, index: int, /) -> BatchT_co:
        """The batch of this index: a tensor, or dicts, tuples or dataclasses of tensors."""


class _Indexed(Dataset[Any]):
    def __init__(self, source: Source[Any]) -> None:
        self._source = source

    def __getitem__(self, index: int) -> Any:
        return self._source.batch(index)


@contextmanager
def prefetched(source: Source[BatchT_co], indices: range, workers: int) -> Iterator[Iterator[Any]]:
    """An iterator over ``source.batch(i) for i in indices``, in this order.

    Args:
        source: called in the worker processes, or in this process if there are none.
        indices: of the batches.
        workers: number of processes, each of which prefetches two batches; 0 for none.

    Raises:
        WorkerError: a worker died; raised within seconds.
    """
    loader: DataLoader[Any] = DataLoader(
        _Indexed(source),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_signals,
        # By default a loader uses the global generator when it starts. A resumed run starts a
        # second loader and would continue with other random numbers.
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )
    if workers:
        exit_if_unguarded()
    with _worker_errors():
        batches = iter(loader)
        try:
            yield _received(batches) if workers else batches
        finally:
            # The destructor does the same, but a traceback may keep the iterator alive, and a dead
            # worker would then raise again at an arbitrary later time.
            getattr(batches, "_shutdown_workers", lambda: None)()


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    # Ctrl-C and SIGTERM reach the whole process group, but the parent first finishes its step and
    # then stops its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Converts the error by which torch reports a dead worker; a signal raises it at any line."""
    try:
        yield
    except RuntimeError as error:
        if not is_dead_loader(error):
            raise
        raise _dead(error) from error


def _received(batches: Iterator[BatchT_co]) -> Iterator[BatchT_co]:
    """Converts the error raised when a worker dies while it transfers a batch."""
    try:
        yield from batches
    except (OSError, EOFError) as error:
        if not is_dead_loader(error):
            raise
        raise _dead(error) from error


def _dead(error: Exception) -> WorkerError:
    return WorkerError(
        f"a data-loading process died ({error}). The usual cause is lack of memory: use fewer "
        "workers or smaller batches, then resume; with workers=0 an error in the source itself "
        f"shows its traceback. {HINT}"
    )
